//! Two claims of one slot: who gives way, and that nobody stops before the other serves.
//!
//! The handshake keeps a promise by itself, whatever the two think of their order: who gives a `Keep` does not stop by itself
//! for [`KEEP`], who asks acts on the answer only within [`PATIENCE`] of asking, and nobody gives a `Keep` while asking for one.
//! So at the moment at which one stops, the other is ready and bound to go on (C5; the theorem in `LEASES.md`).

use std::time::Duration;

use super::super::mine::{Asked, Mine};
use super::super::order::{Contender, best, outranks};
use super::{Claims, DRAIN, Effect, World};
use crate::fact::{Claim, Phase};
use crate::id::{NodeId, Revision, SlotId};
use crate::rules::Rule;
use crate::time::Instant;

/// An answer counts for so long after the question.
const PATIENCE: Duration = Duration::from_secs(2);
/// A promise binds for so long: twice the patience, so that no difference between two clocks' rates can matter.
const KEEP: Duration = Duration::from_secs(4);
/// The pause between two questions; only the answer to the last one counts, so it is longer than any round trip.
const ASK_PAUSE: Duration = Duration::from_secs(1);

impl Claims {
    /// Gives way to a better claim, if there is one. Returns true when the claim was let go.
    pub(super) fn gives_way(
        &mut self,
        world: &World<'_>,
        key: &(SlotId, u64),
        out: &mut Vec<Effect>,
    ) -> bool {
        let now = world.now;
        let Some(current) = world.current(&key.0) else { return false };
        let Some(mine) = self.mine.get(key) else { return false };
        let is_current = mine.claim.revision == current;
        match mine.claim.phase {
            Phase::Intent | Phase::Starting | Phase::Ended => {
                let Some(why) = self.abort_reason(world, key, current, is_current) else {
                    return false;
                };
                self.leave(now, key, Duration::ZERO, why, out);
                true
            }
            Phase::Ready | Phase::Unhealthy => self.seek_relief(world, key, current, out),
            Phase::Failed | Phase::Released => false,
        }
    }

