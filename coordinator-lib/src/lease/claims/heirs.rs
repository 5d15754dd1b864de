//! Who should hear first, where not everybody can be told at once: those who would take over.

use std::collections::BTreeSet;

use super::{Claims, World, claim, occupy};
use crate::fact::Claim;
use crate::id::{NodeId, SlotIndex};
use crate::placement::Ranked;
use crate::view::NodeStatus;

/// So many nodes are told about a slot: those that fetch its image ahead of time.
pub(super) const HEIRS: usize = super::seek::PREFETCH_RANKS + 1;
/// The most nodes that are told of one death: one burst of a few packets.
const HEIRS_MAX: usize = 32;

impl Claims {
    /// The nodes that would take over what `lost` holds, as far as this one can tell.
    pub(crate) fn heirs(&self, world: &World<'_>, lost: NodeId) -> BTreeSet<NodeId> {
        let mut places = self.places(world);
        if let Some(place) = places.get_mut(&lost) {
            place.status = NodeStatus::Down;
        }
        let mut heirs = BTreeSet::new();
        for slot in self.book.slots_of(lost) {
            let is_held = self.of_slot(slot).any(super::Mine::is_held)
                || self.book.of(slot).any(|(node, held)| {
                    node != lost && held.claim.phase.holds() && world.stands(node, held)
                });
            let wanted = world.state.apps.get(&slot.app).filter(|app| app.wants(slot));
            let spec = wanted.and_then(|app| Some((app, app.release.spec.service(&slot.service)?)));
            let Some((app, spec)) = spec.filter(|_| !is_held) else { continue };
            if matches!(slot.index, SlotIndex::Node(_)) {
                continue;
            }
            let current = app.revision(&slot.service, spec);
            let ranked = self.ranked(slot, spec, current, &places);
            let first = next_of(&ranked, lost);
            // As each of them ranks the slots behind this one.
            if let Some(place) = first.first().and_then(|first| places.get_mut(first)) {
                occupy(place, &claim(slot.clone(), current, 0), world.state);
            }
            heirs.extend(first);
            if heirs.len() >= HEIRS_MAX {
                break;
            }
        }
        heirs.remove(&self.me);
        heirs
    }

    /// Those whom a claim of this node concerns: who ranks behind it, and who claims the slot too.
    pub(crate) fn audience(&self, claim: &Claim) -> BTreeSet<NodeId> {
        let mine = self.mine.get(&(claim.slot.clone(), claim.revision.id));
        let next = mine.into_iter().flat_map(|mine| &mine.next).copied();
        next.chain(self.book.of(&claim.slot).map(|(node, _)| node)).collect()
    }
}

/// The first in rank that can hold the slot, without `node`.
pub(super) fn next_of(ranked: &[Ranked], node: NodeId) -> Vec<NodeId> {
    let suited = ranked.iter().filter(|it| it.obstacles.is_empty() && it.node != node);
    suited.take(HEIRS).map(|it| it.node).collect()
}
