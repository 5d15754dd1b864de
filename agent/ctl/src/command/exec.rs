//! `agentctl exec`: a command in the container of a replica, wherever it runs.

use bytes::Bytes;
use mesh_coordinator::fact::Phase;
use mesh_coordinator::view::SlotView;
use mesh_ports::runtime::{Exec, ExecOutput, Output};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use crate::complete::{self, Kind};
use crate::failure::{Failure, Outcome};
use crate::mesh::{Mesh, Place};
use crate::target::{self, Target};
use crate::ui::Ui;

/// How much of standard input is read at once.
const PIECE_LEN: usize = 16 * 1024;

/// Run a command in the container of a replica; exits with its code.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl exec blog/db/0 -- psql -c 'select 1'")]
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
    let overview = mesh.overview().await?;
    let slot = target::slot(&overview, &args.slot)?;
    let place = running(slot).ok_or_else(|| {
        Failure::failed(format!("nothing runs in {} now", slot.name))
            .next(format!("agentctl why {}", slot.name))
    })?;
    let exec = Exec {
        args: args.command,
        environment: args.env.into_iter().collect(),
        user: args.user,
        working_dir: args.workdir,
    };
    let mut session = mesh.exec(&place, exec).await?;
    let mut input = std::pin::pin!(pass_input(session.stdin));
    let mut input_ended = false;
    loop {
        tokio::select! {
            () = &mut input, if !input_ended => input_ended = true,
            output = session.output.next() => match output {
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

/// The replica that serves the slot, or at least runs in it.
fn running(slot: &SlotView) -> Option<Place> {
    let holds = || slot.claims.iter().filter(|claim| claim.phase.holds());
    let best = holds().find(|claim| claim.phase == Phase::Ready).or_else(|| holds().next())?;
    Some(Place { node: best.node, slot: slot.slot.clone() })
}

/// Sends standard input until it ends or nobody takes it; then the command sees its end.
async fn pass_input(to: mpsc::Sender<Bytes>) {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE_LEN];
    while let Ok(length @ 1..) = stdin.read(&mut piece).await {
        let bytes = Bytes::copy_from_slice(piece.get(..length).unwrap_or_default());
        if to.send(bytes).await.is_err() {
            return;
        }
    }
}

/// A code that a process can end with; what does not fit is a failure.
fn code_of(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(255)
}
