//! What other nodes claim, as far as this one has heard.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fact::{Claim, FactKey, Phase};
use crate::id::{Incarnation, NodeId, SlotId};
use crate::time::Instant;

/// What was announced directly and what gossip has not confirmed after this time was outdated when it came.
const UNCONFIRMED_TTL: Duration = Duration::from_secs(10);
/// A claimant that only intends for so long has no room to start (C8): somebody else may.
pub(super) const INTENT_MAX: Duration = Duration::from_secs(10);
/// The most claims that are remembered of one node, ten times what a big host runs: a node that makes up more is not believed.
const CLAIMS_MAX: usize = 4_096;

/// Somebody else's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    incarnation: Incarnation,
    /// Since when it is in its phase, as seen here.
    pub(crate) since: Instant,
    /// What gossip says of it; `None` while it is known only by a direct announcement.
    confirmed: Option<Claim>,
    /// When it was last announced or confirmed.
    put: Instant,
}

impl Held {
    /// Until when it counts without a word of gossip; `None` when gossip says the same.
    fn expires(&self) -> Option<Instant> {
        let agreed = self.confirmed.as_ref() == Some(&self.claim);
        (!agreed).then(|| self.put + UNCONFIRMED_TTL)
    }
}

/// The claims of all other nodes, by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    slots: BTreeMap<SlotId, BTreeMap<(NodeId, u64), Held>>,
    /// Where a node's facts of a name are, for withdrawals that only give the name.
    index: BTreeMap<(NodeId, FactKey), SlotId>,
    /// The life of each node that has said all it holds.
    complete: BTreeMap<NodeId, Incarnation>,
}

impl Book {
    /// A claim arrived, by gossip (`confirmed`) or directly. Each may overtake the other. What comes directly counts at once, and
    /// gossip has the last word.
    pub(crate) fn put(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        claim: Claim,
        confirmed: bool,
    ) {
        if self.complete.get(&node).is_some_and(|complete| *complete > incarnation) {
            return;
        }
        let key = claim.key();
        let all = (node, FactKey::Claim(0, 0))..=(node, FactKey::Claim(u64::MAX, u64::MAX));
        if !self.index.contains_key(&(node, key)) && self.index.range(all).count() >= CLAIMS_MAX {
            return;
        }
        let claims = self.slots.entry(claim.slot.clone()).or_default();
        let before =
            claims.get(&(node, claim.revision.id)).filter(|held| held.incarnation == incarnation);
        // A phase never goes back to an intent.
        let stale = before.is_some_and(|held| {
            !confirmed && claim.phase == Phase::Intent && held.claim.phase != Phase::Intent
        });
        if stale {
            return;
        }
        let same_phase = before.filter(|held| held.claim.phase == claim.phase);
        let since = same_phase.map_or(now, |held| held.since);
        let confirmed = if confirmed {
            Some(claim.clone())
        } else {
            before.and_then(|held| held.confirmed.clone())
        };
        self.index.insert((node, key), claim.slot.clone());
        let held = Held { incarnation, since, confirmed, put: now, claim };
        claims.insert((node, held.claim.revision.id), held);
    }

    /// A node took a fact back.
    pub(crate) fn withdraw(&mut self, node: NodeId, incarnation: Incarnation, key: FactKey) {
        let FactKey::Claim(_, revision) = key else { return };
        let Some(slot) = self.index.get(&(node, key)).cloned() else { return };
        let held = self.slots.get(&slot).and_then(|claims| claims.get(&(node, revision)));
        if held.is_some_and(|held| held.incarnation <= incarnation) {
            self.remove(&slot, node, revision);
        }
    }

    /// A node in this life has said all that it holds: what it said in earlier lives is void. Until then the claims of the
    /// earlier life stand, for a restart of an agent moves nothing (promise P6).
    pub(crate) fn complete(&mut self, node: NodeId, incarnation: Incarnation) {
        if self.complete.get(&node).is_some_and(|complete| *complete >= incarnation) {
            return;
        }
        self.complete.insert(node, incarnation);
        self.retain(|holder, held| holder != node || held.incarnation >= incarnation);
    }

