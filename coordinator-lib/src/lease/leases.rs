//! One node's part in all exclusive slots: the leases that it seeks and holds, and its word as a witness of everybody's.
//!
//! The machines are those of [`exclusive`](super::exclusive). This feeds them, hands what they say to each other on the same node
//! from one to the other, and turns the rest into outputs. Which slots to seek and to release, the claims decide.

mod show;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::exclusive::{
    Answer, Configuration, Fence, Former, Holder, Home, Lease, LeaseId, Motion, Register, Request,
    Resume, Setup, Step, StoreId, Timing, Token, Witness, WitnessId, first_witnesses,
};
use super::post::Post;
use crate::catalogue::State;
use crate::id::{NodeId, SlotId, SlotIndex};
use crate::message::Message;
use crate::name::AppName;
use crate::node::{Output, Ticket};
use crate::rules::Rules;
use crate::spec::{Guarantee, REPLICAS_MAX};
use crate::time::Reading;

/// What the catalogue says of the lease of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    lease: LeaseId,
    first: Configuration,
    timing: Timing,
    /// Tokens are above this one, since those of a lease before it are not; zero when there was none.
    after: Token,
    /// The name of its app, if apps of that name were removed.
    ended: Option<AppName>,
}

impl Terms {
    /// `None` when the slot is not exclusive, or nobody could hold it by such terms.
    pub(crate) fn of(state: &State, slot: &SlotId) -> Option<Self> {
        let app = state.apps.get(&slot.app)?;
        let Guarantee::Exclusive { ttl } = app.release.spec.service(&slot.service)?.guarantee
        else {
            return None;
        };
        let timing = Timing::of(ttl).ok()?;
        let (lease, roster) = app.lease(slot);
        let witnesses = first_witnesses(slot, roster);
        let after = state.former_tokens(app, slot);
        let name = &app.release.spec.name;
        let ended = state.ended.contains_key(name).then(|| name.clone());
        let first = Configuration::first(witnesses, ttl);
        (!first.current.is_empty()).then_some(Self { lease, first, timing, after, ended })
    }
}

/// What the catalogue says of a lease to whoever witnesses it.
///
/// Only what can be a slot is wanted, so that nobody fills a witness's disk with slots that he makes up. It need not be wanted now: whoever
/// asks may have heard of a scale that this node has not. And who has heard of a reset of which this node has not is refused until it has.
fn home(state: &State, lease: &LeaseId) -> Home {
    let slot = &lease.slot;
    let app = state.apps.get(&slot.app).or_else(|| state.parked.get(&slot.app));
    let spec = app.and_then(|app| app.release.spec.service(&slot.service));
    let is_slot = matches!(slot.index, SlotIndex::Number(number) if number < REPLICAS_MAX)
        && spec.is_some_and(|spec| spec.guarantee.is_exclusive());
    match app.filter(|_| is_slot) {
        Some(app) if app.lease(slot).0 == *lease => {
            Home::Wanted { after: state.former_tokens(app, slot) }
        }
        Some(app) if app.reset(slot).is_some() => Home::Removed,
        None if state.removed_apps.contains(&slot.app) => Home::Removed,
        Some(_) | None => Home::Unknown,
    }
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    /// By what it was made.
    terms: Terms,
    /// What the guard is to be told; `None` while nothing may run.
    fence: Option<Fence>,
    /// A former life of this agent held it, and may be resumed (H8).
    resumes: Option<Resume>,
}

/// All leases of one node, and its word as a witness.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    me: Holder,
    seed: u64,
    rules: Rules,
    witness: Witness,
    slots: BTreeMap<SlotId, Held>,
    /// The leases of which the known witnesses do not suffice.
    lost: BTreeSet<LeaseId>,
    /// The slots whose guards have to be told of a later end.
    extended: BTreeSet<SlotId>,
    /// The leases that ended without being renewed, since somebody looked.
    lapsed: Vec<(SlotId, Token)>,
    /// Whether a lease was acquired or lost since somebody looked.
    is_news: bool,
    /// Nothing is held by this node any more, whatever its witnesses say.
    is_disowned: bool,
    /// How many apps of each name were removed, and when this node heard of the last one.
    ended: BTreeMap<AppName, (u64, Reading)>,
    /// When this node first had to do with a reset.
    reset: BTreeMap<u64, Reading>,
    /// What is to be said to whom.
    post: Post,
}

