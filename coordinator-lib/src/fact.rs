//! What a node says of itself in gossip, and of others as their observer.
//!
//! A fact lives in its author's own key space and is gone with the author (invariant I9). Each is signed by its author when it
//! is published and checked before it reaches the core.

use crate::id::{Incarnation, NodeId, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::{StoreId, Token};
use crate::name::NodeName;
use crate::spec::Reservation;

/// How far a claimant has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// About to start, unless somebody better says so at once.
    Intent,
    /// The container is being prepared or is not yet ready.
    Starting,
    /// The container serves.
    Ready,
    /// The container runs and fails its health check.
    Unhealthy,
    /// The process ended and its restart policy wants no other; keeps the slot, so that nobody runs it again.
    Ended,
    /// Gave up for a while; does not count as a claim.
    Failed,
    /// Let go; does not count as a claim.
    Released,
}

impl Phase {
    /// Whether a claim in this phase holds its slot: nobody else needs to start.
    #[must_use]
    pub const fn holds(self) -> bool {
        match self {
            Self::Intent | Self::Starting | Self::Ready | Self::Unhealthy | Self::Ended => true,
            Self::Failed | Self::Released => false,
        }
    }
}

/// The longest [`Claim::detail`] in bytes: gossip carries it to everybody, so it is a hint and not a log.
pub const DETAIL_LEN_MAX: usize = 160;

/// "I hold this slot", in the claimant's own key space. One per slot and revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which slot.
    pub slot: SlotId,
    /// Which definition of its container.
    pub revision: Revision,
    /// How far it has come. Not part of the order among claims.
    pub phase: Phase,
    /// The claimant is drained or not suited any more, and waits for somebody to take over.
    pub yielding: bool,
    /// How many other slots of the same service the claimant held when it claimed: the fewer, the better. Never changes.
    pub crowding: u32,
    /// When this claim replaced one of a dead node: milliseconds from the last sign of life of that node to readiness here.
    pub failover_ms: Option<u32>,
    /// How often the container was started again under this claim.
    pub restarts: u32,
    /// By which lease it is held; `None` when the slot is not exclusive.
    pub token: Option<Token>,
    /// The last error, or how the container ended, for people; at most [`DETAIL_LEN_MAX`] bytes, empty when all is well.
    pub detail: String,
    /// Rises with everything that the claimant says of its claims, also from one life of its agent to the next. Direct words and
    /// gossip overtake each other; by this number an older word never replaces a newer one.
    pub seq: u64,
}

/// Why an observer thinks that a node does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suspicion {
    /// No heartbeat, and no answer to a direct probe: the host or the way to it is gone.
    Silent,
    /// The host refuses connections: it lives, its agent does not.
    Refused,
}

/// An observer's opinion of a node that it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// Who is accused.
    pub node: NodeId,
    /// Which life of it; a higher one refutes the vote.
    pub incarnation: Incarnation,
    /// Why.
    pub suspicion: Suspicion,
}

/// What a node has, and what it calls itself.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's name, for people that look before the catalogue has arrived.
    pub name: NodeName,
    /// What the node can set aside for containers.
    pub capacity: Reservation,
    /// The version of the agent.
    pub version: String,
    /// True when the agent announced that it restarts now, so that its silence means nothing for a while.
    pub restarting: bool,
    /// How far the node finds its wall clock ahead of the mesh's, in milliseconds; behind when negative. Zero when it is about right.
    pub clock_off_ms: i64,
    /// The store in which the node keeps its word as a witness; `None` of an agent that is too old to have one.
    pub store: Option<StoreId>,
    /// Whether it only witnesses and votes, and never holds a replica: a small machine that makes two servers three.
    pub witness_only: bool,
    /// Whether another agent lives under its identity, so that it neither holds nor witnesses what must not run twice.
    pub has_twin: bool,
}

/// One thing a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// It holds a slot.
    Claim(Claim),
    /// The root hash of its catalogue; a difference starts an exchange.
    Root(u64),
    /// What it has.
    Node(NodeFacts),
    /// It suspects somebody.
    Vote(Vote),
}

/// Under which name a fact stands in its author's key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// A claim: the first 64 bits of the slot's hash, and the revision's id.
    Claim(u64, u64),
    /// The catalogue's root hash.
    Root,
    /// The node's facts.
    Node,
    /// A vote about this node.
    Vote(NodeId),
}

impl Fact {
    /// The name under which the fact stands.
    #[must_use]
    pub fn key(&self) -> FactKey {
        match self {
            Self::Claim(claim) => claim.key(),
            Self::Root(_) => FactKey::Root,
            Self::Node(_) => FactKey::Node,
            Self::Vote(vote) => FactKey::Vote(vote.node),
        }
    }
}

impl Claim {
    /// A claim that was not said yet, and of which nothing has come.
    #[must_use]
    pub const fn intent(slot: SlotId, revision: Revision, crowding: u32) -> Self {
        Self {
            slot,
            revision,
            phase: Phase::Intent,
            yielding: false,
            crowding,
            failover_ms: None,
            restarts: 0,
            token: None,
            detail: String::new(),
            seq: 0,
        }
    }

    /// Whether the claim is of a slot that only another node than `claimant` can hold: believed, it would keep that node from
    /// starting its own.
    #[must_use]
    pub fn is_foreign(&self, claimant: NodeId) -> bool {
        matches!(self.slot.index, SlotIndex::Node(owner) if owner != claimant)
    }

    /// The name under which the claim stands.
    #[must_use]
    pub fn key(&self) -> FactKey {
        FactKey::Claim(self.slot.digest().head(), self.revision.id)
    }
}