    /// Whether a node has said all that it holds, in any life.
    pub(crate) fn is_complete(&self, node: NodeId) -> bool {
        self.complete.contains_key(&node)
    }

    /// A node is no member any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.complete.remove(&node);
        self.retain(|holder, _| holder != node);
    }

    /// Goes back to what gossip says where announcements were never confirmed. Returns when to look again.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let due = |held: &Held| held.expires().is_some_and(|expires| expires <= now);
        if self.slots.values().any(|claims| claims.values().any(due)) {
            self.retain(|_, held| held.confirmed.is_some() || !due(held));
            let held = self.slots.values_mut().flat_map(BTreeMap::values_mut);
            for held in held.filter(|held| due(held)) {
                if let Some(confirmed) = held.confirmed.clone() {
                    held.since = now;
                    held.claim = confirmed;
                }
            }
        }
        self.all().filter_map(|(_, held)| held.expires()).min()
    }

    /// The claims of one slot.
    pub(crate) fn of(&self, slot: &SlotId) -> impl Iterator<Item = (NodeId, &Held)> {
        let claims = self.slots.get(slot).into_iter().flatten();
        claims.map(|((node, _), held)| (*node, held))
    }

    /// All claims.
    pub(crate) fn all(&self) -> impl Iterator<Item = (NodeId, &Held)> {
        self.slots.values().flatten().map(|((node, _), held)| (*node, held))
    }

    /// All slots of which anything is known.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &SlotId> {
        self.slots.keys()
    }

    fn remove(&mut self, slot: &SlotId, node: NodeId, revision: u64) {
        if let Some(claims) = self.slots.get_mut(slot) {
            claims.remove(&(node, revision));
            if claims.is_empty() {
                self.slots.remove(slot);
            }
        }
        self.index.remove(&(node, FactKey::Claim(slot.digest().head(), revision)));
    }

    fn retain(&mut self, keep: impl Fn(NodeId, &Held) -> bool) {
        let dropped: Vec<(SlotId, NodeId, u64)> = self
            .slots
            .iter()
            .flat_map(|(slot, claims)| {
                claims.iter().map(move |((node, revision), held)| (slot, *node, *revision, held))
            })
            .filter(|(_, node, _, held)| !keep(*node, held))
            .map(|(slot, node, revision, _)| (slot.clone(), node, revision))
            .collect();
        for (slot, node, revision) in dropped {
            self.remove(&slot, node, revision);
        }
    }
}

#[cfg(test)]
mod tests {
    //! What one node can make others remember.

    use super::{Book, CLAIMS_MAX};
    use crate::fact::{Claim, Phase};
    use crate::id::{AppUid, Incarnation, NodeId, PublicKey, Revision, SlotId, SlotIndex};
    use crate::time::Instant;

    fn claim(number: u32) -> Claim {
        Claim {
            slot: SlotId {
                app: AppUid([0; 16]),
                service: "web".parse().unwrap(),
                index: SlotIndex::Number(number),
            },
            revision: Revision { number: 1, id: 1 },
            phase: Phase::Ready,
            yielding: false,
            crowding: 0,
            failover_ms: None,
            restarts: 0,
            detail: String::new(),
        }
    }

    #[test]
    fn a_node_that_makes_up_claims_fills_only_its_own_share() {
        let [liar, honest] = [1, 2].map(|n| NodeId::of(&PublicKey([n; 32])));
        let mut book = Book::default();
        let mut put = |node, number, confirmed| {
            book.put(Instant::ZERO, node, Incarnation(1), claim(number), confirmed);
        };
        (0..10_000).for_each(|number| put(liar, number, number % 2 == 0));
        put(liar, 3, true);
        put(honest, 9_999, true);
        assert_eq!(book.all().filter(|(node, _)| *node == liar).count(), CLAIMS_MAX);
        assert_eq!(book.of(&claim(9_999).slot).count(), 1, "others are still heard");
    }
}
