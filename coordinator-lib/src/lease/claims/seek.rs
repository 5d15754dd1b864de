//! What this node should take: slots without a holder, and those whose turn to be replaced has come.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::mine::{Hold, Mine};
use super::super::need::{Need, is_renewed, wanted_slots};
use super::heirs::{AUDIENCE, next_of};
use super::look::Scope;
use super::places::Stage;
use super::{Claims, DRAIN, Effect, World};
use crate::catalogue::App;
use crate::fact::{Claim, Phase};
use crate::id::{AppUid, NodeId, Revision, SlotId, SlotIndex};
use crate::name::ServiceName;
use crate::placement::{Best, Obstacle, Place, Ranked, rank, rank_best};
use crate::rules::Rule;
use crate::spec::ServiceSpec;
use crate::time::Instant;
use crate::view::NodeStatus;
use crate::workload::Workload;

/// How long each further rank waits for the one before it (C3): a direct announcement takes milliseconds, a busy machine and a
/// lost packet make it a few hundred.
pub(super) const RANK_DELAY: Duration = Duration::from_millis(300);
/// Ranks beyond this wait no longer: a mesh of 300 must not wait 90 seconds for its last resort.
const RANK_DELAY_STEPS_MAX: u32 = 8;
/// How long a claimant listens for objections before it starts (C4). Several round trips of a local network.
pub(super) const INTENT: Duration = Duration::from_millis(100);
/// How long the holder of a slot that takes ports of its node may go on with an old definition when its turn has come. It lets go
/// as soon as it hears of the new one; one that never does must not keep the slot for ever.
pub(super) const MAKE_ROOM_MAX: Duration = Duration::from_secs(30);
/// How many nodes fetch an image ahead of time, beside the holder.
pub(super) const PREFETCH_RANKS: usize = 2;

/// The pause between two looks at which images to fetch ahead of time.
const AHEAD_PAUSE: Duration = Duration::from_secs(1);
/// At one look no more services are begun with after so many ranks of nodes for slots, which take a few milliseconds.
const AHEAD_RANKS_MAX: usize = 20_000;

/// Which images this node has fetched ahead of time.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    fetched: BTreeSet<String>,
    looked: Instant,
    /// Whether anything has changed since.
    is_stirred: bool,
    /// The services from this one on were not looked at, since those before it took long.
    from: Option<(AppUid, ServiceName)>,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { fetched: BTreeSet::new(), looked: Instant::ZERO, is_stirred: true, from: None }
    }
}

impl Ahead {
    pub(super) const fn stir(&mut self) {
        self.is_stirred = true;
    }
}

/// What passes until this node acts for a slot without a claimant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// What the slot needs.
    pub(super) need: Need,
    /// Since when it needs that.
    pub(super) since: Instant,
    /// How much longer news of other claims take to reach this node.
    news: Duration,
}

impl Wait {
    pub(super) const fn new(need: Need, since: Instant) -> Self {
        Self { need, since, news: Duration::ZERO }
    }

    /// Waits anew when the slot needs something else than before: how long it lacked one thing says nothing of the other.
    pub(super) fn turn_to(&mut self, need: Need, now: Instant) {
        if self.need != need {
            (self.need, self.since) = (need, now);
        }
    }
}

/// A slot that needs a claimant.
pub(super) struct Vacancy<'a> {
    pub(super) slot: &'a SlotId,
    pub(super) spec: &'a ServiceSpec,
    /// The definition that the catalogue wants there.
    pub(super) current: Revision,
    pub(super) need: Need,
}

impl Claims {
    pub(super) fn seek(&mut self, world: &World<'_>, scope: Scope, out: &mut Vec<Effect>) {
        // To know what all nodes hold takes long, and mostly nobody needs to.
        let mut stage = self.any_global().then(|| self.stage(world));
        let nowhere = BTreeMap::new();
        let places = stage.as_ref().map_or(&nowhere, Stage::all);
        let wanted = match &scope {
            Scope::All => wanted_slots(world.state, places.values()),
            Scope::These(slots) => self.wanted_among(world, slots, places),
        };
        match &scope {
            Scope::All => self.look.pressing.clear(),
            Scope::These(slots) => self.look.pressing.retain(|slot| !slots.contains(slot)),
        }
        let mut needed = BTreeSet::new();
        for (app, spec, slots) in &wanted {
            self.seek_some(world, (app, spec, slots), (&mut stage, &mut needed), out);
        }
        let is_needed = |slot: &SlotId| needed.contains(slot);
        match &scope {
            Scope::All => self.needed.retain(|slot, _| is_needed(slot)),
            Scope::These(slots) => {
                let looked = slots.iter().chain(wanted.iter().flat_map(|(_, _, slots)| slots));
                for slot in looked.filter(|slot| !is_needed(slot)) {
                    self.needed.remove(slot);
                }
            }
        }
        if let Some(stage) = stage {
            self.strike_stage(stage);
        }
        self.release_idle(world, out);
    }

