//! `agent run`: serves until it is told to stop, and `agent sweep`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use mesh_coordinator::id::NodeId;
use mesh_ports::runtime::Runtime;
use mesh_telemetry::Tasks;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::assembly::{self, Containers};
use crate::checks;
use crate::config::Config;
use crate::home::Home;

/// A part of the agent ended by itself (sysexits.h, `EX_SOFTWARE`).
const EXIT_PART_ENDED: u8 = 70;
/// How long each phase of the shutdown may take.
const GRACE: Duration = Duration::from_secs(3);
/// How many rounds of gossip an announced restart gets to reach the others: two and a part, since the first has begun.
const ANNOUNCEMENT: f64 = 2.4;
/// How long a signal takes at most from the operating system to whoever listens.
const SIGNAL_ARRIVES: Duration = Duration::from_millis(5);

/// What ended the serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Asked,
    Restart,
    PartEnded,
}

/// Serves until it is told to stop; `file` is where the settings came from.
pub(crate) fn serve(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    // First of all, since nothing may be made in a directory that belongs to no mesh.
    Home::new(&config.data_dir).load_membership()?;
    checks::demand(config)?;
    raise_file_limit();
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let (end, mut signals) = runtime.block_on(live(config))?;
    // Blocking work that is under way may take long, and nothing of it must be waited for.
    runtime.shutdown_timeout(Duration::from_millis(500));
    let end = if end == End::Restart && signals.asked_meanwhile()? { End::Asked } else { end };
    match end {
        End::Asked => Ok(ExitCode::SUCCESS),
        End::PartEnded => Ok(ExitCode::from(EXIT_PART_ENDED)),
        // The file may be another by now: this is how an agent is upgraded in place. Whatever it was started with, the node is
        // a member now, so that `init` and `join` would refuse.
        End::Restart => {
            let mut next = std::process::Command::new(program);
            let failure = next.arg("--config").arg(file).arg("run").exec();
            Err(failure).context("cannot start this program again")
        }
    }
}

/// Every published connection takes two descriptors, and common soft limits are far below what the host allows.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}

async fn live(config: &Config) -> anyhow::Result<(End, Signals)> {
    let tasks = Tasks::new("agent");
    let (handle, directory) = match assembly::assemble(config, &tasks).await {
        Ok(assembled) => assembled,
        Err(error) => {
            tasks.stop(GRACE).await;
            return Err(error);
        }
    };
    // Does nothing where no service manager asked for it.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "the service manager does not know that the agent serves");
    }
    let mut signals = Signals::listen()?;
    let mut end = signals.end(&tasks).await;
    if end == End::Restart {
        let announce = async {
            handle.announce_restart().await;
            tokio::time::sleep(directory.gossip_interval().mul_f64(ANNOUNCEMENT)).await;
        };
        tokio::select! {
            () = announce => {}
            () = signals.asked() => end = End::Asked,
        }
    }
    info!("stopping; containers go on");
    tasks.stop(GRACE).await;
    Ok((end, signals))
}

/// The signals that end the serving. Their handlers stay installed, so what arrives while nobody listens would be lost: this lives
/// as long as the process may still become another one.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal, or for the end of a part that must not end.
    async fn end(&mut self, tasks: &Tasks) -> End {
        let Self { terminate, interrupt, hangup } = self;
        tokio::select! {
            _ = terminate.recv() => End::Asked,
            _ = interrupt.recv() => End::Asked,
            _ = hangup.recv() => End::Restart,
            () = tasks.stopping().cancelled() => {
                error!("a part of the agent ended by itself");
                End::PartEnded
            }
        }
    }

    /// Waits until somebody wants the agent to stop.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Whether somebody wanted the agent to stop since it was last waited for: whoever stops a service must not find it alive again.
    fn asked_meanwhile(&mut self) -> anyhow::Result<bool> {
        // The runtime that they came through is gone. Any other one brings in what has arrived since.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot look for signals")?;
        let asked = async { tokio::time::timeout(SIGNAL_ARRIVES, self.asked()).await };
        Ok(runtime.block_on(asked).is_ok())
    }
}

/// Removes all containers of this node, and what the agent made on the host.
pub(crate) fn sweep(config: &Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let tasks = Tasks::new("sweep");
        let home = Home::new(&config.data_dir);
        // An agent that runs would start everything again, or trip over what is half gone.
        let _store = mesh_store::hold(&home.store()).context("stop the agent first")?;
        let keys = home.load_key();
        let me = keys.map_or(NodeId::from_bytes([0; 10]), |keys| NodeId::of(&keys.public()));
        let network = assembly::open_bridge(config).await?;
        let containers = Containers::open(config, me, network.clone(), &tasks).await?;
        for found in containers.runtime.list().await {
            containers
                .runtime
                .remove(&found.id)
                .await
                .with_context(|| format!("cannot remove {}", found.id))?;
            info!(container = %found.id, "removed");
        }
        tasks.stop(GRACE).await;
        network.close().await.context("cannot remove the containers' network")
    })
}

#[cfg(test)]
mod tests {
    //! Whoever asks the agent to stop is heard, whatever it is doing.

    use nix::sys::signal::{Signal, raise};

    use super::Signals;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
    }

    #[test]
    fn who_asks_it_to_stop_while_it_restarts_is_heard() {
        let mut signals = runtime().block_on(async { Signals::listen() }).unwrap();
        assert!(!signals.asked_meanwhile().unwrap(), "nobody asked");
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            // As it is during the last steps: nobody listens, and there is no runtime.
            raise(signal).unwrap();
            assert!(signals.asked_meanwhile().unwrap(), "{signal}");
            // As it is while the tasks stop: there is a runtime, and nobody listens.
            let runtime = runtime();
            runtime.block_on(async { raise(signal) }).unwrap();
            drop(runtime);
            assert!(signals.asked_meanwhile().unwrap(), "{signal}");
        }
        raise(Signal::SIGHUP).unwrap();
        assert!(!signals.asked_meanwhile().unwrap(), "to restart once more changes nothing");
    }
}
