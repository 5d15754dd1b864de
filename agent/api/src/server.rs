//! Answers peers, operators and nodes that join, on one port.
//!
//! A connection proves a key; what the key may do is asked of the directory at every call, and a key that lost its standing has
//! its connections closed ([`Handle::recheck`]). Everything has a bound: connections in all and from one address, the time until
//! a handshake is done, the length of a message, the time until an answer.

mod challenge;
mod connection;
mod events;
mod gate;
mod images;
mod joining;
mod leases;
mod listen;
mod operator;
mod order;
mod peer;
mod registry;
mod replica;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::id::{Incarnation, NodeId, PublicKey};
use mesh_coordinator::view::Overview;
use mesh_ports::clock::WallClock;
use mesh_ports::control::{Admission, Control};
use mesh_ports::directory::{Directory, RecordCodec};
use mesh_ports::peer::Event;
use mesh_ports::request::RequestCodec;
use mesh_ports::runtime::{Images, Runtime};
use mesh_proto::v1::join_server::JoinServer;
use mesh_proto::v1::operator_server::OperatorServer;
use mesh_proto::v1::peer_server::PeerServer;
use mesh_telemetry::{Refusals, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::rustls::{CommonState, ServerConfig};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Response, Status};
use tower::layer::layer_fn;
use tracing::warn;

use self::challenge::Challenges;
use self::connection::Connection;
use self::gate::Gate;
use self::listen::Listener;
use self::order::Orders;
use self::registry::Registry;
use self::watch::Watch;
use crate::client::PeerPool;
use crate::convert::MESSAGE_LEN_MAX;
use crate::dial::{CALLS_MAX, CONNECTION_WINDOW, STREAM_WINDOW};
use crate::status;

/// Connections that are through their handshake and wait to be served: served at once, so a few are enough.
const ACCEPTED: usize = 16;

/// The longest list of headers of a call; ours are a few hundred bytes.
const HEADERS_LEN_MAX: u32 = 16 << 10;

/// How often a connection with nothing to say is checked, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long calls in progress may go on after the agent was asked to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// Images that are received at the same time; more would only slow each other down on the same disk.
const IMPORTS: usize = 2;

/// The types behind the server.
pub trait Wiring: Send + Sync + 'static {
    /// The engine.
    type Control: Control;
    /// Containers.
    type Runtime: Runtime;
    /// Images on disk.
    type Images: Images;
    /// Redeems invitations.
    type Admission: Admission;
}

/// What the server asks.
pub struct Parts<W: Wiring> {
    /// The engine.
    pub control: Arc<W::Control>,
    /// Containers.
    pub runtime: Arc<W::Runtime>,
    /// Images on disk.
    pub images: Arc<W::Images>,
    /// Redeems invitations.
    pub admission: Arc<W::Admission>,
    /// Who is who.
    pub directory: Arc<dyn Directory>,
    /// Opens records.
    pub records: Arc<dyn RecordCodec>,
    /// Opens operators' signed requests.
    pub requests: Arc<dyn RequestCodec>,
    /// The connections to other agents.
    pub peers: PeerPool,
    /// Where peers' messages go; shared with the pool.
    pub events: mpsc::Sender<Event>,
    /// What time it is, for peers and operators who want to know.
    pub clock: Arc<dyn WallClock>,
    /// Which life of the agent the heartbeats speak of.
    pub incarnation: Arc<dyn Fn() -> Incarnation + Send + Sync>,
    /// Counts what is refused.
    pub refusals: Refusals,
}

/// How the server listens.
#[derive(Clone)]
pub struct Config {
    /// Where.
    pub listen: SocketAddr,
    /// Proves this node's key, and demands a key of the caller.
    pub tls: Arc<ServerConfig>,
    /// Which key the other end of a connection proved.
    pub peer_key: fn(&CommonState) -> Option<PublicKey>,
    /// This node.
    pub node: NodeId,
    /// The version of this agent.
    pub version: String,
    /// The pause between two heartbeats; 250 ms.
    pub beat_interval: Duration,
    /// The bounds.
    pub limits: Limits,
}

/// What callers may take up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_address: usize,
    /// Of those in all, open connections of keys that nobody knows, or that are not proved yet: strangers must not take the
    /// members' places.
    pub strangers: usize,
    /// How long a handshake may take, and how long the first bytes after it.
    pub handshake_timeout: Duration,
    /// How long a connection of a key that nobody knows may last; long enough to join.
    pub stranger_timeout: Duration,
    /// How long a call may take whose answer comes at once.
    pub call_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A mesh of 300 has four observers for each node and a connection each way where there are tunnels.
            connections: 2048,
            // Several agents and operators behind one address translator.
            connections_per_address: 256,
            strangers: 512,
            handshake_timeout: Duration::from_secs(5),
            stranger_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(15),
        }
    }
}

/// Why the server does not serve. *Nothing listens.*
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or is not this host's.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// No secret could be made.
    #[error("this host gives no random numbers")]
    Random(#[source] io::Error),
}

/// A server that serves.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    /// The way to its connections.
    pub handle: Handle,
}

/// The way to the open connections of a server.
#[derive(Clone)]
pub struct Handle {
    registry: Arc<Registry>,
    directory: Arc<dyn Directory>,
}

impl Handle {
    /// Closes all connections of a key.
    pub fn close_connections_of(&self, key: &PublicKey) {
        self.registry.close(|open, _standing| open == key);
    }

