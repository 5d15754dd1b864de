//! The order among claims of one slot.

use std::cmp::Reverse;

use crate::fact::Claim;
use crate::id::{Hash, NodeId};
use crate::placement::score;

/// A claim in the contest for its slot.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// Whose.
    pub node: NodeId,
    /// The weight of that node by the catalogue. A claimant cannot make itself heavier.
    pub weight: u32,
    /// The claim.
    pub claim: &'a Claim,
}

impl Contender<'_> {
    /// Smaller is better. Only things that never change while the claim stands, so that two nodes never disagree for long:
    /// the phase is not among them (C5).
    fn order(&self, slot: &Hash) -> (u32, Reverse<u64>, NodeId) {
        (self.claim.crowding, Reverse(score(slot, self.node, self.weight)), self.node)
    }
}

/// Whether `a` is the better holder of the slot than `b`. Both are claims of one revision.
#[must_use]
pub fn outranks(a: &Contender<'_>, b: &Contender<'_>) -> bool {
    let slot = a.claim.slot.digest();
    a.order(&slot) < b.order(&slot)
}

/// The best of several contenders for one slot; `None` of none.
#[must_use]
pub fn best<'a>(contenders: impl Iterator<Item = Contender<'a>>) -> Option<Contender<'a>> {
    contenders.reduce(|best, next| if outranks(&next, &best) { next } else { best })
}
