//! Who should hear first, where not everybody can be told at once: those who would take over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Claims, World};
use crate::fact::Claim;
use crate::id::{NodeId, SlotIndex};
use crate::message::TELL_ALL_MAX;

/// So many nodes are told that a holder may be dead, of each of its slots: those that fetch the image ahead of time.
const HEIRS: usize = super::seek::PREFETCH_RANKS + 1;
/// So many are told of a claim: the heirs, and as many as may come to rank among them while other slots are taken.
pub(super) const AUDIENCE: usize = HEIRS + 6;
/// The most nodes that are told of one death: one burst of a few packets.
const HEIRS_MAX: usize = 32;
/// So many rounds of gossip bring a word to everybody: each brings it to four times as many, and some are lost.
const GOSSIP_ROUNDS: u32 = 6;

impl Claims {
    /// The nodes that would take over what `lost` holds, as far as this one can tell.
    pub(crate) fn heirs(&mut self, world: &World<'_>, lost: NodeId) -> BTreeSet<NodeId> {
        let mut stage = self.stage(world);
        stage.strike(lost);
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
            let best = self.best(slot, spec, current, stage.all());
            let first = first_of(&best.first, lost, HEIRS);
            // As each of them ranks the slots behind this one.
            if let Some(first) = first.first() {
                stage.occupy(*first, slot, world.state);
            }
            heirs.extend(first);
            if heirs.len() >= HEIRS_MAX {
                break;
            }
        }
        self.strike_stage(stage);
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

impl World<'_> {
    /// C3: how much longer whoever ranks at `position` waits, because it hears of the claims of others by gossip only; `None` for
    /// whoever cannot hold the slot at the moment.
    pub(super) fn news_takes(&self, position: Option<usize>) -> Duration {
        let is_small = self.state.nodes.len() <= TELL_ALL_MAX.saturating_add(1);
        if is_small || position.is_some_and(|position| position <= HEIRS) {
            Duration::ZERO
        } else {
            self.state.gossip_interval() * GOSSIP_ROUNDS
        }
    }
}

/// Those that a claim of `me` is told to.
pub(super) fn next_of(best: &[NodeId], me: NodeId) -> Vec<NodeId> {
    first_of(best, me, AUDIENCE)
}

/// The first in rank that can hold the slot, without `node`.
fn first_of(best: &[NodeId], node: NodeId, count: usize) -> Vec<NodeId> {
    best.iter().filter(|it| **it != node).take(count).copied().collect()
}
