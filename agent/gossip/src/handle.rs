//! Starting gossip, and the remote control of what was started.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::Transport;
use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_ports::gossip::{Counters, Events, Gossip};
use mesh_telemetry::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::addresses::Addresses;
use crate::config::{Config, INTERVAL_MAX, INTERVAL_MIN, Medium, NODES_MAX, Ports, StartError};
use crate::diff::Diff;
use crate::keeper::{self, Command, Keeper, Road};
use crate::tally::Tally;
use crate::transport::{Link, Parties, Sealed};
use crate::watcher::{self, Source};

/// Facts on their way to the keeper: a whole host's claims at once.
const COMMANDS_LEN: usize = 1_024;

/// Events on their way to the engine. When it is full the watcher waits.
const EVENTS_LEN: usize = 1_024;

/// What the tasks of gossip share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) life: watch::Sender<Incarnation>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) tally: Arc<Tally>,
}

/// Gossip's remote control. Clones control the same gossip.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    address: SocketAddr,
}

/// The interval is out of bounds. The old one stays.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a gossip interval is from {INTERVAL_MIN:?} to {INTERVAL_MAX:?}, not {0:?}")]
pub struct IntervalError(pub Duration);

impl Handle {
    /// Changes the time between two rounds. Gossip begins a new life for it; facts and the knowledge of who is alive stay.
    ///
    /// # Errors
    /// When the interval is out of bounds.
    pub async fn set_interval(&self, interval: Duration) -> Result<(), IntervalError> {
        if !Config::allows(interval) {
            return Err(IntervalError(interval));
        }
        self.tell(Command::Interval(interval)).await;
        Ok(())
    }

    /// Follows the incarnation, which rises when gossip begins a new life. Whoever names this node's incarnation to others must
    /// follow too: peers take a lower one than gossip's for a message from the past.
    #[must_use]
    pub fn incarnations(&self) -> watch::Receiver<Incarnation> {
        self.shared.life.subscribe()
    }

    /// Where gossip listens.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The keeper is gone only while the whole group stops, and then nothing matters any more.
    async fn tell(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("gossip has stopped");
        }
    }
}

impl Gossip for Handle {
    async fn publish(&self, fact: Fact) {
        self.tell(Command::Publish(fact)).await;
    }

    async fn withdraw(&self, key: FactKey) {
        self.tell(Command::Withdraw(key)).await;
    }

    fn incarnation(&self) -> Incarnation {
        *self.shared.life.borrow()
    }

    fn counters(&self) -> Counters {
        self.shared.tally.read()
    }
}

/// Opens the socket, starts gossip and spawns its tasks in `tasks`; they end with the group.
///
/// # Errors
/// When the configuration is out of bounds or the socket cannot be opened. Nothing runs then.
pub async fn start(
    mut config: Config,
    ports: Ports,
    tasks: &Tasks,
) -> Result<(Handle, Events), StartError> {
    if !Config::allows(config.interval) {
        return Err(StartError::Interval(config.interval));
    }
    let n_nodes = ports.directory.peers().len().saturating_add(1);
    if n_nodes > NODES_MAX {
        return Err(StartError::Size(n_nodes));
    }
    let shared = Arc::new(Shared {
        node: config.node,
        life: watch::Sender::new(config.incarnation),
        addresses: Arc::default(),
        tally: Arc::default(),
    });
    let road = open_road(&mut config, &ports, &shared, tasks).await?;
    let address = config.bind;
    let saved = keeper::address::load(&ports, &shared.addresses).await;
    let (commands, inbox) = mpsc::channel(COMMANDS_LEN);
    let (recheck, contact_interval) = (config.interval.saturating_mul(2), config.contact_interval);
    let (sender, events) = mpsc::channel(EVENTS_LEN);
    let mut keeper = Keeper::new(config, ports.clone(), Arc::clone(&shared), road, sender.clone());
    let live = keeper.begin().await.map_err(|reason| StartError::Spawn { reason })?;
    let (lives, sources) = watch::channel(Source { live, settles: Instant::now() });
    let (directory, facts) = (Arc::clone(&ports.directory), Arc::clone(&ports.facts));
    let diff = Diff::new(shared.node, directory, facts, ports.refusals.clone());
    tasks.spawn_vital("gossip-keeper", keeper.run(inbox, lives));
    tasks.spawn_vital("gossip-watcher", watcher::run(diff, sources, sender, recheck));
    let book = keeper::address::keep(ports, Arc::clone(&shared), saved, contact_interval);
    tasks.spawn_vital("gossip-addresses", book);
    Ok((Handle { shared, commands, address }, events))
}

/// Opens what carries the datagrams, and fills in the port that was free.
async fn open_road(
    config: &mut Config,
    ports: &Ports,
    shared: &Shared,
    tasks: &Tasks,
) -> Result<Road, StartError> {
    let transport: Box<dyn Transport>;
    let mut link = None;
    match &config.medium {
        Medium::Memory(memory) => transport = Box::new(memory.0.clone()),
        Medium::Udp => {
            let parties = Parties {
                node: config.node,
                directory: Arc::clone(&ports.directory),
                sealer: Arc::clone(&ports.sealer),
                addresses: Arc::clone(&shared.addresses),
                tally: Arc::clone(&shared.tally),
                refusals: ports.refusals.clone(),
            };
            let address = config.bind;
            let opened = Link::open(address, parties).await;
            let bind = |source| StartError::Bind { address, source };
            let opened = Arc::new(opened.map_err(bind)?);
            config.bind = opened.udp.local_addr().map_err(bind)?;
            transport = Box::new(Sealed { link: Arc::clone(&opened), tasks: tasks.clone() });
            link = Some(opened);
        }
    }
    if config.advertise.port() == 0 {
        config.advertise.set_port(config.bind.port());
    }
    Ok(Road { transport, link })
}
