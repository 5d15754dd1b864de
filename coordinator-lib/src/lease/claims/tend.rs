//! What becomes of the claims that this node has.

use std::time::Duration;

use super::super::mine::{Hold, Mine, bounded};
use super::{Claims, DRAIN, Effect, Strays, World, push_jobs};
use crate::event::Severity;
use crate::fact::Phase;
use crate::id::{SlotId, SlotIndex};
use crate::placement::{Place, lasting_obstacles};
use crate::rules::Rule;
use crate::spec::Template;
use crate::time::Instant;

/// A replica that is not ready after this time, on top of the start period of its health check, failed (C6).
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);
/// A replica that is unhealthy for so long wants to be relieved (C13).
pub(crate) const UNHEALTHY_MAX: Duration = Duration::from_secs(30);
/// A replica that is unhealthy for so long and found nobody to relieve it is stopped, and started again after the pause: the
/// same chance that it would have had elsewhere.
const HOPELESS_MAX: Duration = Duration::from_secs(90);
/// The pause after the first failure; it doubles with each further one (C6).
const COOL_DOWN_MIN: Duration = Duration::from_secs(5);
/// The longest pause.
const COOL_DOWN_MAX: Duration = Duration::from_secs(300);
/// After so long without a failure the next one counts as the first: twice the longest pause.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// A replica of an app that nobody has heard of is stopped after this time: the catalogue may still be on its way.
const STRAY_GRACE: Duration = Duration::from_secs(30);

/// What the catalogue says of a claim.
enum Duty {
    /// It is as it should be, or a newer definition will replace it.
    Stay,
    /// It should be somewhere else.
    Yield,
    /// It must go, whether anybody takes over or not.
    Leave(&'static str),
    /// Nothing is known of its app.
    Stray,
}

impl Claims {
    pub(super) fn tend(&mut self, world: &World<'_>, out: &mut Vec<Effect>) {
        let now = world.now;
        let keys: Vec<(SlotId, u64)> = self.mine.keys().cloned().collect();
        let here = world.place(self.me, self.me).filter(|_| !keys.is_empty());
        for key in keys {
            let Some(mine) = self.mine.get_mut(&key) else { continue };
            let mut jobs = Vec::new();
            mine.workload.on_time(now, &mut jobs);
            match mine.hold {
                Hold::Draining { until } if until <= now => {
                    mine.hold = Hold::Leaving;
                    mine.workload.stop(&mut jobs);
                }
                Hold::Failed { until } if until <= now => {
                    mine.hold = Hold::Leaving;
                    mine.workload.stop(&mut jobs);
                }
                Hold::Draining { until } => self.wake_at(now, until),
                Hold::Failed { until } => {
                    self.wake_at(now, until);
                    // What is not wanted any more needs no chance later on.
                    if let Duty::Leave(why) = self.duty(world, &key, here.as_ref()) {
                        self.leave(now, &key, Duration::ZERO, why, out);
                    }
                }
                Hold::Leaving => {}
                Hold::Intent { .. } | Hold::Held => self.hold(world, &key, here.as_ref(), out),
            }
            let Some(mine) = self.mine.get(&key) else { continue };
            let (deadline, revision) = (mine.workload.next_deadline(), mine.claim.revision);
            push_jobs(&key.0, revision, jobs, out);
            if let Some(deadline) = deadline {
                self.wake_at(now, deadline);
            }
        }
    }

    /// A claim that is held: does it have to go, wants it to be relieved, has it failed, may it start?
    fn hold(
        &mut self,
        world: &World<'_>,
        key: &(SlotId, u64),
        here: Option<&Place>,
        out: &mut Vec<Effect>,
    ) {
        let now = world.now;
        let Some(mine) = self.mine.get_mut(key) else { return };
        mine.refresh(now);
        let duty = self.duty(world, key, here);
        if !matches!(duty, Duty::Stray)
            && let Some(template) = Self::template(world, key)
            && let Some(mine) = self.mine.get_mut(key)
        {
            mine.stray = None;
            mine.workload.recognise(now, template);
            mine.refresh(now);
        }
        match duty {
            Duty::Leave(why) => return self.leave(now, key, DRAIN, why, out),
            Duty::Stray => return self.stray(world, key, out),
            Duty::Yield => self.set_yielding(key, true),
            Duty::Stay => {
                let sick = self.is_sick(world, key);
                self.set_yielding(key, sick);
            }
        }
        let Some(mine) = self.mine.get(key) else { return };
        let is_exclusive = Self::is_exclusive(world, mine);
        if is_exclusive && self.lapses(world, key, out) {
            return;
        }
        if self.fails(world, key, out) || (!is_exclusive && self.gives_way(world, key, out)) {
            return;
        }
        let Some(mine) = self.mine.get_mut(key) else { return };
        if let Hold::Intent { until } = mine.hold {
            if world.warm && mine.workload.has_ended() {
                // There is nothing to start.
                mine.hold = Hold::Held;
            }
            self.wake_at(now, until);
        }
    }

