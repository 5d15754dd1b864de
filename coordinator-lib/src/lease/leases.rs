//! One node's part in all exclusive slots: the leases that it seeks and holds, and its word as a witness of everybody's.
//!
//! The machines are those of [`exclusive`](super::exclusive). This feeds them, hands what they say to each other on the same node
//! from one to the other, and turns the rest into outputs. Which slots to seek and to release, the claims decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::exclusive::{
    Answer, Configuration, Fence, Holder, Home, Lease, Motion, Register, Request, Resume, Setup,
    Step, StoreId, Timing, Token, Witness, WitnessId, first_witnesses,
};
use crate::catalogue::State;
use crate::id::{NodeId, SlotId, SlotIndex};
use crate::message::Message;
use crate::node::{Output, Ticket};
use crate::rules::Rules;
use crate::spec::{Guarantee, REPLICAS_MAX};
use crate::time::Reading;

/// What the catalogue says of the lease of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    first: Configuration,
    timing: Timing,
}

impl Terms {
    /// `None` when the slot is not exclusive, or nobody could hold it by such terms.
    pub(crate) fn of(state: &State, slot: &SlotId) -> Option<Self> {
        let release = &state.apps.get(&slot.app)?.release;
        let Guarantee::Exclusive { ttl } = release.spec.service(&slot.service)?.guarantee else {
            return None;
        };
        let timing = Timing::of(ttl).ok()?;
        let witnesses = first_witnesses(slot, &release.roster);
        (!witnesses.is_empty())
            .then(|| Self { first: Configuration::first(witnesses, ttl), timing })
    }
}

/// What the catalogue says of a slot to whoever witnesses it.
///
/// Only what can be a slot is wanted, so that nobody fills a witness's disk with slots that he makes up. It need not be wanted now: whoever
/// asks may have heard of a scale that this node has not.
fn home(state: &State, slot: &SlotId) -> Home {
    let app = state.apps.get(&slot.app).or_else(|| state.parked.get(&slot.app));
    let spec = app.and_then(|app| app.release.spec.service(&slot.service));
    let is_slot = matches!(slot.index, SlotIndex::Number(number) if number < REPLICAS_MAX)
        && spec.is_some_and(|spec| spec.guarantee.is_exclusive());
    if is_slot {
        Home::Wanted
    } else if state.removed_apps.contains(&slot.app) {
        Home::Removed
    } else {
        Home::Unknown
    }
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    /// By what it was made.
    terms: Terms,
    /// What the guard is to be told; `None` while nothing may run.
    fence: Option<Fence>,
    /// A former life of this agent held it until then, and may be resumed (H8).
    resumes_until: Option<Reading>,
}

/// All leases of one node, and its word as a witness.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    me: Holder,
    seed: u64,
    rules: Rules,
    witness: Witness,
    slots: BTreeMap<SlotId, Held>,
    /// The nodes that are heard.
    peers: BTreeSet<NodeId>,
    /// The slots whose guards have to be told of a later end.
    extended: BTreeSet<SlotId>,
    /// Whether a lease was acquired or lost since somebody looked.
    is_news: bool,
}