impl Leases {
    pub(crate) fn new(
        reading: Reading,
        me: Holder,
        store: StoreId,
        seed: u64,
        registers: impl IntoIterator<Item = (LeaseId, Register)>,
    ) -> Self {
        let witness = WitnessId { node: me.node, store };
        Self {
            me,
            seed,
            rules: Rules::ALL,
            witness: Witness::new(reading, witness, Rules::ALL, registers),
            slots: BTreeMap::new(),
            lost: BTreeSet::new(),
            extended: BTreeSet::new(),
            lapsed: Vec::new(),
            is_news: false,
            is_disowned: false,
            ended: BTreeMap::new(),
            reset: BTreeMap::new(),
            post: Post::default(),
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.witness.set_rules(rules);
    }

    /// The token by which a replica of `slot` may run on this node now.
    pub(crate) fn acquired(&self, reading: Reading, slot: &SlotId) -> Option<Token> {
        self.slots.get(slot).filter(|_| !self.is_disowned)?.lease.acquired(reading)
    }

    /// The token by which the slot is or was held until it is released.
    pub(crate) fn held(&self, slot: &SlotId) -> Option<Token> {
        self.slots.get(slot)?.lease.held()
    }

    /// The lease of a slot that is held: its token, its times, and when it is over.
    pub(crate) fn times(&self, slot: &SlotId) -> Option<(Token, Timing, Reading)> {
        let lease = &self.slots.get(slot)?.lease;
        Some((lease.held()?, lease.timing(), lease.over()?))
    }

    /// What the guard of a replica is to be told before it starts.
    pub(crate) fn fence(&self, slot: &SlotId) -> Option<Fence> {
        self.slots.get(slot)?.fence
    }

    /// Whether the lease of a former life of this agent may still be resumed.
    pub(crate) fn is_resuming(&self, reading: Reading, slot: &SlotId) -> bool {
        let held = self.slots.get(slot).filter(|_| !self.is_disowned);
        let resumes = held.and_then(|held| held.resumes);
        resumes.is_some_and(|resume| !reading.may_be_past(resume.kill))
    }

    /// The slots that this node seeks or holds.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &SlotId> {
        self.slots.iter().filter(|(_, held)| !held.lease.is_idle()).map(|(slot, _)| slot)
    }

    /// Whether this node seeks the slot, or holds it.
    pub(crate) fn has(&self, slot: &SlotId) -> bool {
        self.slots.get(slot).is_some_and(|held| !held.lease.is_idle())
    }

