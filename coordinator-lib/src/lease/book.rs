//! What other nodes claim, as far as this one has heard.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::fact::{Claim, FactKey, Phase};
use crate::id::{Incarnation, NodeId, SlotId};
use crate::time::Instant;

/// What was announced directly and is not heard of by gossip after this time was taken back before it came.
const UNCONFIRMED_TTL: Duration = Duration::from_secs(10);
/// A claimant that only intends for so long has no room to start (C8): somebody else may.
const INTENT_MAX: Duration = Duration::from_secs(10);
/// The most claims that are remembered of one node, ten times what a big host runs: a node that makes up more is not believed.
const CLAIMS_MAX: usize = 4_096;

/// Somebody else's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    incarnation: Incarnation,
    /// Since when it is in its phase, as seen here.
    pub(crate) since: Instant,
    /// The number of what gossip last said of it; `None` while it is known only by a direct announcement.
    confirmed: Option<u64>,
    /// When it was last announced or confirmed.
    put: Instant,
}

impl Held {
    /// Until when it counts without a word of gossip; `None` when gossip has said it.
    fn expires(&self) -> Option<Instant> {
        self.confirmed.is_none().then(|| self.put + UNCONFIRMED_TTL)
    }

    /// From when on it counts no more because its claimant does not come to start it (C8); `None` once it has started.
    fn waits_until(&self) -> Option<Instant> {
        (self.claim.phase == Phase::Intent).then(|| overdue_at(self.since))
    }

    /// Whether time alone changes nothing about it.
    const fn is_settled(&self) -> bool {
        self.confirmed.is_some() && !matches!(self.claim.phase, Phase::Intent)
    }

    /// C8: whether its claimant has said for long that it would start it, and has not.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.waits_until().is_some_and(|until| until <= now)
    }
}

/// When an intent of `since` counts no more (C8).
pub(super) fn overdue_at(since: Instant) -> Instant {
    since + INTENT_MAX
}

/// Where the claims of a node are in the index.
const fn claims_of(node: NodeId) -> RangeInclusive<(NodeId, FactKey)> {
    (node, FactKey::Claim(0, 0))..=(node, FactKey::Claim(u64::MAX, u64::MAX))
}

/// The claims of one slot, in the order of claimants and revisions. Mostly there is one, so they are no tree.
type OfSlot = Vec<((NodeId, u64), Held)>;

/// The claims of all other nodes, by slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    slots: BTreeMap<SlotId, OfSlot>,
    /// Where a node's facts of a name are, for withdrawals that only give the name.
    index: BTreeMap<(NodeId, FactKey), SlotId>,
    /// The life of each node that has said all it holds.
    complete: BTreeMap<NodeId, Incarnation>,
    /// Up to which number each node has taken back claims: an announcement of before must not bring one back.
    taken_back: BTreeMap<NodeId, (Incarnation, u64)>,
    /// The claims about which time alone changes something: nobody looks at the others when it passes.
    unsettled: BTreeSet<(NodeId, FactKey)>,
    /// The slots of which a claim has come, gone or changed since somebody looked, and the nodes whose claims have.
    touched: (BTreeSet<SlotId>, BTreeSet<NodeId>),
}

fn find(claims: &OfSlot, key: (NodeId, u64)) -> Result<usize, usize> {
    claims.binary_search_by(|(other, _)| other.cmp(&key))
}

