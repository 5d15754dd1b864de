//! `agent run`: serves until it is told to stop, and `agent sweep`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use mesh_coordinator::id::NodeId;
use mesh_ports::runtime::Runtime;
use mesh_telemetry::Tasks;
use tokio::signal::unix::{SignalKind, signal};
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

/// What ended the serving.
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
    let end = runtime.block_on(live(config))?;
    // Blocking work that is under way may take long, and nothing of it must be waited for.
    runtime.shutdown_timeout(Duration::from_millis(500));
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

async fn live(config: &Config) -> anyhow::Result<End> {
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
    let end = wait(&tasks).await?;
    if matches!(end, End::Restart) {
        handle.announce_restart().await;
        tokio::time::sleep(directory.gossip_interval().mul_f64(ANNOUNCEMENT)).await;
    }
    info!("stopping; containers go on");
    tasks.stop(GRACE).await;
    Ok(end)
}

/// Waits for a signal, or for the end of a part that must not end.
async fn wait(tasks: &Tasks) -> anyhow::Result<End> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let end = tokio::select! {
        _ = terminate.recv() => End::Asked,
        _ = interrupt.recv() => End::Asked,
        _ = hangup.recv() => End::Restart,
        () = tasks.stopping().cancelled() => {
            error!("a part of the agent ended by itself");
            End::PartEnded
        }
    };
    Ok(end)
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
