//! Claims of exclusive slots: each follows a lease, which decides alone. What is known of other claims says only whether it is worth asking.
//!
//! ```text
//!   nobody holds it ──▶ seek, by rank ──▶ acquired ──▶ held ──▶ stop ──▶ gone ──▶ release ──▶ the next one seeks
//!                                                       └── lapsed ──▶ stop ───────┘
//! ```
//! There are no intents and nobody asks to be relieved: two never hold the slot, so nothing can start before the other has stopped.

use std::time::Duration;

use super::super::mine::{Hold, Mine};
use super::super::need::Need;
use super::places::Stage;
use super::seek::Vacancy;
use super::{Claims, Effect, World};
use crate::event::Severity;
use crate::fact::Claim;
use crate::id::SlotId;
use crate::rules::Rule;
use crate::workload::Workload;

/// When one slot of a service is handed over, the next one waits for it so long: until the lease of a lost holder has ended, as a rule.
/// Where most witnesses of a slot are lost it would wait for ever.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);

impl Claims {
    /// Whether a claim of this node follows a lease.
    pub(super) fn is_exclusive(world: &World<'_>, mine: &Mine) -> bool {
        let slot = &mine.claim.slot;
        let app = world.state.apps.get(&slot.app);
        let spec = app.and_then(|app| app.release.spec.service(&slot.service));
        mine.claim.token.is_some() || spec.is_some_and(|spec| spec.guarantee.is_exclusive())
    }

    /// Whether a replica may be started by this claim.
    pub(super) fn may_run(world: &World<'_>, mine: &Mine) -> bool {
        if !Self::is_exclusive(world, mine) {
            return true;
        }
        let token = mine.claim.token;
        token.is_some() && world.leases.acquired(world.reading, &mine.claim.slot) == token
    }

    /// L-start: whether a replica that is started now has more time than its end takes. What its guard has just told to end is not started
    /// again by what is left of the lease.
    pub(super) fn has_time(world: &World<'_>, mine: &Mine) -> bool {
        let fence = world.leases.fence(&mine.claim.slot).filter(|_| mine.claim.token.is_some());
        fence.is_none_or(|fence| !world.reading.may_be_past(fence.stop))
    }

    /// H5, H8, L-later: a claim whose lease is over ends, unless a former life of this agent held it and it may be resumed. Returns true
    /// when it was let go.
    pub(super) fn lapses(
        &mut self,
        world: &World<'_>,
        key: &(SlotId, u64),
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(mine) = self.mine.get(key) else { return false };
        if world.rules.hold(Rule::YieldToLater) && self.is_outlived(world, mine) {
            self.leave(world.now, key, Duration::ZERO, "another holds it by a later token", out);
            return true;
        }
        if Self::may_run(world, mine) || !world.rules.hold(Rule::FollowLease) {
            return false;
        }
        let resumes = world.leases.is_resuming(world.reading, &key.0)
            && world.leases.acquired(world.reading, &key.0).is_none();
        if resumes && mine.claim.token.is_some() {
            return false;
        }
        self.leave(world.now, key, Duration::ZERO, "its lease is over", out);
        true
    }

    /// L-later: whether somebody holds the slot by a later token. So the lease of this one is over, even if clocks that stood still (those
    /// of a virtual machine that was paused) say otherwise.
    fn is_outlived(&self, world: &World<'_>, mine: &Mine) -> bool {
        mine.claim.token.is_some()
            && self.book.of(&mine.claim.slot).any(|(node, held)| {
                held.claim.token > mine.claim.token
                    && held.claim.phase.holds()
                    && world.stands(node, held)
            })
    }