    /// Looks at some slots of a service, or at all.
    fn seek_some(
        &mut self,
        world: &World<'_>,
        (app, spec, slots): (&App, &ServiceSpec, &[SlotId]),
        (stage, needed): (&mut Option<Stage>, &mut BTreeSet<SlotId>),
        out: &mut Vec<Effect>,
    ) {
        let Some(first) = slots.first() else { return };
        let current = app.revision(&first.service, spec);
        let mut turn = true;
        for slot in slots {
            let standings = self.standings(world, slot);
            let need = Need::of(&standings, current, world.rules);
            if need == Need::Nothing {
                self.look.pressing.remove(slot);
            } else {
                self.look.pressing.insert(slot.clone());
            }
            let mut possible = true;
            let vacancy = Vacancy { slot, spec, current, need };
            if spec.guarantee.is_exclusive() {
                needed.insert(slot.clone());
                possible = self.follow_lease(world, &vacancy, turn, stage, out);
            } else if need != Need::Nothing && (need != Need::Replacement || turn) {
                needed.insert(slot.clone());
                let stage = stage.get_or_insert_with(|| self.stage(world));
                possible = self.consider(world, &vacancy, stage, out);
            }
            // One replica at a time: the next is replaced when this one serves again. Nobody waits for a slot that no node
            // can hold now.
            turn &=
                is_renewed(&standings, current) || !possible || !world.rules.hold(Rule::OneAtATime);
        }
    }

    /// Takes the slot if this node's time for it has come. Returns whether any node can hold it.
    fn consider(
        &mut self,
        world: &World<'_>,
        vacancy: &Vacancy<'_>,
        stage: &mut Stage,
        out: &mut Vec<Effect>,
    ) -> bool {
        let &Vacancy { slot, spec, current, need } = vacancy;
        let now = world.now;
        let mut room = Duration::ZERO;
        if need == Need::Replacement && spec.host_ports().next().is_some() {
            self.make_room(now, slot, current, out);
            room = MAKE_ROOM_MAX;
        }
        let best = if world.rules.hold(Rule::Spread) {
            self.best(slot, spec, current, stage.all())
        } else {
            self.best_by_score(slot, spec, current, stage.all())
        };
        if let Some(first) = best.first.first() {
            // The slots behind this one rank as if its first had taken it: all come to the same distribution at once.
            stage.occupy(*first, slot, world.state);
        }
        let possible = !best.first.is_empty();
        let position = best.position;
        let wait = self.await_turn(slot, need, now);
        // A node that once ranked too far behind to be told may have missed a claim while it moved up.
        wait.news = wait.news.max(world.news_takes(position));
        let Wait { since, news, .. } = *wait;
        let Some(position) = position else { return possible };
        let steps = u32::try_from(position).unwrap_or(u32::MAX).min(RANK_DELAY_STEPS_MAX);
        let delay = RANK_DELAY.saturating_mul(steps) + news + room;
        let due = if world.rules.hold(Rule::RankDelay) { since + delay } else { since };
        if !world.warm || !world.settled {
            return possible;
        }
        if due > now {
            self.wake_at(now, due);
        } else {
            self.take(world, vacancy, out);
            if let Some(mine) = self.mine.get_mut(&(slot.clone(), current.id)) {
                mine.next = next_of(&best.first, self.me);
            }
            // The slots behind this one find that much less room here, whoever was the first for this one.
            if position > 0 {
                stage.occupy(self.me, slot, world.state);
            }
        }
        possible
    }

    /// Since when the slot has been needing this.
    pub(super) fn await_turn(&mut self, slot: &SlotId, need: Need, now: Instant) -> &mut Wait {
        let wait = self.needed.entry(slot.clone()).or_insert_with(|| Wait::new(need, now));
        wait.turn_to(need, now);
        wait
    }

