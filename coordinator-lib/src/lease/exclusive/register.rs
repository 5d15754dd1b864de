//! What witnesses keep of a slot, and what is said about it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::id::{Incarnation, NodeId, SlotId};

/// No counter is taken up, promised or believed that is further than this above the last one. Honest ones rise by one with each
/// attempt; and whoever lies about them can never use them up.
pub const LEAP_MAX: u64 = 1 << 32;

/// One attempt to become the holder. Ordered by the counter; the rest only tells attempts apart that chose the same one, also those
/// of two lives of an agent and of two clones of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Above all that the proposer has heard of.
    pub counter: u64,
    /// Who proposes.
    pub holder: Holder,
}

/// The fencing token: the counter of the ballot by which a holder acquired the slot. Rises with every holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One store of a node: made at random when the store is. A node that loses its store gets another and is another witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u128);

/// One run of a host's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

/// One lease: the slot's first, or the one that it got when an operator gave up the one before.
///
/// The witnesses of different leases owe each other nothing: a reset begins anew, with other witnesses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// Whose.
    pub slot: SlotId,
    /// The operator's reset that it comes from; zero for the first.
    pub reset: u64,
}

impl LeaseId {
    /// The one that a slot has as long as nobody resets it.
    #[must_use]
    pub const fn first(slot: SlotId) -> Self {
        Self { slot, reset: 0 }
    }
}

/// A witness: a node, as long as it has the store in which its promises are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitnessId {
    /// Which node.
    pub node: NodeId,
    /// With which store.
    pub store: StoreId,
}

/// Who holds a slot.
///
/// A restarted agent on the same boot of its host finds its container again, so it may go on where its former life was. After
/// a reboot, and on a clone of the disk, it is somebody else and waits like everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Which node.
    pub node: NodeId,
    /// Which run of its host.
    pub boot: BootId,
    /// Which life of its agent.
    pub incarnation: Incarnation,
}

impl Holder {
    /// Whether `self` may take over what `other` held without waiting: it is `other`, or a later life of it on the same boot.
    #[must_use]
    pub fn follows(&self, other: &Self) -> bool {
        self.node == other.node && self.boot == other.boot && self.incarnation >= other.incarnation
    }
}

/// Who the witnesses of a slot are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// Rises with every change.
    pub version: u32,
    /// The witnesses whose majority decides.
    pub current: BTreeSet<WitnessId>,
    /// While the witnesses are being changed, those that follow: a majority of both decides. `None` at rest.
    pub next: Option<BTreeSet<WitnessId>>,
    /// How long a grant holds at a witness.
    pub ttl: Duration,
}

impl Configuration {
    /// The configuration of a new slot.
    #[must_use]
    pub const fn first(witnesses: BTreeSet<WitnessId>, ttl: Duration) -> Self {
        Self { version: 0, current: witnesses, next: None, ttl }
    }

    /// All whose word may count.
    pub fn members(&self) -> impl Iterator<Item = WitnessId> {
        let both: BTreeSet<WitnessId> =
            self.current.iter().chain(self.next.iter().flatten()).copied().collect();
        both.into_iter()
    }

    /// Whether the word of `witness` may count.
    #[must_use]
    pub fn has(&self, witness: &WitnessId) -> bool {
        self.current.contains(witness)
            || self.next.as_ref().is_some_and(|next| next.contains(witness))
    }

    /// Whether these are enough to decide: a majority, while the witnesses are being changed one of both sets.
    #[must_use]
    pub fn is_quorum(&self, granted: &BTreeSet<WitnessId>) -> bool {
        is_majority(&self.current, granted)
            && self.next.as_ref().is_none_or(|next| is_majority(next, granted))
    }
}

/// Whether more than half of `of` are among `granted`.
pub(super) fn is_majority(of: &BTreeSet<WitnessId>, granted: &BTreeSet<WitnessId>) -> bool {
    of.intersection(granted).count() > of.len() / 2
}

/// What is agreed on for a slot, beside the holder, who is the one whose ballot it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Value {
    /// Who the witnesses are.
    pub configuration: Configuration,
    /// By which token the slot is held.
    pub token: Token,
}

/// The place of a value in the order of all values: the ballot, and the number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// By which ballot.
    pub ballot: Ballot,
    /// The how manieth value of that ballot, from one: a holder changes its witnesses without a new ballot.
    pub sub: u32,
}

/// A value that a witness has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// Its place in the order.
    pub key: Key,
    /// What it is.
    pub value: Value,
}

/// What a witness keeps on disk of one slot, and flushes before any answer that tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Register {
    /// No ballot below it is answered; none with the same counter but it itself.
    pub promised: Ballot,
    /// The last value accepted; `None` before the first.
    pub accepted: Option<Accepted>,
    /// The highest token that was released by its holder: its lease is over.
    pub released: Option<Token>,
    /// The longest time that any lease granted here may hold: what a restarted witness waits for (S3).
    pub ttl_max: Duration,
}

/// What is asked of a witness about a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Phase 2: "let this be so, and grant me the time".
    Accept {
        /// The value's place.
        key: Key,
        /// Comes back in the answer.
        round: u64,
        /// What is to be.
        value: Value,
        /// For how long; at most what the configuration says.
        ttl: Duration,
    },
    /// "Who are the witnesses?" Of any node, witness or not: nothing is promised or kept.
    Locate,
    /// Phase 1: "promise to answer no lower ballot, and tell me what you accepted".
    Prepare {
        /// The attempt.
        ballot: Ballot,
    },
    /// "My container is gone, and my lease with it."
    Release {
        /// Whose.
        token: Token,
    },
    /// "Grant me more time for what you accepted."
    Renew {
        /// What was accepted.
        key: Key,
        /// Comes back in the answer.
        round: u64,
        /// For how long.
        ttl: Duration,
    },
}

/// What a witness answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Somebody holds the slot. Nothing was promised, so that he is not disturbed.
    Busy {
        /// Whose attempt this answers.
        ballot: Ballot,
        /// Who holds it.
        holder: Holder,
        /// By which token.
        token: Token,
        /// For how much longer, if it is not renewed.
        remaining: Duration,
        /// Who the witnesses are as far as this one knows. A hint of whom to ask, no more.
        configuration: Option<Configuration>,
    },
    /// Granted, from the moment of the answer.
    Granted {
        /// What was accepted.
        key: Key,
        /// Of which round.
        round: u64,
    },
    /// Who the witnesses are, as far as this node knows; a hint of whom to ask, no more.
    Located {
        /// `None` when it has accepted nothing.
        configuration: Option<Configuration>,
    },
    /// Promised.
    Promise {
        /// Which attempt.
        ballot: Ballot,
        /// What was accepted before; `None` when nothing was.
        accepted: Option<Accepted>,
    },
    /// Refused.
    Refused {
        /// Whose attempt this answers.
        ballot: Ballot,
        /// Why.
        refusal: Refusal,
        /// What this witness knows of who the witnesses are; `None` when it knows nothing. A hint of whom to ask, no more.
        configuration: Option<Configuration>,
    },
    /// The lease is over.
    Released {
        /// Which.
        token: Token,
    },
}

/// Why a witness refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The ballot's counter is higher than any honest one can be.
    Leap,
    /// It has promised a higher ballot.
    Promised(Ballot),
    /// The mesh has removed the slot's app.
    Removed,
    /// It is not among the slot's witnesses.
    Stranger,
    /// It does not know the slot's app (yet).
    Unknown,
    /// It has not accepted what is to be renewed.
    Unaccepted,
}
