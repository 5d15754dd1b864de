//! What happened on a node, for people: the source of `agentctl events`.

use std::fmt;

use crate::id::{NodeId, SlotId};
use crate::time::WallTime;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The life of apps and nodes.
    Info,
    /// Worse than it should be, and dealt with.
    Warning,
    /// Somebody should look.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The mesh or its catalogue.
    Mesh,
    /// A node.
    Node(NodeId),
    /// A replica.
    Slot(SlotId),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by the wall clock of the node that saw it.
    pub at: WallTime,
    /// Who saw it.
    pub seen_by: NodeId,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What happened, one line.
    pub text: String,
}
