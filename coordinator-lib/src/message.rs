//! What agents say to each other directly. All one-way: an answer is a message of its own, so that nothing ever waits.

use crate::catalogue::{Entry, SignedBytes};
use crate::fact::{Claim, Vote};
use crate::id::{Hash, Incarnation, NodeId, Revision, SlotId};
use crate::lease::exclusive::{Answer, BootId, LeaseId, Request, StoreId, Token};

/// Up to this many others everybody is told everything directly; beyond, only those whom it concerns (gossip tells the rest).
/// 32 messages of some 200 bytes are one burst of a few packets.
pub(crate) const TELL_ALL_MAX: usize = 32;

/// A message from one agent's coordinator to another's.
///
/// The transport authenticates the sender and may lose, delay, repeat or reorder messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// "I am about to start this": ahead of gossip, to those who might do the same.
    Announce(Claim),
    /// An observer's vote, ahead of gossip.
    Vote(Vote),
    /// The observer heard the accused again: the vote about this node is taken back.
    Unvote(Vote),
    /// "Are you there?"
    Probe {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// "I am."
    Alive {
        /// The probe's nonce.
        nonce: u64,
        /// Which life of the answering agent.
        incarnation: Incarnation,
    },
    /// "You hold this slot better than I do: may I stop?"
    Yield {
        /// Which slot.
        slot: SlotId,
        /// The revision of the receiver's claim.
        revision: Revision,
        /// Comes back in the answer.
        nonce: u64,
    },
    /// "I serve this slot, it is healthy at this moment, and I will not stop by myself for a while: stop."
    Keep {
        /// Which slot.
        slot: SlotId,
        /// The nonce of the `Yield`.
        nonce: u64,
    },
    /// Signed records, as they were written or received first.
    Records(Vec<Entry>),
    /// These records are stored and flushed here.
    Stored(Vec<Hash>),
    /// "This is what my catalogue looks like": the hash of each bucket. Asks for what differs.
    Digest(Vec<u64>),
    /// "In these buckets we differ; this is what I have there."
    Have {
        /// The buckets, ascending.
        buckets: Vec<u32>,
        /// The hashes of the sender's records in them.
        hashes: Vec<Hash>,
    },
    /// "Send me these."
    Want(Vec<Hash>),
    /// Whoever wants or holds exclusive slots asks a witness of them.
    Ask(Vec<(LeaseId, Request)>),
    /// "I held this slot, and nothing of it runs here any more."
    Free {
        /// Which slot.
        slot: SlotId,
        /// By which token it was held.
        token: Token,
    },
    /// Another agent lives under the identity of `node`, beside the one on this boot of its host. The node says so to all, and all pass it on
    /// to whomever they take for the node.
    Twin {
        /// Whose identity.
        node: NodeId,
        /// The boot of the agent that found out.
        boot: BootId,
    },
    /// A witness answers.
    Word {
        /// By which store it goes: a node with another store is another witness.
        store: StoreId,
        /// What, about which leases.
        answers: Vec<(LeaseId, Answer)>,
    },
}

/// A record that did not become an [`Entry`]: its signature or its form is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What arrived.
    pub signed: SignedBytes,
    /// Why it was refused, for people.
    pub reason: String,
}
