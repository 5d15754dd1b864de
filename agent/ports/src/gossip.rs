//! Membership by gossip, and the facts that nodes publish.

use std::future::Future;

use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::{Incarnation, NodeId};
use tokio::sync::mpsc;

/// What gossip saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member is alive by gossip's own failure detector, in this life.
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

/// How gossip fares; read by `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were sent.
    pub datagrams_sent: u64,
    /// Bytes that were sent.
    pub bytes_sent: u64,
    /// Datagrams that did not open, came from a stranger or were repeated.
    pub datagrams_refused: u64,
    /// Facts whose signature or form was wrong.
    pub facts_refused: u64,
    /// How often gossip was started again after it ended by itself.
    pub respawns: u64,
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
