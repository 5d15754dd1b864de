//! What gossip is told at its start, and what it asks of the world.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::ChannelTransport;
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_ports::directory::{Directory, Sealer};
use mesh_ports::gossip::FactCodec;
use mesh_telemetry::Refusals;

/// The shortest gossip interval: below it the machine is busy with gossip alone.
pub const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// The longest gossip interval. Ten times this is the longest pause that still counts as a heartbeat's interval, on every node
/// and at every setting, so that a change of the interval does not make half of the mesh look dead to the other half.
pub const INTERVAL_MAX: Duration = Duration::from_secs(2);

/// The most nodes in a mesh. A digest lists every node and is sent whole; at about 2,000 it no longer fits a datagram, and
/// gossip does not slow down there but stops.
pub const NODES_MAX: usize = 1_500;

/// How gossip is to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// This life: above all former ones, and already synced to disk. See [`next_incarnation`](crate::next_incarnation).
    pub incarnation: Incarnation,
    /// Where to listen. Port 0 takes any free one.
    pub bind: SocketAddr,
    /// Where the other members reach this node. Port 0 stands for the port that [`Config::bind`] got.
    pub advertise: SocketAddr,
    /// Time between two rounds, from [`INTERVAL_MIN`] to [`INTERVAL_MAX`]; 500 ms is the default of a mesh of up to 100 nodes.
    pub interval: Duration,
    /// How long dead nodes and withdrawn facts are remembered; 15 minutes is the default. Longer makes digests grow with every
    /// restart in the mesh; a partition that lasts longer is healed by the address book.
    pub grace: Duration,
    /// How often members that are not alive are tried again; 10 s is the default.
    pub contact_interval: Duration,
    /// What carries the datagrams.
    pub medium: Medium,
}

/// What carries the datagrams.
#[derive(Debug, Clone)]
pub enum Medium {
    /// Sealed datagrams over UDP.
    Udp,
    /// Channels inside this process, for measuring many agents at once. Nothing is sealed.
    Memory(Memory),
}

/// A network inside this process. Clones are the same network.
#[derive(Clone, Default)]
pub struct Memory(pub(crate) ChannelTransport);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

/// Turns `host:port` into addresses; empty when it cannot. A static binary has no `getaddrinfo`, so the daemon brings this.
pub type Resolve =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Vec<SocketAddr>> + Send>> + Send + Sync>;

/// Makes and stores the incarnation of another life within this process. Called on a thread that may block.
pub type NextIncarnation = Arc<dyn Fn() -> std::io::Result<Incarnation> + Send + Sync>;

/// Remembers where members were, across restarts: without it two halves of a mesh that forgot each other stay apart.
pub trait AddressBook: Send + Sync + 'static {
    /// What was saved last; empty when nothing was or it cannot be read.
    fn load(&self) -> Vec<(NodeId, SocketAddr)>;
    /// Replaces what is remembered. Called on a thread that may block. A failure is the implementor's to report.
    fn save(&self, book: &[(NodeId, SocketAddr)]);
}

/// What gossip asks of the world.
#[derive(Clone)]
pub struct Ports {
    /// Who is a member, and with which key.
    pub directory: Arc<dyn Directory>,
    /// Seals datagrams.
    pub sealer: Arc<dyn Sealer>,
    /// Signs facts.
    pub facts: Arc<dyn FactCodec>,
    /// Remembers addresses.
    pub book: Arc<dyn AddressBook>,
    /// Gives the incarnation when gossip must begin a new life.
    pub next_incarnation: NextIncarnation,
    /// Looks names up.
    pub resolve: Resolve,
    /// Counts what is refused.
    pub refusals: Refusals,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Gossip did not start. Nothing runs, and no socket is open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The interval is out of bounds.
    #[error("a gossip interval is from {INTERVAL_MIN:?} to {INTERVAL_MAX:?}, not {0:?}")]
    Interval(Duration),
    /// The mesh is too big.
    #[error("a mesh has at most {NODES_MAX} nodes, this one has {0}")]
    Size(usize),
    /// The socket could not be opened.
    #[error("cannot listen for gossip on {address}/UDP")]
    Bind {
        /// Where it was tried.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// chitchat did not start.
    #[error("cannot start gossip: {reason}")]
    Spawn {
        /// What chitchat said, with all causes.
        reason: String,
    },
}

impl Config {
    /// Whether `interval` is one that the mesh may use.
    pub(crate) fn allows(interval: Duration) -> bool {
        (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval)
    }
}