    fn duty(&self, world: &World<'_>, key: &(SlotId, u64), here: Option<&Place>) -> Duty {
        let slot = &key.0;
        if !world.state.nodes.contains_key(&self.me) && world.state.removed_nodes.contains(&self.me)
        {
            return Duty::Leave("this node was removed from the mesh");
        }
        let Some(app) = world.state.apps.get(&slot.app) else {
            return if world.state.removed_apps.contains(&slot.app) {
                Duty::Leave("the app was removed")
            } else if world.state.parked.contains_key(&slot.app) {
                Duty::Leave("the app is parked: another one of its name runs")
            } else {
                Duty::Stray
            };
        };
        if !app.wants(slot) && world.rules.hold(Rule::StopUnwanted) {
            return Duty::Leave(if app.running {
                "the slot is not wanted any more"
            } else {
                "the app is stopped"
            });
        }
        let Some(spec) = app.release.spec.service(&slot.service) else { return Duty::Stray };
        let Some(here) = here else { return Duty::Stay };
        if lasting_obstacles(slot, spec, here).is_empty() {
            return Duty::Stay;
        }
        match slot.index {
            // C11 needs somebody to take over, and nobody can take over what belongs to this node.
            SlotIndex::Node(_) => Duty::Leave("this node does not suit the service any more"),
            SlotIndex::Number(_) if !world.rules.hold(Rule::YieldServes) => {
                Duty::Leave("this node does not suit the service any more")
            }
            SlotIndex::Number(_) => Duty::Yield,
        }
    }

    /// The catalogue does not know the app, and did not remove it either.
    fn stray(&mut self, world: &World<'_>, key: &(SlotId, u64), out: &mut Vec<Effect>) {
        let now = world.now;
        let Some(mine) = self.mine.get_mut(key) else { return };
        let until = *mine.stray.get_or_insert(now) + STRAY_GRACE;
        if !world.warm || world.strays == Strays::Keep || until > now {
            self.wake_at(now, until);
        } else {
            self.leave(now, key, Duration::ZERO, "no app of the catalogue covers it", out);
        }
    }

    fn set_yielding(&mut self, key: &(SlotId, u64), yielding: bool) {
        if let Some(mine) = self.mine.get_mut(key) {
            // What has ended serves nobody: whoever took it over would run it again.
            mine.claim.yielding = yielding && mine.claim.phase != Phase::Ended;
        }
    }

    /// C13: unhealthy for too long.
    fn is_sick(&mut self, world: &World<'_>, key: &(SlotId, u64)) -> bool {
        let since = self.mine.get(key).and_then(|mine| mine.workload.unhealthy_since());
        let Some(since) = since else { return false };
        self.wake_at(world.now, since + UNHEALTHY_MAX);
        world.now.since(since) >= UNHEALTHY_MAX
    }

    /// C6, C13: a claim that does not get ready is given up for a while. Returns true when it was.
    fn fails(&mut self, world: &World<'_>, key: &(SlotId, u64), out: &mut Vec<Effect>) -> bool {
        let now = world.now;
        let patience = READY_MAX + Self::template(world, key).map_or(Duration::ZERO, start_period);
        let Some(mine) = self.mine.get(key) else { return false };
        let slow = mine.hold == Hold::Held
            && mine.claim.phase == Phase::Starting
            && !mine.workload.is_queued();
        let deadline = mine.unready.map(|unready| unready + patience).filter(|_| slow);
        let overdue = deadline.is_some_and(|deadline| deadline <= now);
        let hopeless = mine.workload.unhealthy_since().map(|since| since + HOPELESS_MAX);
        let given_up = hopeless.is_some_and(|hopeless| hopeless <= now);
        if (!mine.workload.is_broken() && !overdue && !given_up) || !world.rules.hold(Rule::GiveUp)
        {
            for deadline in deadline.into_iter().chain(hopeless) {
                self.wake_at(now, deadline);
            }
            return false;
        }
        let reason = match mine.workload.detail() {
            detail if given_up => {
                let time = HOPELESS_MAX.as_secs();
                format!("unhealthy for {time} s, and nobody could take over; {detail}")
            }
            "" => match mine.workload.last_check() {
                "" => format!("not ready after {} s", patience.as_secs()),
                check => format!("not ready after {} s; {check}", patience.as_secs()),
            },
            detail => detail.to_owned(),
        };
        self.give_up(now, key, &reason, out);
        true
    }

    pub(super) fn give_up(
        &mut self,
        now: Instant,
        key: &(SlotId, u64),
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        // Ready for a moment is no success: without a health check every start is ready at once.
        self.failures.retain(|_, (_, at)| now.since(*at) < FORGIVEN_AFTER);
        let (failures, at) = self.failures.entry(key.clone()).or_insert((0, now));
        let factor = 1_u32.checked_shl(*failures).unwrap_or(u32::MAX);
        *failures = failures.saturating_add(1);
        *at = now;
        let pause = COOL_DOWN_MIN.saturating_mul(factor).min(COOL_DOWN_MAX);
        let Some(mine) = self.mine.get_mut(key) else { return };
        mine.hold = Hold::Failed { until: now + pause };
        mine.claim.detail = bounded(reason);
        let mut jobs = Vec::new();
        mine.workload.halt(&mut jobs);
        push_jobs(&key.0, mine.claim.revision, jobs, out);
        out.push(Effect::Note(
            key.0.clone(),
            Some(Severity::Error),
            format!("gives up for {} s: {reason}", pause.as_secs()),
        ));
        self.wake_at(now, now + pause);
    }

    fn template<'a>(world: &World<'a>, key: &(SlotId, u64)) -> Option<&'a Template> {
        let app = world.state.apps.get(&key.0.app)?;
        Some(&app.release.spec.service(&key.0.service)?.template)
    }
}

fn start_period(template: &Template) -> Duration {
    template.healthcheck.as_ref().map_or(Duration::ZERO, |check| check.start_period)
}

impl Mine {
    /// Whether a promise to go on binds it.
    pub(super) fn is_bound(&self, now: Instant) -> bool {
        self.kept_until > now
    }
}
