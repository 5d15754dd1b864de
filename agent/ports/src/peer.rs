//! Direct calls between agents.

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_coordinator::message::Message;
use mesh_coordinator::time::WallTime;
use tokio::sync::mpsc;

/// What the connections to peers saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A heartbeat of a watched node arrived, or any other proof that it lives.
    Heard {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What its wall clock said; `None` when it did not say.
        wall: Option<WallTime>,
    },
    /// A connection to a node was refused or reset: its host lives, its agent does not.
    Refused {
        /// Who.
        node: NodeId,
    },
    /// A member said something.
    Said {
        /// Who; authenticated by the connection.
        from: NodeId,
        /// What.
        message: Message,
    },
}

/// Sends messages to peers and watches them.
pub trait Peers: Send + Sync + 'static {
    /// Queues a message. What cannot be delivered soon is dropped: the coordinator asks again when it still matters.
    fn send(&self, to: NodeId, message: Message);
    /// The nodes from which heartbeats are wanted from now on. Keeps one connection to each.
    fn watch(&self, nodes: BTreeSet<NodeId>);
}

/// Where events of the connections arrive. One receiver: the engine.
pub type Events = mpsc::Receiver<Event>;

/// Why a blob could not be had from a peer. *Nothing was stored.*
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No peer that answers has it.
    #[error("no reachable node has {0}")]
    Nowhere(String),
    /// The peer stopped in the middle.
    #[error("{node} stopped sending {digest}")]
    Interrupted {
        /// Who.
        node: NodeId,
        /// What.
        digest: String,
    },
}

/// Fetches blobs of images from peers.
pub trait Blobs: Send + Sync + 'static {
    /// The bytes of a blob in pieces, from a peer that has it. The receiver checks the digest.
    fn fetch(
        &self,
        digest: &str,
    ) -> impl Future<Output = Result<mpsc::Receiver<Result<Bytes, FetchError>>, FetchError>> + Send;
}