    /// Takes a slot.
    fn take(&mut self, world: &World<'_>, vacancy: &Vacancy<'_>, out: &mut Vec<Effect>) {
        let &Vacancy { slot, spec, current, need } = vacancy;
        let now = world.now;
        let key = (slot.clone(), current.id);
        if self.mine.contains_key(&key) {
            // What is left of an earlier claim has to go first.
            return;
        }
        let waits = self.book.of(slot).any(|(_, held)| held.is_overdue(now));
        if waits && self.room(world) <= self.n_intents() {
            // It would only wait here instead.
            return;
        }
        let is_first = need == Need::Holder && self.book.of(slot).next().is_none();
        let is_undisputed = is_first || matches!(slot.index, SlotIndex::Node(_));
        let until = if is_undisputed { now } else { now + INTENT };
        self.wake_at(now, until);
        let crowding = self.crowding(slot);
        let mut mine = Mine::new(
            Claim::intent(slot.clone(), current, crowding),
            Hold::Intent { until },
            Workload::new(&spec.template),
            now,
        );
        mine.orphaned = self.last_sign_of_holder(world, slot).filter(|_| need == Need::Holder);
        let why = match need {
            Need::Holder if mine.orphaned.is_some() => "its holder is down",
            Need::Holder => "nobody holds it",
            Need::Relief => "its holder wants to be relieved",
            Need::Replacement => "its definition changed",
            Need::Nothing => "",
        };
        out.push(Effect::Note(
            slot.clone(),
            Some(crate::event::Severity::Info),
            format!("claims {current}: {why}"),
        ));
        self.needed.remove(slot);
        self.mine.insert(key, mine);
    }

    fn n_intents(&self) -> usize {
        self.mine.values().filter(|mine| matches!(mine.hold, Hold::Intent { .. })).count()
    }

    /// When the node that held the slot was last heard; `None` when no claim of a node that is down is known.
    pub(super) fn last_sign_of_holder(&self, world: &World<'_>, slot: &SlotId) -> Option<Instant> {
        let down = self.book.of(slot).filter(|(node, held)| {
            held.claim.phase.holds() && world.membership.status(*node) == Some(NodeStatus::Down)
        });
        down.filter_map(|(node, _)| world.membership.last_heard(node)).max()
    }

    /// Two definitions of a service that takes ports of its node cannot run side by side there: the old one stops first.
    fn make_room(&mut self, now: Instant, slot: &SlotId, current: Revision, out: &mut Vec<Effect>) {
        let stale =
            self.of_slot(slot).find(|mine| mine.claim.revision != current && mine.is_held());
        if let Some(revision) = stale.map(|mine| mine.claim.revision) {
            let key = (slot.clone(), revision.id);
            self.leave(
                now,
                &key,
                DRAIN,
                "its definition changed, and it holds a port of this node",
                out,
            );
        }
    }

    /// All nodes, ranked for `slot` as if nobody held it yet.
    pub(crate) fn ranked(
        &self,
        slot: &SlotId,
        spec: &ServiceSpec,
        current: Revision,
        places: &BTreeMap<NodeId, Place>,
    ) -> Vec<Ranked> {
        let vacated = self.vacated(slot, spec, places);
        let without = places.values().map(|place| vacated.get(&place.id).unwrap_or(place));
        let mut ranked = rank(slot, spec, without);
        let unfit = self.unfit(slot, current);
        for candidate in ranked.iter_mut().filter(|candidate| unfit.contains(&candidate.node)) {
            candidate.obstacles.push(Obstacle::CoolingDown);
        }
        // Stable: the order among those that can hold the slot stays.
        ranked.sort_by_key(|candidate| !candidate.obstacles.is_empty());
        ranked
    }

    /// The first of them that can hold it: as many as are ever told of a claim. And the rank of this node.
    pub(super) fn best(
        &self,
        slot: &SlotId,
        spec: &ServiceSpec,
        current: Revision,
        places: &BTreeMap<NodeId, Place>,
    ) -> Best {
        let vacated = self.vacated(slot, spec, places);
        let without = places.values().map(|place| vacated.get(&place.id).unwrap_or(place));
        let unfit = self.unfit(slot, current);
        let wanted = (self.me, AUDIENCE.saturating_add(1));
        rank_best(slot, spec, without, |node| unfit.contains(&node), wanted)
    }