impl Leases {
    pub(crate) fn new(
        reading: Reading,
        me: Holder,
        store: StoreId,
        seed: u64,
        registers: impl IntoIterator<Item = (SlotId, Register)>,
    ) -> Self {
        let witness = WitnessId { node: me.node, store };
        Self {
            me,
            seed,
            rules: Rules::ALL,
            witness: Witness::new(reading, witness, Rules::ALL, registers),
            slots: BTreeMap::new(),
            peers: BTreeSet::new(),
            extended: BTreeSet::new(),
            is_news: false,
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.witness.set_rules(rules);
    }

    /// Who is heard.
    pub(crate) fn meet(&mut self, peers: BTreeSet<NodeId>) {
        self.peers = peers;
    }

    /// The token by which a replica of `slot` may run on this node now.
    pub(crate) fn acquired(&self, reading: Reading, slot: &SlotId) -> Option<Token> {
        self.slots.get(slot)?.lease.acquired(reading)
    }

    /// The token by which the slot is or was held until it is released.
    pub(crate) fn held(&self, slot: &SlotId) -> Option<Token> {
        self.slots.get(slot)?.lease.held()
    }

    /// What the guard of a replica is to be told before it starts.
    pub(crate) fn fence(&self, slot: &SlotId) -> Option<Fence> {
        self.slots.get(slot)?.fence
    }

    /// Whether the lease of a former life of this agent may still be resumed.
    pub(crate) fn is_resuming(&self, reading: Reading, slot: &SlotId) -> bool {
        let until = self.slots.get(slot).and_then(|held| held.resumes_until);
        until.is_some_and(|until| !reading.may_be_past(until))
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

    /// Whether a lease was acquired or lost since [`Leases::take_news`].
    pub(crate) const fn has_news(&self) -> bool {
        self.is_news
    }

    /// Whether a lease was acquired or lost since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
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

    /// A container of a former life of this agent was found, and its guard keeps to `fence`.
    pub(crate) fn resume(&mut self, reading: Reading, slot: &SlotId, terms: &Terms, fence: Fence) {
        let resume = Resume { token: fence.token, kill: fence.kill };
        let mut lease = self.lease(slot, terms, Some(resume));
        lease.seek(reading, 0);
        let terms = terms.clone();
        let held = Held { lease, terms, fence: None, resumes_until: Some(fence.kill) };
        self.slots.insert(slot.clone(), held);
    }

    /// This node wants the slot, and is the `rank`-th in line.
    pub(crate) fn seek(&mut self, reading: Reading, slot: &SlotId, terms: &Terms, rank: u32) {
        let fits = |held: &Held| !held.lease.is_idle() || held.terms == *terms;
        if !self.slots.get(slot).is_some_and(fits) {
            let lease = self.lease(slot, terms, None);
            let held = Held { lease, terms: terms.clone(), fence: None, resumes_until: None };
            self.slots.insert(slot.clone(), held);
        }
        if let Some(held) = self.slots.get_mut(slot) {
            held.lease.seek(reading, rank);
        }
    }

    fn lease(&self, slot: &SlotId, terms: &Terms, resume: Option<Resume>) -> Lease {
        Lease::new(Setup {
            me: self.me,
            first: terms.first.clone(),
            timing: terms.timing,
            seed: self.seed ^ slot.digest().head(),
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
        (held.fence, held.resumes_until) = (None, None);
        self.carry_out(reading, state, slot, motions, out);
    }

    /// Time has passed.
    pub(crate) fn wake(&mut self, reading: Reading, state: &State, out: &mut Vec<Output>) {
        let is_due = |held: &Held| {
            held.lease.next_deadline().is_some_and(|deadline| reading.may_be_past(deadline))
        };
        let due: Vec<SlotId> =
            self.slots.iter().filter(|(_, held)| is_due(held)).map(|(id, _)| id.clone()).collect();
        for slot in due {
            let mut motions = Vec::new();
            if let Some(held) = self.slots.get_mut(&slot) {
                held.lease.wake(reading, &mut motions);
            }
            self.carry_out(reading, state, &slot, motions, out);
        }
    }

    /// The slots that this node holds, and their witnesses, where these are not being changed already.
    pub(crate) fn witnessed(
        &self,
        reading: Reading,
    ) -> impl Iterator<Item = (&SlotId, &BTreeSet<WitnessId>)> {
        let held = self.slots.iter().filter(move |(_, it)| it.lease.acquired(reading).is_some());
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
        (from, slot, request): (NodeId, &SlotId, Request),
        out: &mut Vec<Output>,
    ) {
        for answer in self.witness(reading, state, (from, slot, request), out) {
            let message = self.word(slot, answer);
            out.push(Output::Send { to: from, message });
        }
    }

    /// A witness answers this node.
    pub(crate) fn answer(
        &mut self,
        reading: Reading,
        state: &State,
        (from, slot, answer): (WitnessId, &SlotId, Answer),
        out: &mut Vec<Output>,
    ) {
        let mut motions = Vec::new();
        if let Some(held) = self.slots.get_mut(slot) {
            held.lease.answer(reading, from, answer, &mut motions);
        }
        self.carry_out(reading, state, slot, motions, out);
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

    /// What the leases want done. What a lease asks of its own node's witness needs no message.
    fn carry_out(
        &mut self,
        reading: Reading,
        state: &State,
        slot: &SlotId,
        motions: Vec<Motion>,
        out: &mut Vec<Output>,
    ) {
        let me = self.witness.id();
        let mut queue = VecDeque::from(motions);
        while let Some(motion) = queue.pop_front() {
            match motion {
                Motion::Send { to, request } if to == me.node => {
                    for answer in self.witness(reading, state, (to, slot, request), out) {
                        let mut more = Vec::new();
                        if let Some(held) = self.slots.get_mut(slot) {
                            held.lease.answer(reading, me, answer, &mut more);
                        }
                        queue.extend(more);
                    }
                }
                Motion::Send { to, request } => {
                    let message = Message::Ask { slot: slot.clone(), request };
                    out.push(Output::Send { to, message });
                }
                Motion::Locate => {
                    let ask = |to: &NodeId| Output::Send {
                        to: *to,
                        message: Message::Ask { slot: slot.clone(), request: Request::Locate },
                    };
                    out.extend(self.peers.iter().map(ask));
                }
                Motion::Deadline(fence) => self.set_fence(slot, Some(fence)),
                Motion::Acquired { .. } => {
                    self.is_news = true;
                    if let Some(held) = self.slots.get_mut(slot) {
                        held.resumes_until = None;
                    }
                }
                Motion::Lapsed { .. } => {
                    self.is_news = true;
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
        (from, slot, request): (NodeId, &SlotId, Request),
        out: &mut Vec<Output>,
    ) -> Vec<Answer> {
        let mut steps = Vec::new();
        self.witness.handle(reading, from, slot, home(state, slot), request, &mut steps);
        let mut answers = Vec::new();
        for step in steps {
            match step {
                Step::Answer { answer, .. } => answers.push(answer),
                Step::Persist { ticket, slot, register, then } => {
                    let then = then.into_iter().map(|(to, it)| (to, self.word(&slot, it)));
                    let then = then.collect();
                    out.push(Output::Persist { ticket, slot, register, then });
                }
            }
        }
        answers
    }

    fn word(&self, slot: &SlotId, answer: Answer) -> Message {
        Message::Word { slot: slot.clone(), store: self.witness.id().store, answer }
    }
}
