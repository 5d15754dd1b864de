//! What goes into a node's decisions, and what comes out.

use std::collections::BTreeSet;

use crate::catalogue::{Entry, Refusal};
use crate::clocks::Finding;
use crate::event::Event;
use crate::fact::{Fact, FactKey, NodeFacts};
use crate::id::{Hash, Incarnation, MeshId, NodeId, PublicKey, Revision, SlotId};
use crate::lease::exclusive::{BootId, Fence, LeaseId, Register, StoreId};
use crate::message::Message;
use crate::workload::{Do, Observed};

/// What a node is told once, when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The mesh.
    pub mesh: MeshId,
    /// This node.
    pub me: NodeId,
    /// This life of its agent.
    pub incarnation: Incarnation,
    /// What this node has.
    pub facts: NodeFacts,
    /// Where its random choices begin.
    pub seed: u64,
    /// The store in which this node keeps its word as a witness.
    pub store: StoreId,
    /// This run of its host.
    pub boot: BootId,
}

/// Ties an answer to its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened. The driver reports everything that it finds running by [`Input::Found`] before it says [`Input::Began`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Everything that ran before was reported: decisions may begin.
    Began,
    /// This node finds something else about its wall clock than before.
    Clock(Finding),
    /// A container of an earlier life of this agent.
    Found {
        /// Whose replica it is.
        slot: SlotId,
        /// Of which definition.
        revision: Revision,
        /// `None` while it runs; else its exit code, as far as that is known.
        ended: Option<Option<i32>>,
        /// What its guard was told last, in this run of the host; `None` when it runs without a lease.
        fence: Option<Fence>,
    },
    /// Gossip's detector took a node for dead.
    GossipDown {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// Gossip's detector took a node for alive.
    GossipUp {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A heartbeat arrived.
    Heard {
        /// Whose.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// Something became of a replica.
    Observed {
        /// Whose replica it is.
        slot: SlotId,
        /// Of which definition.
        revision: Revision,
        /// What.
        observed: Observed,
    },
    /// A register of an [`Output::Persist`] is on disk and flushed.
    Persisted {
        /// Which.
        ticket: Ticket,
    },
    /// It may or may not be there. (Where it certainly is not, because the disk is full, nothing is to be said: the register comes again
    /// with the next answer.)
    PersistFailed {
        /// Why, for people.
        reason: String,
    },
    /// A node published a fact, whose signature was checked.
    Published {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What.
        fact: Fact,
    },
    /// A connection to a node was refused or reset.
    Refused {
        /// Who.
        node: NodeId,
    },
    /// This agent is about to be restarted.
    Restarting,
    /// A member said something.
    Said {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// The records of an [`Output::Store`] are on disk and flushed.
    Stored {
        /// Which.
        ticket: Ticket,
    },
    /// They are not.
    StoreFailed {
        /// Which.
        ticket: Ticket,
        /// Why, for people.
        reason: String,
    },
    /// An operator submits records, whose signatures were checked.
    Submit {
        /// Comes back in [`Output::Submitted`].
        ticket: Ticket,
        /// What.
        entries: Vec<Entry>,
    },
    /// Another agent lives under this node's identity, in a later life: somebody copied this node's disk, or its key.
    Twin,
    /// The deadline has come.
    Wake,
    /// A node took a fact back.
    Withdrawn {
        /// Who.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Which.
        key: FactKey,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The catalogue changed: who is a member, where they are, what is published.
    Changed,
    /// Something with a replica of this node.
    Do {
        /// Whose replica.
        slot: SlotId,
        /// Of which definition.
        revision: Revision,
        /// What.
        job: Do,
    },
    /// Forget records that turned out to be void.
    Erase(Vec<Hash>),
    /// Something that people may want to know.
    Event(Event),
    /// Tell the guard of a replica until when it may run: comes before its start, and again whenever its lease is renewed.
    Fence {
        /// Whose replica.
        slot: SlotId,
        /// Of which definition.
        revision: Revision,
        /// Until when.
        fence: Fence,
    },
    /// Write what this node vouches for as a witness, flush it, and say the rest only then. A later register of a lease replaces an
    /// earlier one, and is written after it. [`Input::Persisted`] or [`Input::PersistFailed`] follows.
    Persist {
        /// Comes back.
        ticket: Ticket,
        /// About which lease.
        lease: LeaseId,
        /// What.
        register: Box<Register>,
        /// Who is told what afterwards; this node itself may be among them.
        then: Vec<(NodeId, Message)>,
    },
    /// Fetch an image ahead of time.
    Prefetch(String),
    /// Publish a fact.
    Publish(Fact),
    /// A record that a peer passed on was refused. Of an unknown author it may be taken later, when the author's own record is here.
    Refused {
        /// Which peer.
        from: NodeId,
        /// Who wrote the record.
        author: PublicKey,
        /// Why.
        refusal: Refusal,
    },
    /// Say something to a node.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Store records, and flush them before [`Input::Stored`].
    Store {
        /// Comes back.
        ticket: Ticket,
        /// What.
        entries: Vec<Entry>,
    },
    /// What became of a submission.
    Submitted {
        /// Whose.
        ticket: Ticket,
        /// Where it is stored, this node first; empty when it was not.
        stored_on: Vec<NodeId>,
        /// How many peers were believed to live.
        n_peers: u32,
        /// Which records were refused, and why; when there are any, nothing was stored.
        refused: Vec<(Hash, String)>,
        /// Why the disk did not take it; `None` when it did or was not asked.
        failure: Option<String>,
    },
    /// The nodes from which heartbeats are wanted.
    Watch(BTreeSet<NodeId>),
    /// Take a fact back.
    Withdraw(FactKey),
}
