//! The connections of this agent to the others.
//!
//! There are up to two to each peer: one for messages and heartbeats, and one for calls. What is called may be long (tunnels,
//! blobs, logs), and a heartbeat that waits behind megabytes on a slow line would be taken for silence.
//!
//! One task owns each connection ([`link`](super::link)); all else is a handle. A connection is made when there is a reason (the
//! peer is watched, a message waits, somebody wants to call) and given up when there has been none for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_coordinator::id::{NodeId, PublicKey};
use mesh_coordinator::message::Message;
use mesh_ports::directory::{Directory, RecordCodec};
use mesh_ports::peer::{Event, Peers};
use mesh_proto::v1::peer_client::PeerClient;
use mesh_telemetry::{Refusals, Tasks};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;
use tonic::transport::Channel;
use tracing::debug;

use super::link::{self, Link};
use crate::convert::MESSAGE_LEN_MAX;
use crate::dial::Names;

/// Calls that wait for a connection to one peer: each is somebody's request, and more at once than this is a fault.
const CALLS: usize = 64;

/// How the connections behave.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How long making a connection may take; 500 ms.
    pub connect_timeout: Duration,
    /// Messages that wait for one peer at most; the ones that come when it is full are dropped.
    pub queue_len: usize,
    /// A message that waited longer is dropped: its sender asks again when it still matters.
    pub message_age_max: Duration,
    /// A watched peer that says nothing for so long is connected anew: several heartbeats.
    pub silence: Duration,
    /// The first pause before connecting again; doubles up to one of the next two.
    pub backoff_min: Duration,
    /// The longest pause before connecting again to a peer that is not watched.
    pub backoff_max: Duration,
    /// The same for a peer that is watched: it must be heard again well within the grace of M3.
    pub backoff_watched_max: Duration,
    /// A connection without any use for so long is closed.
    pub idle: Duration,
}

impl PoolConfig {
    /// The values that the heartbeat interval asks for.
    #[must_use]
    pub fn for_heartbeat(interval: Duration) -> Self {
        Self {
            connect_timeout: Duration::from_millis(500),
            queue_len: 256,
            message_age_max: Duration::from_secs(5),
            silence: interval.saturating_mul(8),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            backoff_watched_max: interval,
            idle: Duration::from_secs(60),
        }
    }
}

/// Makes the TLS configuration that accepts only the agent with this key.
pub type TlsFor = Arc<dyn Fn(&PublicKey) -> Arc<ClientConfig> + Send + Sync>;

/// What the connections ask.
#[derive(Clone)]
pub struct PoolPorts {
    /// Who is who.
    pub directory: Arc<dyn Directory>,
    /// Opens records.
    pub records: Arc<dyn RecordCodec>,
    /// Makes the settings for one peer's key.
    pub tls_for: TlsFor,
    /// Counts peers that are refused.
    pub refusals: Refusals,
}

impl fmt::Debug for PoolPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolPorts").finish_non_exhaustive()
    }
}

/// Why a peer could not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node} does not answer: {reason}")]
pub(crate) struct CallError {
    pub(crate) node: NodeId,
    pub(crate) reason: String,
}

/// A message and since when it waits.
pub(super) type Queued = (Instant, Message);
/// Where the answer to somebody who wants to call goes.
pub(super) type Caller = oneshot::Sender<Result<Channel, String>>;

/// The connections of this agent to the others. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct PeerPool {
    inner: Arc<Inner>,
}

struct Inner {
    config: PoolConfig,
    ports: PoolPorts,
    names: Arc<Names>,
    events: mpsc::Sender<Event>,
    tasks: Tasks,
    handles: Mutex<BTreeMap<(NodeId, Use), Handle>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Calls, which may be long.
    Calls,
    /// Messages and heartbeats, which are short and must not wait.
    Messages,
}

/// The way to the task of one connection; the task ends when it is dropped.
struct Handle {
    inbox: mpsc::Sender<Queued>,
    calls: mpsc::Sender<Caller>,
    watched: watch::Sender<bool>,
}

impl PeerPool {
    /// No connections yet. What they see goes to `events`, which the server shares.
    #[must_use]
    pub fn new(
        config: PoolConfig,
        ports: PoolPorts,
        events: mpsc::Sender<Event>,
        tasks: Tasks,
    ) -> Self {
        let handles = Mutex::new(BTreeMap::new());
        Self {
            inner: Arc::new(Inner { config, ports, names: Arc::default(), events, tasks, handles }),
        }
    }

    /// Closes the connections to nodes that are no members any more; to be called when the directory changed.
    pub fn recheck(&self) {
        let mut handles = self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|(node, _), _| self.inner.ports.directory.peer(*node).is_some());
    }

    /// Who is who.
    pub(crate) fn directory(&self) -> &dyn Directory {
        self.inner.ports.directory.as_ref()
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// A client for calls to `node`, connected if it was not.
    pub(crate) async fn peer(&self, node: NodeId) -> Result<PeerClient<Channel>, CallError> {
        let (caller, answer) = oneshot::channel();
        let error = |reason: &str| CallError { node, reason: reason.to_owned() };
        self.with(node, Use::Calls, |handle| handle.calls.try_send(caller))
            .map_err(|_full_or_closed| error("too many calls wait for it"))?;
        // The names of a peer with several addresses take a share of the time limit each.
        let limit = self.inner.config.connect_timeout.saturating_mul(3);
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Ok(channel))) => {
                Ok(PeerClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX))
            }
            Ok(Ok(Err(reason))) => Err(error(&reason)),
            Ok(Err(_dropped)) => Err(error("this agent is stopping")),
            Err(_elapsed) => Err(error("no connection in time")),
        }
    }

    /// Does something with the handle of a connection, whose task is started if there is none.
    fn with<T>(&self, node: NodeId, purpose: Use, act: impl FnOnce(&Handle) -> T) -> T {
        let mut handles = self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner);
        act(handles.entry((node, purpose)).or_insert_with(|| self.start(node)))
    }

    fn start(&self, node: NodeId) -> Handle {
        let inner = &self.inner;
        let (inbox, queue) = mpsc::channel(inner.config.queue_len);
        let (calls, callers) = mpsc::channel(CALLS);
        let (watched, is_watched) = watch::channel(false);
        let link = Link {
            node,
            config: inner.config.clone(),
            directory: Arc::clone(&inner.ports.directory),
            names: Arc::clone(&inner.names),
            tls_for: Arc::clone(&inner.ports.tls_for),
            records: Arc::clone(&inner.ports.records),
            events: inner.events.clone(),
            refusals: inner.ports.refusals.clone(),
            good: None,
        };
        let needs = link::Needs::new(queue, callers, is_watched);
        inner.tasks.spawn("peer", link.run(needs));
        Handle { inbox, calls, watched }
    }
}

impl Peers for PeerPool {
    fn send(&self, to: NodeId, message: Message) {
        let queued = (Instant::now(), message);
        if !self.with(to, Use::Messages, |handle| handle.inbox.try_send(queued).is_ok()) {
            debug!(peer = %to, "a message was dropped");
        }
    }

    fn watch(&self, nodes: BTreeSet<NodeId>) {
        for node in &nodes {
            self.with(*node, Use::Messages, |handle| {
                handle.watched.send_if_modified(|on| !std::mem::replace(on, true))
            });
        }
        let mut handles = self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|(node, _), handle| {
            let watched = nodes.contains(node);
            if !watched {
                handle.watched.send_if_modified(|on| std::mem::replace(on, false));
            }
            watched || self.inner.ports.directory.peer(*node).is_some()
        });
    }
}

impl fmt::Debug for PeerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerPool").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
