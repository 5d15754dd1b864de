//! Container interfaces on a bridge of this host, by netlink.
//!
//! [`Bridge`] is the remote control of one thread ([`worker`]) that owns everything: what is attached and which addresses are
//! taken ([`state`]), and the netlink sockets. The thread is made by [`Bridge::open`] and therefore stays in the network namespace of its
//! opener, whoever calls later; it may also block, which the workers of the asynchronous runtime must not. Operations run one
//! after the other and to their end, even when their caller has gone away, so nothing is ever half attached for lack of interest.
//!
//! The kernel keeps what is made here when the agent ends; small files in [`Config::state_dir`] say whose it is, so that the next
//! life of the agent finds it again ([`record`]). Address translation lives in a table of our own ([`firewall`]); where the
//! host's firewall drops what it does not know, our traffic is let through in its own chains ([`foreign`]). Both are looked at
//! again every half minute, since a reload of the host's firewall may have taken them away.

mod address;
mod finding;
mod firewall;
mod foreign;
mod host_port;
mod link;
mod namespace;
mod record;
mod state;
mod step;
mod sysctl;
#[cfg(test)]
mod tests;
mod worker;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use mesh_ports::network::{AttachError, ContainerNetwork, HostPort};
use mesh_telemetry::Chain;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

pub use self::finding::Finding;
pub use self::step::StepError;
use self::worker::Command;

/// Operations that wait for the bridge's thread. Each takes some ten milliseconds, so that this many wait about a second; a
/// caller beyond them waits for a place.
const INBOX_LEN: usize = 64;

/// The longest that a caller waits, its place in the queue included. Each step has a shorter limit of its own.
const OPERATION_LIMIT: Duration = Duration::from_secs(30);

/// What the bridge is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name of the bridge and of its table of rules, usually `mesh0`: 1 to 15 of `a`–`z`, `0`–`9`, `-` and `_`.
    pub name: String,
    /// The addresses of the host's containers, usually `10.210.0.0/16`; the first one is the bridge's own. The same on every
    /// host, since no container address leaves its host.
    pub range: Ipv4Net,
    /// Where the bridge notes what it attached. May be lost at a reboot, as what it describes is: somewhere below `/run`.
    pub state_dir: PathBuf,
}

/// Why there is no bridge.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configured name cannot be an interface's. *Nothing was made.*
    #[error("{0:?} cannot name a bridge: 1 to 15 of a to z, 0 to 9, - and _")]
    Name(String),
    /// The configured range is too small for a bridge and a container. *Nothing was made.*
    #[error("{0} has no room for containers: use a prefix of at most 30 bits")]
    Range(Ipv4Net),
    /// The kernel refused something. *The bridge may exist; opening again continues.*
    #[error("cannot open the bridge {bridge}")]
    Step {
        /// The bridge's name.
        bridge: String,
        /// What was refused.
        #[source]
        source: StepError,
    },
}

/// The containers' network on this host. Cheap to clone; clones are the same bridge. Dropping it leaves all that it made.
#[derive(Debug, Clone)]
pub struct Bridge {
    name: String,
    commands: mpsc::Sender<Command>,
}

impl Bridge {
    /// Makes the bridge, or finds that of an earlier life, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// When the configuration makes no sense, or the kernel refuses (most often for lack of `CAP_NET_ADMIN`).
    pub async fn open(mut config: Config) -> Result<Self, OpenError> {
        check(&config)?;
        config.range = config.range.trunc();
        let name = config.name.clone();
        let (commands, inbox) = mpsc::channel(INBOX_LEN);
        let (ready, opened) = oneshot::channel();
        let failed = |source| OpenError::Step { bridge: name.clone(), source };
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || worker::live(config, inbox, ready))
            .map_err(|error| failed(StepError::refused("start the bridge's thread", error)))?;
        match timeout(OPERATION_LIMIT, opened).await {
            Ok(Ok(Ok(()))) => Ok(Self { name, commands }),
            Ok(Ok(Err(source))) => Err(failed(source)),
            Ok(Err(_)) | Err(_) => Err(failed(StepError::late("open the bridge"))),
        }
    }

    /// What an operator should know about this host's network; empty when all is well.
    pub async fn findings(&self) -> Vec<Finding> {
        self.ask("look at the host's network", |reply| Command::Findings { reply })
            .await
            .unwrap_or_else(|error| vec![Finding::Broken { reason: Chain(&error).to_string() }])
    }

    /// Puts back rules that somebody removed. Happens by itself every half minute; this is for who cannot wait.
    ///
    /// # Errors
    ///
    /// When the kernel refuses. *Nothing changed then, or only one of the two: our own table, or our rules in others' chains.*
    pub async fn refresh(&self) -> Result<(), StepError> {
        self.ask("refresh the rules", |reply| Command::Refresh { reply }).await?
    }

    /// Removes all that the bridge made: namespaces, interfaces, rules, records and the bridge itself. Forwarding stays on,
    /// since others may have come to rely on it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses. *Much may be removed already; closing again continues.*
    pub async fn close(&self) -> Result<(), StepError> {
        self.ask("close the bridge", |reply| Command::Close { reply }).await?
    }

    async fn ask<R>(
        &self,
        attempt: &'static str,
        command: impl FnOnce(oneshot::Sender<R>) -> Command,
    ) -> Result<R, StepError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(OPERATION_LIMIT, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(StepError::Ended { attempt: attempt.to_owned() }),
            Err(_elapsed) => Err(StepError::late(attempt)),
        }
    }

    async fn tell(
        &self,
        attempt: &'static str,
        command: impl FnOnce(oneshot::Sender<()>) -> Command,
    ) {
        if let Err(error) = self.ask(attempt, command).await {
            warn!(error = %Chain(&error), "the bridge does not follow");
        }
    }
}

impl ContainerNetwork for Bridge {
    async fn attach(
        &self,
        container: &str,
        namespace: &Path,
        ports: &[HostPort],
    ) -> Result<Ipv4Addr, AttachError> {
        let wanted = state::Wanted {
            container: container.to_owned(),
            namespace: namespace.to_owned(),
            ports: ports.to_vec(),
        };
        let asked = self.ask("attach a container", |reply| Command::Attach { wanted, reply }).await;
        asked.map_err(|source| AttachError::Bridge {
            bridge: self.name.clone(),
            source: source.into(),
        })?
    }

    async fn detach(&self, container: &str, namespace: &Path) {
        let (container, namespace) = (container.to_owned(), namespace.to_owned());
        let command = |reply| Command::Detach { container, namespace, reply };
        self.tell("detach a container", command).await;
    }

    async fn adopt(&self, container: &str, address: Ipv4Addr) {
        let container = container.to_owned();
        let command = |reply| Command::Adopt { container, address, reply };
        self.tell("adopt a container", command).await;
    }

    async fn sweep(&self, alive: &[String]) {
        let alive = alive.to_vec();
        self.tell("sweep the bridge", |reply| Command::Sweep { alive, reply }).await;
    }
}

fn check(config: &Config) -> Result<(), OpenError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let name = &config.name;
    if name.is_empty() || name.len() > link::NAME_LEN_MAX || !name.chars().all(allowed) {
        return Err(OpenError::Name(name.clone()));
    }
    if config.range.prefix_len() > 30 {
        return Err(OpenError::Range(config.range));
    }
    Ok(())
}
