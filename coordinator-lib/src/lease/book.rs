//! What other nodes claim, as far as this one has heard.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fact::{Claim, FactKey, Phase};
use crate::id::{Incarnation, NodeId, SlotId};
use crate::time::Instant;

/// A claim that was announced directly and that gossip has not confirmed after this time was taken back in between.
const UNCONFIRMED_TTL: Duration = Duration::from_secs(10);
/// A claimant that only intends for so long has no room to start (C8): somebody else may.
pub(super) const INTENT_MAX: Duration = Duration::from_secs(10);

/// Somebody else's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    incarnation: Incarnation,
    /// Since when it is in its phase, as seen here.
    pub(crate) since: Instant,
    /// False while it is known only by a direct announcement.
    confirmed: bool,
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
    /// A claim arrived, by gossip (`confirmed`) or directly.
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
        let claims = self.slots.entry(claim.slot.clone()).or_default();
        let before =
            claims.get(&(node, claim.revision.id)).filter(|held| held.incarnation == incarnation);
        // An announcement may overtake or be overtaken by gossip; a phase never goes back to an intent.
        let stale = before.is_some_and(|held| {
            !confirmed && claim.phase == Phase::Intent && held.claim.phase != Phase::Intent
        });
        if stale {
            return;
        }
        let same_phase = before.filter(|held| held.claim.phase == claim.phase);
        let since = same_phase.map_or(now, |held| held.since);
        let confirmed = confirmed || before.is_some_and(|held| held.confirmed);
        self.index.insert((node, key), claim.slot.clone());
        claims.insert((node, claim.revision.id), Held { claim, incarnation, since, confirmed });
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

    /// Drops announcements that gossip never confirmed.
    pub(crate) fn expire(&mut self, now: Instant) {
        let due = |held: &Held| !held.confirmed && now.since(held.since) >= UNCONFIRMED_TTL;
        if self.slots.values().any(|claims| claims.values().any(due)) {
            self.retain(|_, held| !due(held));
        }
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