    /// The same without the rule that replicas are spread (C10).
    fn best_by_score(
        &self,
        slot: &SlotId,
        spec: &ServiceSpec,
        current: Revision,
        places: &BTreeMap<NodeId, Place>,
    ) -> Best {
        let mut ranked = self.ranked(slot, spec, current, places);
        ranked.retain(|it| it.obstacles.is_empty());
        ranked.sort_by_key(|it| std::cmp::Reverse(it.score));
        let position = ranked.iter().position(|it| it.node == self.me);
        Best { first: ranked.into_iter().map(|it| it.node).collect(), position }
    }

    /// The places of those that hold the slot, without it.
    fn vacated(
        &self,
        slot: &SlotId,
        spec: &ServiceSpec,
        places: &BTreeMap<NodeId, Place>,
    ) -> BTreeMap<NodeId, Place> {
        let vacated = |node| Some((node, vacate(places.get(&node)?, slot, spec)));
        self.holders(slot).into_iter().filter_map(vacated).collect()
    }

    /// The nodes that hold the slot, alive or not.
    fn holders(&self, slot: &SlotId) -> BTreeSet<NodeId> {
        let others = self.book.of(slot).filter(|(_, held)| held.claim.phase.holds());
        let own = self.of_slot(slot).filter(|mine| mine.is_held()).map(|_| self.me);
        others.map(|(node, _)| node).chain(own).collect()
    }

    /// Nodes that failed with the slot a moment ago, or that hold it and cannot make it healthy.
    fn unfit(&self, slot: &SlotId, current: Revision) -> BTreeSet<NodeId> {
        let bad = |claim: &Claim| {
            claim.revision == current
                && (claim.phase == Phase::Failed || (claim.yielding && claim.phase.holds()))
        };
        let others = self.book.of(slot).filter(|(_, held)| bad(&held.claim)).map(|(node, _)| node);
        others.chain(self.of_slot(slot).filter(|mine| bad(&mine.claim)).map(|_| self.me)).collect()
    }

    /// Fetches the images of services when this node is among the next in rank for one of their slots. When others have claimed something
    /// that may have come true; but to rank all nodes for all slots takes long, and nobody is in a hurry.
    pub(super) fn look_ahead(&mut self, world: &World<'_>, out: &mut Vec<Effect>) {
        let now = world.now;
        if !world.warm || !self.ahead.is_stirred || self.ahead.looked + AHEAD_PAUSE > now {
            return self.wait_to_look_ahead(now);
        }
        let stage = self.stage(world);
        let places = stage.all();
        let mut n_ranked = 0_usize;
        let mut behind = None;
        for (app, spec, slots) in wanted_slots(world.state, places.values()) {
            let digest = &spec.template.image.digest;
            let Some(first) = slots.first() else { continue };
            let service = (first.app, first.service.clone());
            let is_done = self.ahead.from.as_ref().is_some_and(|from| service < *from);
            if is_done || !app.running || self.ahead.fetched.contains(digest) {
                continue;
            }
            if n_ranked > AHEAD_RANKS_MAX {
                behind = Some(service);
                break;
            }
            n_ranked = n_ranked.saturating_add(slots.len().saturating_mul(places.len()));
            let is_next = slots.iter().any(|slot| {
                let holders = self.holders(slot);
                let ranked = rank(slot, spec, places.values());
                let suited = ranked.iter().filter(|it| it.obstacles.is_empty());
                let others = suited.filter(|it| !holders.contains(&it.node));
                others.take(PREFETCH_RANKS).any(|it| it.node == self.me)
            });
            if is_next {
                self.ahead.fetched.insert(digest.clone());
                out.push(Effect::Prefetch(digest.clone()));
            }
        }
        self.strike_stage(stage);
        self.ahead.looked = now;
        self.ahead.is_stirred = behind.is_some();
        self.ahead.from = behind;
        self.wait_to_look_ahead(now);
    }

    /// Sees to it that what has changed since is looked at in time.
    pub(super) fn wait_to_look_ahead(&mut self, now: Instant) {
        if self.ahead.is_stirred {
            self.wake_at(now, self.ahead.looked + AHEAD_PAUSE);
        }
    }
}

/// `place` without what `slot` takes of it.
fn vacate(place: &Place, slot: &SlotId, spec: &ServiceSpec) -> Place {
    let mut vacated = place.clone();
    vacated.reserved = vacated.reserved.minus(spec.deploy.reservation);
    if let Some(held) = vacated.held.get_mut(&(slot.app, slot.service.clone())) {
        *held = held.saturating_sub(1);
    }
    vacated.ports.retain(|_, holder| holder != slot);
    vacated
}