impl Book {
    /// A claim arrived, by gossip (`confirmed`) or directly. Each may overtake the other, and either may be repeated: what counts
    /// is the claimant's own number.
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
        // Of two slots that have one name in gossip the later word counts.
        let namesake = self.index.get(&(node, key)).filter(|slot| **slot != claim.slot).cloned();
        if let Some(slot) = namesake {
            self.remove(&slot, node, claim.revision.id);
        }
        let is_new = !self.index.contains_key(&(node, key));
        if is_new && self.index.range(claims_of(node)).count() >= CLAIMS_MAX {
            return;
        }
        let said = confirmed.then_some(claim.seq);
        let place = (node, claim.revision.id);
        let of_slot = self.slots.get_mut(&claim.slot);
        let before = of_slot.and_then(|it| find(it, place).ok().and_then(|at| it.get_mut(at)));
        if let Some((_, held)) = before {
            if (held.incarnation, held.claim.seq) > (incarnation, claim.seq) {
                if held.incarnation == incarnation {
                    held.confirmed = held.confirmed.max(said);
                }
                let is_settled = held.is_settled();
                return self.note(node, key, is_settled);
            }
            if held.claim != claim || held.incarnation != incarnation {
                self.touched.0.insert(claim.slot.clone());
                self.touched.1.insert(node);
            }
            let is_same_life = held.incarnation == incarnation;
            if !is_same_life || held.claim.phase != claim.phase {
                held.since = now;
            }
            let confirmed_before = held.confirmed.filter(|_| is_same_life);
            (held.incarnation, held.put, held.claim) = (incarnation, now, claim);
            held.confirmed = confirmed_before.max(said);
            let is_settled = held.is_settled();
            return self.note(node, key, is_settled);
        }
        let taken_back = self.taken_back.get(&node).copied();
        if !confirmed && taken_back.is_some_and(|last| (incarnation, claim.seq) <= last) {
            return;
        }
        self.index.insert((node, key), claim.slot.clone());
        self.touch(&claim.slot.clone(), node);
        let claims = self.slots.entry(claim.slot.clone()).or_default();
        let held = Held { incarnation, since: now, confirmed: said, put: now, claim };
        let is_settled = held.is_settled();
        let at = find(claims, place).unwrap_or_else(|at| at);
        claims.reserve_exact(1);
        claims.insert(at, (place, held));
        self.note(node, key, is_settled);
    }

    fn touch(&mut self, slot: &SlotId, node: NodeId) {
        self.touched.0.insert(slot.clone());
        self.touched.1.insert(node);
    }

    fn note(&mut self, node: NodeId, key: FactKey, is_settled: bool) {
        if is_settled {
            self.unsettled.remove(&(node, key));
        } else {
            self.unsettled.insert((node, key));
        }
    }

    /// The slots of which a claim has come, gone or changed since the last call, and the nodes whose claims have.
    pub(crate) fn take_touched(&mut self) -> (BTreeSet<SlotId>, BTreeSet<NodeId>) {
        std::mem::take(&mut self.touched)
    }

    /// Whether nobody has looked at what has come, gone or changed.
    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.0.is_empty()
    }

    /// What `node` claims counts more or less than before.
    pub(crate) fn touch_all_of(&mut self, node: NodeId) {
        let slots: Vec<SlotId> = self.slots_of(node).into_iter().cloned().collect();
        self.touched.0.extend(slots);
    }

    /// A node took a fact back.
    pub(crate) fn withdraw(&mut self, node: NodeId, incarnation: Incarnation, key: FactKey) {
        let FactKey::Claim(_, revision) = key else { return };
        let Some(slot) = self.index.get(&(node, key)).cloned() else { return };
        let claims = self.slots.get_mut(&slot);
        let found =
            claims.and_then(|it| find(it, (node, revision)).ok().and_then(|at| it.get_mut(at)));
        let Some((_, held)) = found else { return };
        if held.incarnation > incarnation {
            return;
        }
        if held.confirmed.is_some_and(|confirmed| confirmed < held.claim.seq) {
            // Gossip has not come to what is known already, so it may be an earlier claim that was taken back.
            held.confirmed = None;
            return self.note(node, key, false);
        }
        let last = (held.incarnation, held.claim.seq);
        let taken_back = self.taken_back.entry(node).or_insert(last);
        *taken_back = last.max(*taken_back);
        self.remove(&slot, node, revision);
    }

    /// A node in this life has said all that it holds: what it said in earlier lives is void. Until then the claims of the
    /// earlier life stand, for a restart of an agent moves nothing (promise P6).
    pub(crate) fn complete(&mut self, node: NodeId, incarnation: Incarnation) {
        if self.complete.get(&node).is_some_and(|complete| *complete >= incarnation) {
            return;
        }
        self.complete.insert(node, incarnation);
        self.retain_of(node, |held| held.incarnation >= incarnation);
    }

    /// Whether a node has said all that it holds, in any life.
    pub(crate) fn is_complete(&self, node: NodeId) -> bool {
        self.complete.contains_key(&node)
    }

    /// A node is no member any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.complete.remove(&node);
        self.taken_back.remove(&node);
        self.retain_of(node, |_| false);
    }

    /// Forgets announcements of which gossip never heard, and notes which claimants have kept others waiting for too long. Returns when
    /// time alone will change something about a claim.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut gone = Vec::new();
        let mut overdue = Vec::new();
        for (node, key) in &self.unsettled {
            let Some((slot, held)) = self.at(*node, *key) else { continue };
            if held.expires().is_some_and(|expires| expires <= now) {
                gone.push((slot.clone(), *node, held.claim.revision.id));
                continue;
            }
            if held.is_overdue(now) {
                overdue.push(slot.clone());
            }
            let moments = [held.expires(), held.waits_until()].into_iter().flatten();
            next = moments.chain(next).filter(|moment| *moment > now).min();
        }
        for (slot, node, revision) in gone {
            self.remove(&slot, node, revision);
        }
        self.touched.0.extend(overdue);
        next
    }

    fn at(&self, node: NodeId, key: FactKey) -> Option<(&SlotId, &Held)> {
        let FactKey::Claim(_, revision) = key else { return None };
        let slot = self.index.get(&(node, key))?;
        let claims = self.slots.get(slot)?;
        let at = find(claims, (node, revision)).ok()?;
        claims.get(at).map(|(_, held)| (slot, held))
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

    /// The slots of which `node` claims something.
    pub(crate) fn slots_of(&self, node: NodeId) -> BTreeSet<&SlotId> {
        self.index.range(claims_of(node)).map(|(_, slot)| slot).collect()
    }

    /// The slots that `node` holds, by its own word.
    pub(crate) fn held_by(&self, node: NodeId) -> BTreeSet<&SlotId> {
        let claims = self.index.range(claims_of(node));
        let held = claims.filter_map(|((_, key), _)| self.at(node, *key));
        held.filter(|(_, held)| held.claim.phase.holds()).map(|(slot, _)| slot).collect()
    }

    /// All slots of which anything is known.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &SlotId> {
        self.slots.keys()
    }

    fn remove(&mut self, slot: &SlotId, node: NodeId, revision: u64) {
        if let Some(claims) = self.slots.get_mut(slot) {
            if let Ok(at) = find(claims, (node, revision)) {
                claims.remove(at);
            }
            if claims.is_empty() {
                self.slots.remove(slot);
            }
        }
        let key = FactKey::Claim(slot.digest().head(), revision);
        self.index.remove(&(node, key));
        self.unsettled.remove(&(node, key));
        self.touch(slot, node);
    }

    /// Keeps those claims of `node` that are to be kept.
    fn retain_of(&mut self, node: NodeId, keep: impl Fn(&Held) -> bool) {
        let claims = self.index.range(claims_of(node));
        let dropped: Vec<(SlotId, u64)> = claims
            .filter_map(|((_, key), _)| self.at(node, *key))
            .filter(|(_, held)| !keep(held))
            .map(|(slot, held)| (slot.clone(), held.claim.revision.id))
            .collect();
        for (slot, revision) in dropped {
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
        let slot = SlotId {
            app: AppUid([0; 16]),
            service: "web".parse().unwrap(),
            index: SlotIndex::Number(number),
        };
        let intent = Claim::intent(slot, Revision { number: 1, id: 1 }, 0);
        Claim { phase: Phase::Ready, seq: 1, ..intent }
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