    /// Closes all connections of keys that may do less than when they were opened. To be called when the catalogue has changed.
    pub fn recheck(&self) {
        let directory = self.directory.as_ref();
        self.registry.close(|key, opened_as| gate::is_less(&directory.standing(key), opened_as));
    }

    /// How many connections are open.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.registry.len()
    }
}

/// What all services share.
pub(crate) struct Shared<W: Wiring> {
    parts: Parts<W>,
    node: NodeId,
    version: String,
    beat_interval: Duration,
    call_timeout: Duration,
    gate: Gate,
    orders: Orders,
    refusals: Refusals,
    imports: Semaphore,
    tasks: Tasks,
}

impl<W: Wiring> Shared<W> {
    /// The mesh as this node sees it.
    async fn overview(&self) -> Result<Overview, Status> {
        let view = self.soon(self.parts.control.overview()).await?;
        view.ok_or_else(|| Status::unavailable("this agent is stopping"))
    }

    /// An answer to an operator, with the time of the mesh beside it: the operator's own clock need not be right.
    fn timed<T>(&self, answer: T) -> Response<T> {
        let mut answer = Response::new(answer);
        status::tell_time(answer.metadata_mut(), self.parts.clock.mesh());
        answer
    }

    /// What was refused since the start of this agent, and how often.
    fn refused(&self) -> BTreeMap<String, u64> {
        let counts = self.refusals.counts().into_iter();
        counts.map(|(reason, count)| (reason.to_owned(), count)).collect()
    }

    /// What the engine answers in time: a caller never waits for one that hangs.
    pub(super) async fn soon<T>(&self, answer: impl Future<Output = T>) -> Result<T, Status> {
        let answer = timeout(self.call_timeout, answer).await;
        answer.map_err(|_elapsed| Status::deadline_exceeded("this agent takes too long to answer"))
    }
}

/// A service: the same for peers, operators and those who join, each with its own trait.
pub(crate) struct Service<W: Wiring>(Arc<Shared<W>>);

impl<W: Wiring> Clone for Service<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Serves until `tasks` stops: then no connection is accepted, calls in progress have a moment to end, and all is closed.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve<W: Wiring>(
    config: Config,
    parts: Parts<W>,
    tasks: &Tasks,
) -> Result<Bound, ServeError> {
    let challenges = Challenges::new().map_err(ServeError::Random)?;
    let bind = |source| ServeError::Bind { address: config.listen, source };
    let tcp = TcpListener::bind(config.listen).await.map_err(bind)?;
    let address = tcp.local_addr().map_err(bind)?;
    let refusals = parts.refusals.clone();
    let registry = Arc::new(Registry::new(&config.limits, refusals.clone()));
    let directory = Arc::clone(&parts.directory);
    let handle = Handle { registry: Arc::clone(&registry), directory: Arc::clone(&directory) };
    let (accepted, connections) = mpsc::channel(ACCEPTED);
    let listener = Listener::new(&config, Arc::clone(&registry), (directory, refusals), accepted);
    tasks.spawn_vital("accept", listener.run(tcp, tasks.clone()));
    let watch = Watch::new(parts.refusals.clone(), Arc::clone(&parts.directory));
    let orders = Orders::new(config.node, Arc::clone(&parts.requests), challenges);
    let service = service(config, parts, orders, tasks);
    let stopping = tasks.stopping().clone();
    tasks.spawn_to_end("serve", async move {
        let connections = ReceiverStream::new(connections);
        let incoming = tokio_stream::StreamExt::map(connections, Ok::<_, io::Error>);
        let drain = async {
            stopping.cancelled().await;
            tokio::time::sleep(DRAIN).await;
            registry.close(|_any, _standing| true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = answer(service, watch, incoming, stopping.cancelled()) => {
                if let Err(error) = served {
                    warn!(error = %mesh_telemetry::Chain(&error), "the server ended");
                    stopping.cancel();
                }
            }
            () = drain => {}
        }
    });
    Ok(Bound { address, handle })
}

fn service<W: Wiring>(
    config: Config,
    parts: Parts<W>,
    orders: Orders,
    tasks: &Tasks,
) -> Service<W> {
    let gate = Gate::new(Arc::clone(&parts.directory));
    Service(Arc::new(Shared {
        refusals: parts.refusals.clone(),
        parts,
        node: config.node,
        version: config.version,
        beat_interval: config.beat_interval,
        call_timeout: config.limits.call_timeout,
        gate,
        orders,
        imports: Semaphore::new(IMPORTS),
        tasks: tasks.clone(),
    }))
}

/// Answers on all connections that come in, until `stop`.
async fn answer<W: Wiring>(
    service: Service<W>,
    watch: Watch,
    incoming: impl Stream<Item = io::Result<Connection>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let router = Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .http2_max_header_list_size(HEADERS_LEN_MAX)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(layer_fn(move |service| watch.over(service)))
        .add_service(PeerServer::new(service.clone()).max_decoding_message_size(MESSAGE_LEN_MAX))
        .add_service(
            OperatorServer::new(service.clone()).max_decoding_message_size(MESSAGE_LEN_MAX),
        )
        .add_service(JoinServer::new(service).max_decoding_message_size(MESSAGE_LEN_MAX));
    router.serve_with_incoming_shutdown(incoming, stop).await
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl<W: Wiring> fmt::Debug for Parts<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, node, version, beat_interval, limits, tls: _, peer_key: _ } = self;
        f.debug_struct("Config")
            .field("listen", listen)
            .field("node", node)
            .field("version", version)
            .field("beat_interval", beat_interval)
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}
