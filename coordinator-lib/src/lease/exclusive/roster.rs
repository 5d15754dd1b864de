//! Who witnesses a slot: from its beginning, and when one of them is lost.

use std::collections::BTreeSet;

use super::register::WitnessId;
use crate::id::SlotId;
use crate::placement::score;

/// How many witnesses a slot has, where its roster has so many: one of them may be lost.
const WITNESSES: usize = 3;

/// The witnesses of a slot that nobody ever held: the best of the roster, which all nodes know alike, since it is part of the app's
/// identity.
#[must_use]
pub fn first_witnesses(slot: &SlotId, roster: &BTreeSet<WitnessId>) -> BTreeSet<WitnessId> {
    let hash = slot.digest();
    let mut ranked: Vec<&WitnessId> = roster.iter().collect();
    ranked.sort_by_key(|witness| (std::cmp::Reverse(score(&hash, witness.node, 100)), **witness));
    ranked.into_iter().take(WITNESSES).copied().collect()
}

/// Who should witness a slot when some of `current` are lost, or there are fewer than there should be: the others stay, and the best of
/// `live` join them. `None` when all is well, and where nobody could join: then the lost may still come back.
#[must_use]
pub fn next_witnesses(
    slot: &SlotId,
    current: &BTreeSet<WitnessId>,
    live: &BTreeSet<WitnessId>,
    is_lost: impl Fn(&WitnessId) -> bool,
) -> Option<BTreeSet<WitnessId>> {
    let kept: BTreeSet<WitnessId> = current.iter().filter(|it| !is_lost(it)).copied().collect();
    let wanted = if kept.union(live).count() >= WITNESSES { WITNESSES } else { current.len() };
    let hash = slot.digest();
    // A node whose store was lost is another witness, and not beside itself.
    let is_new = |it: &&WitnessId| kept.iter().all(|kept| kept.node != it.node);
    let mut others: Vec<&WitnessId> = live.iter().filter(is_new).collect();
    others.sort_by_key(|witness| (std::cmp::Reverse(score(&hash, witness.node, 100)), **witness));
    let mut next = kept.clone();
    next.extend(others.into_iter().take(wanted.saturating_sub(kept.len())));
    (next != *current && next.len() == wanted).then_some(next)
}

#[cfg(test)]
mod tests {
    //! Who takes the place of a lost witness.

    use std::collections::BTreeSet;

    use super::{WITNESSES, first_witnesses, next_witnesses};
    use crate::id::{AppUid, NodeId, PublicKey, SlotId, SlotIndex};
    use crate::lease::exclusive::{StoreId, WitnessId};

    fn slot() -> SlotId {
        SlotId { app: AppUid([0; 16]), service: "db".parse().unwrap(), index: SlotIndex::Number(0) }
    }

    fn witness(node: u8, store: u128) -> WitnessId {
        WitnessId { node: NodeId::of(&PublicKey([node; 32])), store: StoreId(store) }
    }

    fn roster(nodes: std::ops::Range<u8>) -> BTreeSet<WitnessId> {
        nodes.map(|node| witness(node, 1)).collect()
    }

    #[test]
    fn the_first_are_the_same_for_everybody_and_few() {
        let first = first_witnesses(&slot(), &roster(0..9));
        assert_eq!(first.len(), WITNESSES);
        assert!(first.is_subset(&roster(0..9)));
        assert_eq!(first_witnesses(&slot(), &roster(0..2)), roster(0..2));
    }

    #[test]
    fn who_is_well_stays() {
        let live = roster(0..9);
        let current = first_witnesses(&slot(), &live);
        assert_eq!(next_witnesses(&slot(), &current, &live, |_| false), None);
        let lost = *current.first().unwrap();
        let next = next_witnesses(&slot(), &current, &live, |it| *it == lost);
        assert_eq!(next, None, "the lost one is the best of those that live");

        let others: BTreeSet<WitnessId> = live.into_iter().filter(|it| *it != lost).collect();
        let next = next_witnesses(&slot(), &current, &others, |it| *it == lost).unwrap();
        assert_eq!(next.len(), WITNESSES);
        assert_eq!(current.difference(&next).collect::<Vec<_>>(), [&lost]);
    }

    #[test]
    fn a_node_with_another_store_takes_its_own_place() {
        let current = roster(0..3);
        let lost = witness(1, 1);
        let live = BTreeSet::from([witness(0, 1), witness(1, 2), witness(2, 1)]);
        let next = next_witnesses(&slot(), &current, &live, |it| *it == lost);
        assert_eq!(next, Some(live));
    }

    #[test]
    fn nobody_is_let_go_for_nobody() {
        let current = roster(0..3);
        assert_eq!(
            next_witnesses(&slot(), &current, &roster(0..2), |it| *it == witness(2, 1)),
            None
        );
    }

    #[test]
    fn a_mesh_that_grows_gives_a_slot_three() {
        assert_eq!(next_witnesses(&slot(), &roster(0..1), &roster(0..2), |_| false), None);
        let next = next_witnesses(&slot(), &roster(0..1), &roster(0..3), |_| false);
        assert_eq!(next, Some(roster(0..3)));
    }
}
