//! Membership by gossip, and the facts that nodes publish.

use std::future::Future;

use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::{Incarnation, NodeId};
use tokio::sync::mpsc;

use crate::directory::Peer;

/// What gossip saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member is alive by gossip's own failure detector, in this life.
    ///
    /// Comes before the facts of that life. A higher incarnation replaces the lower without a `Down`; those facts of the former
    /// life that are not published in the new one are withdrawn right after.
    Up {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A member is dead by gossip's own failure detector.
    Down {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A member published or changed a fact. Its signature is good.
    Published {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What.
        fact: Fact,
    },
    /// Another agent lives under this node's own identity: a member opened what it sealed with this node's key, in a life that is later
    /// than this one. Said once for each life. (The later one is not told: nobody passes on what the former one says.)
    Twin {
        /// In which life.
        incarnation: Incarnation,
    },
    /// A member took a fact back.
    Withdrawn {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which.
        key: FactKey,
    },
}

/// How gossip fares. What it refused as an attack is counted apart, with what the rest of the agent refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were sent.
    pub datagrams_sent: u64,
    /// Bytes that were sent.
    pub bytes_sent: u64,
    /// Datagrams that did not open, came from a stranger, were repeated, or belong to a former life.
    pub datagrams_refused: u64,
    /// Facts of this node that could not be published.
    pub facts_unpublished: u64,
    /// How often gossip was started again after it ended by itself.
    pub respawns: u64,
    /// Datagrams that opened and were new.
    pub datagrams_received: u64,
    /// Messages that were not sent whole: nobody known at the address, no route, or too long.
    pub messages_undelivered: u64,
    /// How long the newest digest of all nodes was. Gossip breaks down beyond 65,507 bytes.
    pub digest_bytes: u64,
    /// How many other lives of this node's own identity were seen alive: the host was cloned. Exclusive work must not run.
    pub twins: u64,
}

/// Signs facts and puts them into text, and back.
///
/// The signature covers mesh, node, incarnation, key and value, so that no fact can be moved to another place.
pub trait FactCodec: Send + Sync + 'static {
    /// `fact`, signed by this node in the life `incarnation`, as printable ASCII.
    fn seal(&self, incarnation: Incarnation, fact: &Fact) -> String;
    /// The fact in `sealed`, when `node` signed it in the life `incarnation`.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    fn open(&self, node: &Peer, incarnation: Incarnation, sealed: &str) -> Result<Fact, String>;
}

/// Gossip, as the engine uses it.
pub trait Gossip: Send + Sync + 'static {
    /// Publishes a fact in this node's key space, replacing the one of the same key.
    fn publish(&self, fact: Fact) -> impl Future<Output = ()> + Send;
    /// Takes a fact back.
    fn withdraw(&self, key: FactKey) -> impl Future<Output = ()> + Send;
    /// This agent's life.
    fn incarnation(&self) -> Incarnation;
    /// How it fares.
    fn counters(&self) -> Counters;
}

/// Where gossip's events arrive. One receiver: the engine.
pub type Events = mpsc::Receiver<Event>;
