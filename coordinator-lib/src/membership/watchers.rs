//! Who watches one node, kept up to date while others come and go.

use std::collections::BTreeSet;

use super::OBSERVERS;
use crate::id::{Hash, NodeId};

/// So many of the first in order are remembered: as many again as watch, so that most deaths move the others up and nothing has to be
/// worked out from all members.
const KEPT: usize = OBSERVERS * 2;

/// The first of the others in rendezvous order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watchers {
    /// Ascending; without a gap, as far as it goes.
    first: Vec<(u64, NodeId)>,
    /// Whether there are no others behind them.
    is_all: bool,
}

fn place(node: NodeId, other: NodeId) -> (u64, NodeId) {
    (Hash::of(&[b"mesh observer", node.as_bytes(), other.as_bytes()]).head(), other)
}

impl Watchers {
    /// Those of `node` among `standing`.
    pub(super) fn of(node: NodeId, standing: &BTreeSet<NodeId>) -> Self {
        let others = standing.iter().filter(|other| **other != node);
        let mut first: Vec<(u64, NodeId)> = others.map(|other| place(node, *other)).collect();
        let is_all = first.len() <= KEPT;
        if !is_all {
            first.select_nth_unstable(KEPT);
            first.truncate(KEPT);
            // Each of the others has such a list, and room for everybody in all of them is too much in a large mesh.
            first.shrink_to_fit();
        }
        first.sort_unstable();
        Self { first, is_all }
    }

    /// Others have gone and come: `standing` is who is left.
    pub(super) fn change(
        &mut self,
        node: NodeId,
        standing: &BTreeSet<NodeId>,
        gone: &BTreeSet<NodeId>,
        come: &BTreeSet<NodeId>,
    ) {
        self.first.retain(|(_, other)| !gone.contains(other));
        for other in come.iter().filter(|other| **other != node) {
            let new = place(node, *other);
            let at = self.first.partition_point(|it| *it < new);
            if at < self.first.len() || self.is_all {
                self.first.insert(at, new);
            }
        }
        if self.first.len() > KEPT {
            self.first.truncate(KEPT);
            self.is_all = false;
        }
        if self.first.len() < OBSERVERS && !self.is_all {
            *self = Self::of(node, standing);
        }
    }

    /// The nodes that watch.
    pub(super) fn observers(&self) -> impl Iterator<Item = NodeId> {
        self.first.iter().take(OBSERVERS).map(|(_, other)| *other)
    }
}

#[cfg(test)]
mod tests {
    //! However others come and go, the watchers are those that everybody would work out anew.

    use std::collections::BTreeSet;

    use super::Watchers;
    use crate::id::{NodeId, PublicKey};
    use crate::prng::Prng;

    #[test]
    fn watchers_are_the_same_whatever_came_before() {
        let node = |number: u64| {
            let [.., last] = number.to_be_bytes();
            NodeId::of(&PublicKey([last; 32]))
        };
        let mut rng = Prng::new(1);
        for _ in 0..20 {
            let mut standing: BTreeSet<NodeId> = (0..30).map(node).collect();
            let mut kept = Watchers::of(node(0), &standing);
            for _ in 0..100 {
                let before = standing.clone();
                for _ in 0..=rng.below(6) {
                    let other = node(1 + rng.below(39));
                    if !standing.remove(&other) {
                        standing.insert(other);
                    }
                }
                let gone = before.difference(&standing).copied().collect();
                let come = standing.difference(&before).copied().collect();
                kept.change(node(0), &standing, &gone, &come);
                let anew = Watchers::of(node(0), &standing);
                assert!(kept.observers().eq(anew.observers()), "{kept:?} {anew:?}");
            }
        }
    }
}
