//! What one node knows of the leases of exclusive slots: the source of `agentctl leases`.
//!
//! How much time a lease has left is known to its holder and to each of its witnesses, and to nobody else: so every node says what it
//! knows itself, and whoever asks puts it together. Durations only, since instants never cross the network (I4).

use std::time::Duration;

use crate::id::{AppUid, NodeId, SlotId};
use crate::lease::exclusive::{Configuration, Token};

/// Which leases are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseQuery {
    /// Those of this app; `None` for all.
    pub app: Option<AppUid>,
    /// Those behind this one in the order of slots; `None` from the beginning.
    pub after: Option<SlotId>,
    /// Only those that the node holds, seeks or witnesses; else also those that it merely knows to be wanted.
    pub concerned: bool,
}

/// What one node knows of the lease of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Which slot.
    pub slot: SlotId,
    /// As people write it: `app/service/index`.
    pub name: String,
    /// Whether the catalogue wants it.
    pub wanted: bool,
    /// Which lease this is about: the operator's reset that it comes from, zero for the first that the slot had.
    pub reset: u64,
    /// Who the witnesses are, as far as this node knows.
    pub configuration: Configuration,
    /// What the node does to hold the slot itself; `None` when it does not seek it.
    pub pursuit: Option<Pursuit>,
    /// What the node says as a witness; `None` when it was never asked as one.
    pub testimony: Option<Testimony>,
}

/// How far a node has come that wants a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pursuit {
    /// It asks the witnesses now.
    Asking,
    /// It holds the slot.
    Holding {
        /// By which token.
        token: Token,
        /// For how long, if nobody renews it.
        left: Duration,
    },
    /// It waits: for its turn, or until the slot may be free.
    Waiting {
        /// For so long.
        left: Duration,
    },
}

/// What a witness says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Testimony {
    /// False when the node does not know what is on its disk: it is no witness until its agent starts again.
    pub vouches: bool,
    /// To whom it has granted the slot; `None` when it is free here.
    pub grant: Option<Grant>,
    /// How long ago the last grant ended because nobody renewed it; `None` while it lasts, and when it was released.
    pub ended_ago: Option<Duration>,
    /// Whom it has promised the slot since it last granted it; `None` when nobody. A promise keeps out lower ballots only.
    pub promised: Option<NodeId>,
}

/// What a witness has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub node: NodeId,
    /// By which token.
    pub token: Token,
    /// For how much longer, if it is not renewed.
    pub left: Duration,
}
