//! `agentctl exec`: a command in the container of a replica, wherever it runs.

use std::io::{self, IsTerminal as _};

use bytes::Bytes;
use mesh_coordinator::fact::Phase;
use mesh_coordinator::view::SlotView;
use mesh_ports::runtime::{Exec, ExecInput, ExecOutput, Output};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use crate::complete::{self, Kind};
use crate::failure::{Failure, Outcome};
use crate::mesh::{Mesh, Place, Session};
use crate::target::{self, Target};
use crate::terminal::{self, Raw};
use crate::ui::Ui;

/// How much of standard input is read at once.
const PIECE_LEN: usize = 16 * 1024;

/// Run a command in the container of a replica; exits with its code.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  agentctl exec blog/db/0 -- psql -c 'select 1'
  agentctl exec -it blog/db -- sh

With -t every key goes to the command, Ctrl-C too; it ends when the command does, or when the connection is lost.")]
pub(crate) struct Args {
    /// The replica, as app/service/index; less is enough when there is only one.
    #[arg(value_name = "SLOT", add = complete::of(Kind::Slot))]
    slot: Target,
    /// Who runs it, as USER or USER:GROUP; the container's user if not given.
    #[arg(short, long)]
    user: Option<String>,
    /// Where it starts; the container's working directory if not given.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// More environment variables.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// With a terminal, as a shell or an editor wants it.
    #[arg(short, long)]
    tty: bool,
    /// Standard input is passed on with or without this; it is here for habits.
    #[arg(short, long)]
    interactive: bool,
    /// The command and its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// Runs it: passes standard input on, prints what comes out, and ends with its code.
pub(crate) async fn run<M: Mesh>(args: Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let Args { slot, user, workdir, env, tty, interactive: _, command } = args;
    if tty && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "-t needs a terminal on standard input, and here is none",
            "leave out -t",
        ));
    }
    let overview = mesh.overview().await?;
    let slot = target::slot(&overview, &slot)?;
    let place = running(slot).ok_or_else(|| {
        Failure::failed(format!("nothing runs in {} now", slot.name))
            .next(format!("agentctl why {}", slot.name))
    })?;
    let mut exec = Exec {
        args: command,
        environment: env.into_iter().collect(),
        user,
        working_dir: workdir,
        terminal: tty.then(terminal::size),
    };
    if let (true, Ok(kind)) = (tty, std::env::var("TERM")) {
        exec.environment.entry("TERM".to_owned()).or_insert(kind);
    }
    let session = mesh.exec(&place, exec).await?;
    // Left before anything is said about a failure.
    let _raw = tty.then(Raw::enter).transpose()?;
    let signals = tty.then(Signals::new).transpose()?;
    talk(session, signals, ui).await
}

async fn talk(
    session: Session,
    mut signals: Option<Signals>,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let Session { input: to, mut output } = session;
    let resizes = to.downgrade();
    let mut input = std::pin::pin!(pass_input(to));
    let mut input_ended = false;
    loop {
        tokio::select! {
            () = &mut input, if !input_ended => input_ended = true,
            asked = Signals::next(&mut signals) => match asked {
                Asked::Resize => resize(&resizes),
                Asked::End => {
                    return Err(Failure::failed("ended by a signal; the command is killed"));
                }
            },
            piece = output.next() => match piece {
                Some(Ok(ExecOutput::Data(Output::Stdout, bytes))) => ui.pass_out(&bytes)?,
                Some(Ok(ExecOutput::Data(Output::Stderr, bytes))) => ui.pass_err(&bytes)?,
                Some(Ok(ExecOutput::Exited(code))) => return Ok(Outcome::Command(code_of(code))),
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(Failure::failed(
                        "the connection ended before the command did: whether it still runs is unknown",
                    ));
                }
            },
        }
    }
}

/// Says how large the terminal is now, as long as anybody wants to know.
fn resize(to: &mpsc::WeakSender<ExecInput>) {
    if let Some(to) = to.upgrade() {
        // A size that does not get through is followed by another one, or by the end.
        let (Ok(()) | Err(_)) = to.try_send(ExecInput::Resize(terminal::size()));
    }
}

/// What happens to a terminal while a command has it.
struct Signals {
    resized: Signal,
    terminated: Signal,
    hung_up: Signal,
}

/// What a signal asks for.
enum Asked {
    /// The terminal has another size.
    Resize,
    /// This process is to end; the terminal has to be put in order first.
    End,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            resized: signal(SignalKind::window_change())?,
            terminated: signal(SignalKind::terminate())?,
            hung_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one; none ever comes without a terminal.
    async fn next(signals: &mut Option<Self>) -> Asked {
        let Some(Self { resized, terminated, hung_up }) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = resized.recv() => Asked::Resize,
            _ = terminated.recv() => Asked::End,
            _ = hung_up.recv() => Asked::End,
        }
    }
}

/// The replica that serves the slot, or at least runs in it.
fn running(slot: &SlotView) -> Option<Place> {
    let holds = || slot.claims.iter().filter(|claim| claim.phase.holds());
    let best = holds().find(|claim| claim.phase == Phase::Ready).or_else(|| holds().next())?;
    Some(Place { node: best.node, slot: slot.slot.clone() })
}

/// Sends standard input until it ends or nobody takes it; then the command sees its end.
async fn pass_input(to: mpsc::Sender<ExecInput>) {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE_LEN];
    while let Ok(length @ 1..) = stdin.read(&mut piece).await {
        let bytes = Bytes::copy_from_slice(piece.get(..length).unwrap_or_default());
        if to.send(ExecInput::Data(bytes)).await.is_err() {
            return;
        }
    }
}

/// A code that a process can end with; what does not fit is a failure.
fn code_of(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(255)
}
