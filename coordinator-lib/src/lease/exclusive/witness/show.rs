//! What a witness says of a slot, for people: nothing is promised by it.

use super::{LeaseId, Slot, Witness};
use crate::id::NodeId;
use crate::time::Reading;
use crate::view::{Grant, Testimony};

impl Witness {
    /// What it says of a lease; `None` when it was never asked as a witness of it.
    #[must_use]
    pub fn testimony(&self, now: Reading, lease: &LeaseId) -> Option<Testimony> {
        let known = self.slots.get(lease)?;
        let grant = self.holder(now, lease).map(|(holder, token, left)| Grant {
            node: holder.node,
            token,
            left,
        });
        let last = known.granted.filter(|_| grant.is_none());
        Some(Testimony {
            vouches: !self.is_broken,
            grant,
            ended_ago: last.map(|last| now.since(last.until)),
            promised: known.promised_since(),
        })
    }
}

impl Slot {
    /// Who has a promise that is younger than what was accepted last.
    fn promised_since(&self) -> Option<NodeId> {
        let promised = self.register.promised;
        let accepted = self.register.accepted.as_ref().map(|accepted| accepted.key.ballot);
        (accepted != Some(promised)).then_some(promised.holder.node)
    }
}