    /// Why a claim that does not serve should not go on; `None` when it should.
    fn abort_reason(
        &self,
        world: &World<'_>,
        key: &(SlotId, u64),
        current: Revision,
        is_current: bool,
    ) -> Option<&'static str> {
        let mine = self.mine.get(key)?;
        let me = world.contender(self.me, &mine.claim);
        let (leavers, rivals) = self.rivals(world, &key.0, current);
        let ready = |rival: &Contender<'_>| rival.claim.phase == Phase::Ready;
        let started = |rival: &Contender<'_>| rival.claim.phase != Phase::Intent;
        // Also one that wants to go: it goes on until it is relieved, and nobody relieves it while this one holds the slot.
        let serves = leavers.iter().any(ready);
        if !is_current || mine.claim.yielding {
            let next = self.mine.get(&(key.0.clone(), current.id)).filter(|_| !is_current);
            let relieved = serves
                || rivals.iter().any(started)
                || next.is_some_and(|next| next.is_held() && next.claim.phase != Phase::Intent)
                || (!is_current && mine.claim.phase == Phase::Intent);
            return relieved.then_some("a newer claim takes over, and this one does not serve");
        }
        let (intent, abort) = (world.rules.hold(Rule::Intent), world.rules.hold(Rule::AbortWorse));
        match mine.claim.phase {
            Phase::Intent if !intent => None,
            Phase::Intent if mine.is_overdue(world.now) && rivals.iter().any(started) => {
                Some("somebody else had room to start it")
            }
            Phase::Starting | Phase::Ended if !abort => None,
            Phase::Intent if rivals.iter().any(ready) => Some("somebody serves it already"),
            Phase::Intent if rivals.iter().any(|rival| outranks(rival, &me)) => {
                Some("a better claim exists")
            }
            Phase::Starting
                if rivals.iter().any(|rival| started(rival) && outranks(rival, &me)) =>
            {
                Some("a better claim exists")
            }
            // Nobody asks one that has ended, so it must not wait for a worse one to ask.
            Phase::Ended
                if serves || rivals.iter().any(|rival| ready(rival) || outranks(rival, &me)) =>
            {
                Some("another claim serves, or is better")
            }
            Phase::Intent
            | Phase::Starting
            | Phase::Ready
            | Phase::Unhealthy
            | Phase::Ended
            | Phase::Failed
            | Phase::Released => None,
        }
    }

    /// A claim that serves asks before it goes.
    fn seek_relief(
        &mut self,
        world: &World<'_>,
        key: &(SlotId, u64),
        current: Revision,
        out: &mut Vec<Effect>,
    ) -> bool {
        let now = world.now;
        let Some(mine) = self.mine.get(key) else { return false };
        let is_current = mine.claim.revision == current;
        if !world.rules.hold(Rule::SeekRelief) {
            return false;
        }
        if mine.is_bound(now) && world.rules.hold(Rule::HonourKeep) {
            let until = mine.kept_until;
            self.wake_at(now, until);
            return false;
        }
        // The successor on this node needs no letter.
        if let Some(successor) = self.successor(key, current) {
            if let Some(next) = self.mine.get_mut(&successor) {
                next.kept_until = now + KEEP;
            }
            self.leave(now, key, DRAIN, "its successor on this node serves", out);
            return true;
        }
        let Some(mine) = self.mine.get(key) else { return false };
        let me = world.contender(self.me, &mine.claim);
        let serves = mine.claim.phase == Phase::Ready;
        let any = !is_current || mine.claim.yielding;
        let ready = |rival: &Contender<'_>| rival.claim.phase == Phase::Ready;
        let better = |rival: &Contender<'_>| outranks(rival, &me);
        // One that is later than the catalogue's may be made up, or its record is still on its way.
        let later = |rival: &Contender<'_>| {
            let (its, own) = (rival.claim.revision, mine.claim.revision);
            its.number <= current.number && (its > own || (its == own && better(rival)))
        };
        let (leaving, staying) = self.rivals(world, &key.0, current);
        let (leaving, staying) =
            (leaving.into_iter().filter(ready), staying.into_iter().filter(ready));
        // Where all want to go and nobody comes, and where no node can hold the current definition, one of them is enough.
        let outdated = self.contenders(world, &key.0).filter(ready).filter(later);
        let reliever = best(staying.filter(|rival| any || better(rival)))
            .or_else(|| best(leaving.filter(|it| any && (!is_current || !serves || better(it)))))
            .or_else(|| best(outdated.filter(|_| !is_current)))
            .map(|rival| (rival.node, rival.claim.revision));
        let Some((reliever, revision)) = reliever else {
            if let Some(mine) = self.mine.get_mut(key) {
                mine.asked = None;
            }
            return false;
        };
        if !world.rules.hold(Rule::AwaitKeep) {
            self.leave(now, key, DRAIN, "a better claimant serves", out);
            return true;
        }
        self.ask(now, key, reliever, revision, out);
        false
    }

    fn ask(
        &mut self,
        now: Instant,
        key: &(SlotId, u64),
        to: NodeId,
        revision: Revision,
        out: &mut Vec<Effect>,
    ) {
        self.nonce = self.nonce.wrapping_add(1);
        let nonce = self.nonce;
        let Some(mine) = self.mine.get_mut(key) else { return };
        let due = mine.asked.is_none_or(|asked| asked.to != to || now.since(asked.at) >= ASK_PAUSE);
        if due {
            mine.asked = Some(Asked { nonce, to, at: now });
            out.push(Effect::Ask { to, slot: key.0.clone(), revision, nonce });
        }
        let next = mine.asked.map_or(now, |asked| asked.at) + ASK_PAUSE;
        self.wake_at(now, next);
    }

    /// Somebody asks whether it may stop, because this node serves the slot.
    pub(crate) fn on_yield(
        &mut self,
        world: &World<'_>,
        from: NodeId,
        slot: &SlotId,
        revision: Revision,
        nonce: u64,
        out: &mut Vec<Effect>,
    ) {
        let now = world.now;
        let Some(mine) = self.mine.get_mut(&(slot.clone(), revision.id)) else { return };
        self.look.stir();
        mine.refresh(now);
        let asking = mine.asked.is_some_and(|asked| now.since(asked.at) < PATIENCE);
        let serves = (mine.is_held() && mine.is_proven()) || !world.rules.hold(Rule::KeepOnlyReady);
        if world.warm && serves && !asking {
            mine.kept_until = now + KEEP;
            out.push(Effect::Keep { to: from, slot: slot.clone(), nonce });
        }
    }

    /// A better claimant promised to go on.
    pub(crate) fn on_keep(
        &mut self,
        now: Instant,
        from: NodeId,
        slot: &SlotId,
        nonce: u64,
        out: &mut Vec<Effect>,
    ) {
        let answered = |asked: Option<Asked>| {
            asked.is_some_and(|asked| {
                asked.nonce == nonce && asked.to == from && now.since(asked.at) < PATIENCE
            })
        };
        let key = self
            .mine
            .iter()
            .find(|((other, _), mine)| other == slot && answered(mine.asked))
            .map(|(key, _)| key);
        let Some(key) = key.cloned() else { return };
        self.look.stir();
        if self.mine.get(&key).is_some_and(|mine| !mine.is_bound(now)) {
            self.leave(now, &key, DRAIN, "a better claimant serves", out);
        }
    }

    /// K4: this node's own claim that serves in the place of `key`: of the current revision, else of a later one.
    fn successor(&self, key: &(SlotId, u64), current: Revision) -> Option<(SlotId, u64)> {
        let revision = self.mine.get(key)?.claim.revision;
        let serves = |mine: &&Mine| mine.is_held() && mine.is_proven();
        let next = self.of_slot(&key.0).filter(serves).map(|mine| mine.claim.revision);
        next.filter(|next| revision != current && (*next == current || *next > revision))
            .max_by_key(|next| (*next == current, *next))
            .map(|next| (key.0.clone(), next.id))
    }

    /// Claims of the current revision by others: those that want to be relieved themselves, and those that stay.
    fn rivals<'a>(
        &'a self,
        world: &'a World<'_>,
        slot: &SlotId,
        current: Revision,
    ) -> (Vec<Contender<'a>>, Vec<Contender<'a>>) {
        let of_current = |it: &Contender<'_>| it.claim.revision == current;
        self.contenders(world, slot).filter(of_current).partition(|it| it.claim.yielding)
    }

    /// Claims by others that hold the slot.
    fn contenders<'a>(
        &'a self,
        world: &'a World<'_>,
        slot: &SlotId,
    ) -> impl Iterator<Item = Contender<'a>> {
        let others = self
            .book
            .of(slot)
            .filter(|(node, held)| world.stands(*node, held) && held.claim.phase.holds());
        others.map(move |(node, held)| world.contender(node, &held.claim))
    }
}

impl World<'_> {
    fn contender<'a>(&self, node: NodeId, claim: &'a Claim) -> Contender<'a> {
        Contender {
            node,
            weight: self.state.nodes.get(&node).map_or(100, |node| node.weight),
            claim,
        }
    }

    /// The current revision of the slot's service; `None` when its app is not known.
    fn current(&self, slot: &SlotId) -> Option<Revision> {
        let app = self.state.apps.get(&slot.app)?;
        let spec = app.release.spec.service(&slot.service)?;
        Some(app.revision(&slot.service, spec))
    }
}