    /// Seeks the lease of a slot that nobody holds, takes it up when it is there, and hands over one that should be elsewhere. Returns
    /// whether the slots behind this one should wait until it serves.
    pub(super) fn follow_lease(
        &mut self,
        world: &World<'_>,
        vacancy: &Vacancy<'_>,
        is_its_turn: bool,
        stage: &mut Option<Stage>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let &Vacancy { slot, spec, current, need } = vacancy;
        let own = self.of_slot(slot).next().map(|mine| (slot.clone(), mine.claim.revision.id));
        let acquired = world.leases.acquired(world.reading, slot);
        if let Some(token) = acquired.filter(|_| own.is_none()) {
            // Two operators may have disagreed on two sides of a split about whether the service is exclusive. Whoever runs it without
            // a lease stops when it hears better.
            if !self.runs_unleased(world, slot) {
                self.take_up(world, vacancy, token, out);
            }
            return true;
        }
        let patience = self.await_turn(slot, need, world.now).since + HAND_OVER_MAX;
        if need == Need::Nothing {
            if own.is_none() && world.leases.has(slot) {
                out.push(Effect::GiveUp(slot.clone()));
            }
            return true;
        }
        let stage = stage.get_or_insert_with(|| self.stage(world));
        let best = self.best(slot, spec, current, stage.all());
        let possible = !best.first.is_empty() && (need != Need::Holder || world.now < patience);
        // As the slots behind this one will find it; but a slot that nobody gets takes no room from them.
        if possible && let Some(first) = best.first.first() {
            stage.occupy(*first, slot, world.state);
        }
        let others = best.first.iter().any(|node| *node != self.me);
        let position = best.position;
        if need == Need::Holder {
            self.wake_at(world.now, patience);
        }
        if let Some(key) = own {
            self.hand_over(world, &key, (need, is_its_turn, others), out);
            return possible;
        }
        match position.filter(|_| need == Need::Holder && world.warm) {
            Some(position) => {
                let rank = u32::try_from(position).unwrap_or(u32::MAX);
                out.push(Effect::Seek { slot: slot.clone(), rank });
            }
            None if world.leases.has(slot) => out.push(Effect::GiveUp(slot.clone())),
            None => {}
        }
        possible
    }

    /// Whether another node is known to run the slot without a lease.
    fn runs_unleased(&self, world: &World<'_>, slot: &SlotId) -> bool {
        self.book.of(slot).any(|(node, held)| {
            held.claim.token.is_none() && held.claim.phase.holds() && world.stands(node, held)
        })
    }

    /// The lease is there: the replica may start.
    fn take_up(
        &mut self,
        world: &World<'_>,
        vacancy: &Vacancy<'_>,
        token: super::super::exclusive::Token,
        out: &mut Vec<Effect>,
    ) {
        let &Vacancy { slot, spec, current, .. } = vacancy;
        let now = world.now;
        let intent = Claim::intent(slot.clone(), current, self.crowding(slot));
        let claim = Claim { token: Some(token), ..intent };
        let mut mine = Mine::new(claim, Hold::Held, Workload::new(&spec.template), now);
        mine.orphaned = self.last_sign_of_holder(world, slot);
        let text = format!("holds {current} by token {token}");
        out.push(Effect::Note(slot.clone(), Some(Severity::Info), text));
        self.mine.insert((slot.clone(), current.id), mine);
    }

    /// A holder that should not go on lets go, so that the next one may seek: its definition changed and it is its turn, it is sick, or
    /// this node does not suit it any more. Not when no other node suits it either.
    fn hand_over(
        &mut self,
        world: &World<'_>,
        key: &(SlotId, u64),
        (need, is_its_turn, others): (Need, bool, bool),
        out: &mut Vec<Effect>,
    ) {
        let Some(mine) = self.mine.get(key).filter(|mine| mine.is_held()) else { return };
        match need {
            Need::Replacement if is_its_turn => {
                self.leave(world.now, key, Duration::ZERO, "its definition changed", out);
            }
            Need::Relief if others && mine.workload.unhealthy_since().is_some() => {
                self.give_up(world.now, key, "unhealthy, and another node may do better", out);
            }
            Need::Relief if others => {
                self.leave(world.now, key, Duration::ZERO, "another node takes over", out);
            }
            Need::Nothing | Need::Replacement | Need::Relief | Need::Holder => {}
        }
    }

    /// Lets go of leases by which nothing runs: of slots that are not wanted any more, and of replicas that were given up.
    pub(super) fn release_idle(&self, world: &World<'_>, out: &mut Vec<Effect>) {
        let is_wanted = |slot: &SlotId| {
            let app = world.state.apps.get(&slot.app).filter(|app| app.wants(slot));
            let spec = app.and_then(|app| app.release.spec.service(&slot.service));
            spec.is_some_and(|spec| spec.guarantee.is_exclusive())
        };
        for slot in world.leases.slots() {
            let mut mine = self.of_slot(slot).peekable();
            let is_unwanted = mine.peek().is_none() && !is_wanted(slot);
            let is_over = |mine: &Mine| {
                let is_let_go = !mine.is_held() && !world.rules.hold(Rule::ReleaseLast);
                mine.workload.is_broken() || is_let_go
            };
            let is_given_up = mine.peek().is_some() && mine.all(is_over);
            if is_unwanted || is_given_up {
                out.push(Effect::Release(slot.clone()));
            }
        }
    }
}