    /// Forgets what was learnt of slots that are not wanted any more, and that this node does not hold.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&SlotId) -> bool) {
        self.slots.retain(|slot, held| !held.lease.is_idle() || is_wanted(slot));
    }

    /// Takes note of apps that were removed: their leases are not renewed from now on.
    pub(crate) fn note_ended(&mut self, reading: Reading, state: &State) {
        for (name, count) in &state.ended {
            let known = self.ended.entry(name.clone()).or_insert((0, reading));
            if known.0 != *count {
                *known = (*count, reading);
            }
        }
    }

    /// Drops the leases of slots that were reset since: whatever runs by them has to stop. Returns their slots.
    pub(crate) fn drop_reset(&mut self, state: &State) -> Vec<SlotId> {
        let is_reset = |slot: &SlotId, held: &Held| {
            let app = state.apps.get(&slot.app);
            app.is_some_and(|app| app.lease(slot).0 != held.terms.lease)
        };
        let gone = self.slots.extract_if(.., |slot, held| is_reset(slot, held));
        let gone: Vec<SlotId> = gone.map(|(slot, _)| slot).collect();
        self.is_news |= !gone.is_empty();
        gone
    }

    /// Whether a lease was acquired or lost since [`Leases::take_news`].
    pub(crate) const fn has_news(&self) -> bool {
        self.is_news
    }

    /// Whether a lease was acquired or lost since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// The leases of which the known witnesses do not suffice, since the last call: somebody else may know others.
    pub(crate) fn take_lost(&mut self) -> BTreeSet<LeaseId> {
        std::mem::take(&mut self.lost)
    }

    /// The leases that ended without being renewed since the last call, for people.
    pub(crate) fn take_lapsed(&mut self) -> Vec<(SlotId, Token)> {
        std::mem::take(&mut self.lapsed)
    }

    /// The leases whose end has moved since the last call, for their guards.
    pub(crate) fn take_extended(&mut self) -> Vec<(SlotId, Fence)> {
        let extended = std::mem::take(&mut self.extended);
        let fence = |slot: SlotId| self.fence(&slot).map(|fence| (slot, fence));
        extended.into_iter().filter_map(fence).collect()
    }

    /// How long it is until [`Leases::wake`] has something to do; `None` while time changes nothing.
    pub(crate) fn next_deadline(&self, reading: Reading) -> Option<Duration> {
        let deadlines = self.slots.values().filter_map(|held| held.lease.next_deadline());
        deadlines.map(|deadline| reading.until_maybe(deadline)).min()
    }

    /// A container of a former life of this agent was found, and its guard keeps to `fence`. Of several the last one counts.
    pub(crate) fn resume(&mut self, reading: Reading, slot: &SlotId, terms: &Terms, fence: Fence) {
        if fence.token <= terms.after {
            return;
        }
        let former = self.slots.get(slot).and_then(|held| held.resumes);
        if former.is_some_and(|former| former.token > fence.token) {
            return;
        }
        let resume = Resume { token: fence.token, kill: fence.kill };
        let mut lease = self.lease(reading, terms, Some(resume));
        lease.seek(reading, 0);
        let terms = terms.clone();
        let held = Held { lease, terms, fence: None, resumes: Some(resume) };
        self.slots.insert(slot.clone(), held);
    }

    /// This node wants the slot, and is the `rank`-th in line.
    pub(crate) fn seek(&mut self, reading: Reading, slot: &SlotId, terms: &Terms, rank: u32) {
        let fits = |held: &Held| !held.lease.is_idle() || held.terms == *terms;
        if !self.slots.get(slot).is_some_and(fits) {
            let lease = self.lease(reading, terms, None);
            let held = Held { lease, terms: terms.clone(), fence: None, resumes: None };
            self.slots.insert(slot.clone(), held);
        }
        if let Some(held) = self.slots.get_mut(slot) {
            held.lease.seek(reading, rank);
        }
    }

    fn lease(&mut self, reading: Reading, terms: &Terms, resume: Option<Resume>) -> Lease {
        // Whoever held a lease before this one may not know that it was given up. It is not renewed any more, so it ends.
        let reset = Some(terms.lease.reset).filter(|reset| *reset != 0);
        let ended = terms.ended.as_ref().and_then(|name| self.ended.get(name));
        let since = reset.map_or_else(
            || ended.map(|(_, since)| *since),
            |reset| Some(*self.reset.entry(reset).or_insert(reading)),
        );
        let over = |since| since + terms.timing.failover();
        let former = since.map(|since| Former { token: terms.after, over: over(since) });
        Lease::new(Setup {
            me: self.me,
            former,
            first: terms.first.clone(),
            timing: terms.timing,
            seed: self.seed ^ terms.lease.slot.digest().head(),
            resume,
            rules: self.rules,
        })
    }

    /// Its holder says that a slot is free.
    pub(crate) fn hurry(&mut self, reading: Reading, slot: &SlotId, token: Token) {
        if let Some(held) = self.slots.get_mut(slot) {
            held.lease.hurry(reading, token);
        }
    }

    /// This node does not want the slot any more. What is held by a container stays held.
    pub(crate) fn give_up(&mut self, slot: &SlotId) {
        if let Some(held) = self.slots.get_mut(slot) {
            held.lease.give_up();
        }
    }

    /// No container of the slot is left on this node: others may have it (H9).
    pub(crate) fn release(
        &mut self,
        reading: Reading,
        state: &State,
        slot: &SlotId,
        out: &mut Vec<Output>,
    ) {
        let Some(held) = self.slots.get_mut(slot) else { return };
        let mut motions = Vec::new();
        held.lease.release(&mut motions);
        (held.fence, held.resumes) = (None, None);
        self.carry_out(reading, state, slot, motions, out);
    }

    /// Time has passed. Who renews one lease renews all that are to be renewed soon, so that what goes to a witness goes together.
    pub(crate) fn wake(&mut self, reading: Reading, state: &State, out: &mut Vec<Output>) {
        let is_due = |held: &Held| {
            held.lease.next_deadline().is_some_and(|deadline| reading.may_be_past(deadline))
        };
        if !self.slots.values().any(is_due) {
            return;
        }
        let is_soon = |held: &Held| is_due(held) || held.lease.renews_soon(reading);
        let due: Vec<SlotId> =
            self.slots.iter().filter(|(_, held)| is_soon(held)).map(|(id, _)| id.clone()).collect();
        for slot in due {
            let mut motions = Vec::new();
            if let Some(held) = self.slots.get_mut(&slot) {
                if is_due(held) {
                    held.lease.wake(reading, &mut motions);
                } else {
                    held.lease.renew(reading, &mut motions);
                }
            }
            self.carry_out(reading, state, &slot, motions, out);
        }
    }

    /// What was asked and answered meanwhile leaves, each node's together.
    pub(crate) fn send(&mut self, out: &mut Vec<Output>) {
        self.post.send(self.witness.id().store, out);
    }

    /// The slots that this node holds, and their witnesses, where these are not being changed already.
    pub(crate) fn witnessed(
        &self,
        reading: Reading,
    ) -> impl Iterator<Item = (&SlotId, &BTreeSet<WitnessId>)> {
        let held = self.slots.iter().filter(move |(_, it)| it.lease.acquired(reading).is_some());
        let held = held.filter(|_| !self.is_disowned);
        let at_rest = held.filter(|(_, it)| it.lease.configuration().next.is_none());
        at_rest.map(|(slot, it)| (slot, &it.lease.configuration().current))
    }

    /// Other witnesses from now on. They should be nodes that were heard a moment ago.
    pub(crate) fn change(
        &mut self,
        reading: Reading,
        state: &State,
        (slot, next): (&SlotId, BTreeSet<WitnessId>),
        out: &mut Vec<Output>,
    ) -> bool {
        let mut motions = Vec::new();
        let held = self.slots.get_mut(slot);
        let has_begun = held.is_some_and(|it| it.lease.change(reading, next, &mut motions));
        self.carry_out(reading, state, slot, motions, out);
        has_begun
    }

    /// A node asks this one as a witness.
    pub(crate) fn ask(
        &mut self,
        reading: Reading,
        state: &State,
        (from, lease, request): (NodeId, &LeaseId, Request),
        out: &mut Vec<Output>,
    ) {
        for answer in self.witness(reading, state, (from, lease, request), out) {
            self.post.answer(from, lease, answer);
        }
    }

    /// A witness answers this node.
    pub(crate) fn answer(
        &mut self,
        reading: Reading,
        state: &State,
        (from, lease, answer): (WitnessId, &LeaseId, Answer),
        out: &mut Vec<Output>,
    ) {
        let mut motions = Vec::new();
        let held = self.slots.get_mut(&lease.slot);
        if let Some(held) = held.filter(|held| held.terms.lease == *lease) {
            held.lease.answer(reading, from, answer, &mut motions);
        }
        self.carry_out(reading, state, &lease.slot, motions, out);
    }

    /// What the witness wrote is on disk.
    pub(crate) fn persisted(&mut self, ticket: Ticket) {
        self.witness.persisted(ticket);
    }

    /// Whether its word as a witness counts no more.
    pub(crate) const fn is_broken(&self) -> bool {
        self.witness.is_broken()
    }

    /// What the witness wrote may not be on disk. Returns whether that is new.
    pub(crate) const fn fail(&mut self) -> bool {
        let was_broken = self.witness.is_broken();
        self.witness.fail();
        !was_broken
    }

    /// From now on nothing may run by a lease of this node, and it vouches for nothing.
    pub(crate) const fn disown(&mut self) {
        self.is_disowned = true;
        self.is_news = true;
        self.witness.fail();
    }

    /// What the leases want done. What a lease asks of its own node's witness needs no message.
    fn carry_out(
        &mut self,
        reading: Reading,
        state: &State,
        slot: &SlotId,
        motions: Vec<Motion>,
        out: &mut Vec<Output>,
    ) {
        let Some(lease) = self.slots.get(slot).map(|held| held.terms.lease.clone()) else { return };
        let me = self.witness.id();
        let mut queue = VecDeque::from(motions);
        while let Some(motion) = queue.pop_front() {
            match motion {
                Motion::Send { to, request } if to == me.node => {
                    for answer in self.witness(reading, state, (to, &lease, request), out) {
                        let mut more = Vec::new();
                        if let Some(held) = self.slots.get_mut(slot) {
                            held.lease.answer(reading, me, answer, &mut more);
                        }
                        queue.extend(more);
                    }
                }
                Motion::Send { to, request } => self.post.ask(to, &lease, request),
                Motion::Locate => {
                    self.lost.insert(lease.clone());
                }
                Motion::Deadline(fence) => self.set_fence(slot, Some(fence)),
                Motion::Acquired { .. } => {
                    self.is_news = true;
                    if let Some(held) = self.slots.get_mut(slot) {
                        held.resumes = None;
                    }
                }
                Motion::Lapsed { token } => {
                    self.is_news = true;
                    self.lapsed.push((slot.clone(), token));
                    self.set_fence(slot, None);
                }
            }
        }
    }

    fn set_fence(&mut self, slot: &SlotId, fence: Option<Fence>) {
        if let Some(held) = self.slots.get_mut(slot) {
            held.fence = fence;
            self.extended.insert(slot.clone());
        }
    }

    /// Asks this node's witness. Returns what it says at once; the rest follows its flush.
    fn witness(
        &mut self,
        reading: Reading,
        state: &State,
        (from, lease, request): (NodeId, &LeaseId, Request),
        out: &mut Vec<Output>,
    ) -> Vec<Answer> {
        let mut steps = Vec::new();
        self.witness.handle(reading, from, lease, home(state, lease), request, &mut steps);
        let mut answers = Vec::new();
        for step in steps {
            match step {
                Step::Answer { answer, .. } => answers.push(answer),
                Step::Persist { ticket, lease, register, then } => {
                    let store = self.witness.id().store;
                    let word =
                        |answer| Message::Word { store, answers: vec![(lease.clone(), answer)] };
                    let then = then.into_iter().map(|(to, answer)| (to, word(answer))).collect();
                    let register = Box::new(register);
                    out.push(Output::Persist { ticket, lease, register, then });
                }
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests;
