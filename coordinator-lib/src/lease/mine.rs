//! One claim of this node, and the replica behind it.
//!
//! ```text
//!   Intent ──── starts ──────▶ Held ── relieved, or not wanted ──▶ Draining ── drained ──▶ Leaving ──▶ (gone)
//!      │                        │ cannot get ready                                            ▲
//!      └── objection ───────────┼──▶ Failed ── cooled down ───────────────────────────────────┤
//!                               └───────── never served ──────────────────────────────────────┘
//! ```

use super::book::overdue_at;
use crate::fact::{Claim, DETAIL_LEN_MAX, Phase};
use crate::id::NodeId;
use crate::time::Instant;
use crate::workload::Workload;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Said, and not yet started: others may object until then (C4), and after that it waits for its turn to start (C8).
    Intent { until: Instant },
    /// Held.
    Held,
    /// Released, but still answering, until everybody has heard of it.
    Draining { until: Instant },
    /// Released; the replica is being stopped and removed.
    Leaving,
    /// Given up for a while (C6, C13).
    Failed { until: Instant },
}

/// A question to a better claimant that was not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) nonce: u64,
    pub(super) to: NodeId,
    pub(super) at: Instant,
}

/// One claim of this node.
#[derive(Debug, Clone)]
pub(crate) struct Mine {
    pub(super) claim: Claim,
    /// What gossip was last given; `None` before the first time.
    pub(super) published: Option<Claim>,
    pub(super) hold: Hold,
    pub(super) workload: Workload,
    /// Since when it has been held without being ready; `None` while it is ready.
    pub(super) unready: Option<Instant>,
    pub(super) asked: Option<Asked>,
    /// Until then this node has promised not to stop by itself.
    pub(super) kept_until: Instant,
    /// The last sign of life of the node that this claim replaces; `None` when it replaces none, or is ready since.
    pub(super) orphaned: Option<Instant>,
    /// Since when nothing is known of its app; `None` while something is.
    pub(super) stray: Option<Instant>,
    /// Who ranked next for the slot when it was claimed: those are told of it first.
    pub(super) next: Vec<NodeId>,
}

impl Mine {
    pub(super) const fn new(claim: Claim, hold: Hold, workload: Workload, now: Instant) -> Self {
        Self {
            claim,
            published: None,
            hold,
            workload,
            unready: Some(now),
            asked: None,
            kept_until: Instant::ZERO,
            orphaned: None,
            stray: None,
            next: Vec::new(),
        }
    }

    /// The claim as it is now.
    pub(crate) const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whether it still holds its slot.
    pub(super) const fn is_held(&self) -> bool {
        matches!(self.hold, Hold::Intent { .. } | Hold::Held)
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.claim.phase, Phase::Ready)
    }

    /// Whether others may stop because of it.
    pub(super) fn is_proven(&self) -> bool {
        self.is_ready() && self.workload.is_proven()
    }

    /// C8: whether it has been waiting for room to start for so long that others may take it.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.hold, Hold::Intent { until } if overdue_at(until) <= now)
    }

    /// Whether clients may be served by it at this moment.
    pub(super) const fn serves(&self) -> bool {
        matches!(self.claim.phase, Phase::Ready | Phase::Unhealthy)
    }

    /// Brings the claim in line with the replica.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.claim.phase = match self.hold {
            Hold::Intent { .. } => Phase::Intent,
            Hold::Draining { .. } | Hold::Leaving => Phase::Released,
            Hold::Failed { .. } => Phase::Failed,
            Hold::Held if self.workload.is_ready() => Phase::Ready,
            Hold::Held if self.workload.has_ended() => Phase::Ended,
            Hold::Held if self.workload.unhealthy_since().is_some() => Phase::Unhealthy,
            Hold::Held => Phase::Starting,
        };
        self.claim.restarts = self.workload.restarts();
        if !matches!(self.hold, Hold::Failed { .. }) {
            self.claim.detail =
                if self.is_ready() { String::new() } else { bounded(self.workload.detail()) };
        }
        if self.is_ready() {
            self.unready = None;
        } else if self.unready.is_none() {
            self.unready = Some(now);
        }
    }
}

/// The beginning of `text`, cut between two characters.
pub(super) fn bounded(text: &str) -> String {
    let fits = text
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= DETAIL_LEN_MAX);
    text.chars().take(fits.count()).collect()
}
