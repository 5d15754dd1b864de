//! The thread that owns the bridge: it takes commands one after the other and follows them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_ports::network::AttachError;
use mesh_telemetry::Chain;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::Config;
use super::finding::Finding;
use super::state::{State, Wanted};
use super::step::StepError;

/// How often the rules are looked at: a reload of the host's firewall costs containers at most this long.
const REFRESH_EVERY: Duration = Duration::from_secs(30);

/// What is asked of the bridge. A reply that nobody waits for is dropped.
#[derive(Debug)]
pub(super) enum Command {
    Adopt { container: String, address: Ipv4Addr, reply: oneshot::Sender<()> },
    Attach { wanted: Wanted, reply: oneshot::Sender<Result<Ipv4Addr, AttachError>> },
    Close { reply: oneshot::Sender<Result<(), StepError>> },
    Detach { container: String, namespace: PathBuf, reply: oneshot::Sender<()> },
    Findings { reply: oneshot::Sender<Vec<Finding>> },
    Refresh { reply: oneshot::Sender<Result<(), StepError>> },
    Sweep { alive: Vec<String>, reply: oneshot::Sender<()> },
}

/// The whole life of the thread: until nobody has the bridge's remote control any more, or it was closed.
pub(super) fn live(
    config: Config,
    inbox: mpsc::Receiver<Command>,
    ready: oneshot::Sender<Result<(), StepError>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = StepError::refused("start a runtime for the bridge", error);
            answer(ready, Err(error));
            return;
        }
    };
    runtime.block_on(async {
        match State::open(config).await {
            Ok(state) => {
                if ready.send(Ok(())).is_ok() {
                    run(state, inbox).await;
                }
            }
            Err(error) => answer(ready, Err(error)),
        }
    });
}

async fn run(mut state: State, mut inbox: mpsc::Receiver<Command>) {
    let mut refresh = interval(REFRESH_EVERY);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.reset();
    loop {
        let command = tokio::select! {
            biased;
            command = inbox.recv() => command,
            _ = refresh.tick() => {
                if let Err(error) = state.mend().await {
                    warn!(error = %Chain(&error), "cannot refresh the bridge");
                }
                continue;
            }
        };
        let Some(command) = command else { return };
        if let Some(closed) = handle(&mut state, command).await {
            answer(closed, Ok(()));
            return;
        }
    }
}

/// Follows a command. Returns the reply to give when the bridge is closed, which ends the thread.
async fn handle(
    state: &mut State,
    command: Command,
) -> Option<oneshot::Sender<Result<(), StepError>>> {
    match command {
        Command::Adopt { container, address, reply } => {
            state.adopt(container, address);
            answer(reply, ());
        }
        Command::Attach { wanted, reply } => answer(reply, state.attach(wanted).await),
        Command::Close { reply } => match state.close().await {
            Ok(()) => return Some(reply),
            Err(error) => answer(reply, Err(error)),
        },
        Command::Detach { container, namespace, reply } => {
            state.detach(&container, Some(&namespace)).await;
            answer(reply, ());
        }
        Command::Findings { reply } => answer(reply, state.findings().await),
        Command::Refresh { reply } => answer(reply, state.mend().await),
        Command::Sweep { alive, reply } => {
            state.sweep(&alive).await;
            answer(reply, ());
        }
    }
    None
}

/// Replies to whoever asked. One who waits no longer needs no answer: what was asked is done all the same.
fn answer<R>(reply: oneshot::Sender<R>, value: R) {
    if reply.send(value).is_err() {
        debug!("nobody waits for the bridge's answer");
    }
}
