//! A node's word on the slots that it witnesses.
//!
//! Rules W1 to W4. What was promised or accepted is on disk before anybody hears of it: such an answer can only leave inside
//! [`Step::Persist`], whose `then` belongs to the writer. A lease itself is in memory; after a restart all that may still run is
//! taken as running for as long as it could (W4).

mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use super::register::{
    Accepted, Answer, Ballot, Configuration, Holder, Key, LEAP_MAX, LeaseId, Refusal, Register,
    Request, Token, Value, WitnessId,
};
use super::timing::Timing;
use crate::id::NodeId;
use crate::node::Ticket;
use crate::rules::{Rule, Rules};
use crate::time::Reading;

/// What the catalogue says of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Home {
    /// It is wanted.
    Wanted {
        /// Its tokens are above this one, since those of an earlier lease are not.
        after: Token,
    },
    /// Its app was removed, or its slot has another lease.
    Removed,
    /// Nothing is known of it.
    Unknown,
}

impl Home {
    /// A slot's first lease is wanted.
    pub const FIRST: Self = Self::Wanted { after: Token(0) };

    /// No counter is at or below this one.
    const fn after(self) -> u64 {
        match self {
            Self::Wanted { after } => after.0,
            Self::Removed | Self::Unknown => 0,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Say this.
    Answer {
        /// To whom.
        to: NodeId,
        /// About which lease.
        lease: LeaseId,
        /// What.
        answer: Answer,
    },
    /// Write, flush, and say the rest only then. Later writes of one lease replace earlier ones and are written after them.
    Persist {
        /// Comes back in [`Witness::persisted`].
        ticket: Ticket,
        /// Which lease.
        lease: LeaseId,
        /// What.
        register: Register,
        /// Who is told what afterwards.
        then: Vec<(NodeId, Answer)>,
    },
}

/// A lease that was granted here. In memory only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Granted {
    holder: Holder,
    token: Token,
    until: Reading,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    register: Register,
    granted: Option<Granted>,
    /// The last write that is not known to be on disk.
    unflushed: Option<Ticket>,
}

/// Who asks, and what about.
struct Asked<'a> {
    now: Reading,
    from: NodeId,
    lease: &'a LeaseId,
    home: Home,
}

/// One node as a witness.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Witness {
    me: WitnessId,
    rules: Rules,
    slots: BTreeMap<LeaseId, Slot>,
    /// The last write of each slot that is not known to be on disk.
    writes: BTreeMap<Ticket, LeaseId>,
    last: u64,
    /// A write went wrong: what is on disk is unknown, so nothing is said any more.
    is_broken: bool,
}

impl Witness {
    /// A witness that starts with what is in its store. W4: what it may have granted holds for as long as it can, from `now`, which
    /// must have been read after this life began.
    #[must_use]
    pub fn new(
        now: Reading,
        me: WitnessId,
        rules: Rules,
        registers: impl IntoIterator<Item = (LeaseId, Register)>,
    ) -> Self {
        let slot = |register: Register| {
            let ttl = register.ttl_max;
            let held = register.accepted.as_ref().map(|it| (it.key.ballot.holder, it.value.token));
            let held = held.filter(|(_, token)| Some(*token) > register.released);
            let held = held.filter(|_| rules.hold(Rule::Quarantine));
            let granted = held.map(|(holder, token)| Granted { holder, token, until: now + ttl });
            Slot { register, granted, unflushed: None }
        };
        let slots = registers.into_iter().map(|(id, register)| (id, slot(register))).collect();
        Self { me, rules, slots, writes: BTreeMap::new(), last: 0, is_broken: false }
    }

    /// The same witness under other rules: for tests that show what a rule is good for.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        if !rules.hold(Rule::Quarantine) {
            self.slots.values_mut().for_each(|slot| slot.granted = None);
        }
    }

    /// This witness.
    #[must_use]
    pub const fn id(&self) -> WitnessId {
        self.me
    }

    /// What is kept of each slot.
    pub fn registers(&self) -> impl Iterator<Item = (&LeaseId, &Register)> {
        self.slots.iter().map(|(id, slot)| (id, &slot.register))
    }

    /// Who holds a slot by this witness's word, with what token and for how long at most; `None` when nobody does.
    #[must_use]
    pub fn holder(&self, now: Reading, lease: &LeaseId) -> Option<(Holder, Token, Duration)> {
        let granted = self.slots.get(lease)?.granted?;
        (!now.is_past(granted.until))
            .then(|| (granted.holder, granted.token, now.until(granted.until)))
    }

    /// Who the witnesses of a slot are, as far as this one knows; `None` when it has accepted nothing.
    #[must_use]
    pub fn configuration(&self, lease: &LeaseId) -> Option<Configuration> {
        let accepted = self.slots.get(lease)?.register.accepted.as_ref()?;
        Some(accepted.value.configuration.clone())
    }

    /// A write is on disk. It says nothing of earlier ones, of other slots: a disk that was full for a while has left some out.
    pub fn persisted(&mut self, ticket: Ticket) {
        let slot = self.writes.remove(&ticket).and_then(|slot| self.slots.get_mut(&slot));
        if let Some(slot) = slot {
            slot.unflushed = None;
        }
    }

    /// A write went wrong, so that it is unknown what a restart would find: nothing is said until then.
    pub const fn fail(&mut self) {
        self.is_broken = true;
    }

    /// Whether nothing is said any more.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Takes what a node asks of a slot. The transport has made sure of `from`; and `now` must have been read after the request
    /// arrived, since a grant may not begin before it was asked for (S1).
    pub fn handle(
        &mut self,
        now: Reading,
        from: NodeId,
        lease: &LeaseId,
        home: Home,
        request: Request,
        out: &mut Vec<Step>,
    ) {
        if self.is_broken {
            return;
        }
        let asked = Asked { now, from, lease, home };
        match request {
            Request::Prepare { ballot } if ballot.holder.node == from => {
                self.prepare(&asked, ballot, out);
            }
            Request::Accept { key, round, value, ttl } if key.ballot.holder.node == from => {
                self.accept(&asked, (key, round), value, ttl, out);
            }
            Request::Renew { key, round, ttl } if key.ballot.holder.node == from => {
                self.renew(&asked, (key, round), ttl, out);
            }
            Request::Release { token } => self.release(&asked, token, out),
            Request::Locate => {
                let configuration = self.configuration(lease);
                self.say(&asked, Answer::Located { configuration }, out);
            }
            // In somebody else's name.
            Request::Prepare { .. } | Request::Accept { .. } | Request::Renew { .. } => {}
        }
    }

    /// W1: nothing is promised while somebody else holds the slot, so that nobody disturbs a healthy holder.
    fn prepare(&mut self, asked: &Asked<'_>, ballot: Ballot, out: &mut Vec<Step>) {
        if let Some(refusal) = self.unfit(asked, ballot) {
            return self.refuse(asked, ballot, refusal, out);
        }
        if let Some(busy) = self.busy(asked, ballot) {
            return self.say(asked, busy, out);
        }
        let known = self.slots.get(asked.lease).map(|slot| slot.register.promised);
        let floor = Ballot { counter: asked.home.after(), ..ballot };
        let promised = known.filter(|known| known.counter >= floor.counter).unwrap_or(floor);
        if ballot.counter <= promised.counter {
            return self.refuse(asked, ballot, Refusal::Promised(promised), out);
        }
        let slot = self.slots.entry(asked.lease.clone()).or_insert_with(|| Slot::empty(ballot));
        slot.register.promised = ballot;
        let answer = Answer::Promise { ballot, accepted: slot.register.accepted.clone() };
        self.write(asked, answer, out);
    }

    /// W2.
    fn accept(
        &mut self,
        asked: &Asked<'_>,
        (key, round): (Key, u64),
        value: Value,
        ttl: Duration,
        out: &mut Vec<Step>,
    ) {
        let ballot = key.ballot;
        if let Some(refusal) = self.unfit(asked, ballot) {
            return self.refuse(asked, ballot, refusal, out);
        }
        if let Some(busy) = self.busy(asked, ballot) {
            return self.say(asked, busy, out);
        }
        let configuration = &value.configuration;
        let is_sane = ttl <= configuration.ttl
            && configuration.ttl <= Timing::TTL_MAX
            && value.token.0 <= ballot.counter;
        if !configuration.has(&self.me) || !is_sane {
            return self.refuse(asked, ballot, Refusal::Stranger, out);
        }
        let slot = self.slots.entry(asked.lease.clone()).or_insert_with(|| Slot::empty(ballot));
        let register = &mut slot.register;
        let keeps = ballot == register.promised
            || ballot.counter > register.promised.counter
            || !self.rules.hold(Rule::KeepPromise);
        let last = register.accepted.as_ref().map(|accepted| accepted.key);
        let is_over = Some(value.token) <= register.released && self.rules.hold(Rule::ReleaseFinal);
        let is_late = last.is_some_and(|last| key < last) || is_over;
        if !keeps || is_late {
            let refusal = Refusal::Promised(register.promised);
            return self.refuse(asked, ballot, refusal, out);
        }
        let is_known = last == Some(key);
        register.promised = register.promised.max(ballot);
        register.ttl_max = register.ttl_max.max(value.configuration.ttl);
        slot.grant(asked.now, ballot.holder, value.token, ttl);
        if !is_known {
            slot.register.accepted = Some(Accepted { key, value });
        }
        let answer = Answer::Granted { key, round };
        if is_known { self.say(asked, answer, out) } else { self.write(asked, answer, out) }
    }

    fn renew(
        &mut self,
        asked: &Asked<'_>,
        (key, round): (Key, u64),
        ttl: Duration,
        out: &mut Vec<Step>,
    ) {
        let ballot = key.ballot;
        if let Some(refusal) = self.unfit(asked, ballot) {
            return self.refuse(asked, ballot, refusal, out);
        }
        let Some(slot) = self.slots.get_mut(asked.lease) else {
            return self.refuse(asked, ballot, Refusal::Unaccepted, out);
        };
        let promised = slot.register.promised;
        if ballot != promised && self.rules.hold(Rule::KeepPromise) {
            return self.refuse(asked, ballot, Refusal::Promised(promised), out);
        }
        let accepted = slot.register.accepted.as_ref().filter(|accepted| accepted.key == key);
        let fits = |accepted: &&Accepted| {
            (Some(accepted.value.token) > slot.register.released
                || !self.rules.hold(Rule::ReleaseFinal))
                && ttl <= accepted.value.configuration.ttl
        };
        let Some(token) = accepted.filter(fits).map(|accepted| accepted.value.token) else {
            return self.refuse(asked, ballot, Refusal::Unaccepted, out);
        };
        slot.grant(asked.now, ballot.holder, token, ttl);
        self.say(asked, Answer::Granted { key, round }, out);
    }

    /// W3. That it is over is written too, but nobody is unsafe if that is lost: it costs a wait.
    fn release(&mut self, asked: &Asked<'_>, token: Token, out: &mut Vec<Step>) {
        let Some(slot) = self.slots.get_mut(asked.lease) else { return };
        let is_his = |accepted: &Accepted| {
            accepted.key.ballot.holder.node == asked.from && accepted.value.token == token
        };
        if slot.register.accepted.as_ref().is_some_and(is_his) {
            slot.granted = None;
            slot.register.released = slot.register.released.max(Some(token));
            self.write(asked, Answer::Released { token }, out);
        }
    }

    /// Why this witness has no word on the slot, or none on this ballot.
    fn unfit(&self, asked: &Asked<'_>, ballot: Ballot) -> Option<Refusal> {
        let slot = self.slots.get(asked.lease);
        match (asked.home, slot) {
            (Home::Removed, _) => Some(Refusal::Removed),
            (Home::Unknown, None) => Some(Refusal::Unknown),
            (home @ (Home::Wanted { .. } | Home::Unknown), slot) => {
                let last = slot.map_or(0, |slot| slot.register.promised.counter);
                is_leap(last.max(home.after()), ballot)
            }
        }
    }

    /// The answer while somebody else holds the slot.
    fn busy(&self, asked: &Asked<'_>, ballot: Ballot) -> Option<Answer> {
        let held = self.holder(asked.now, asked.lease);
        let held = held.filter(|(holder, ..)| !ballot.holder.follows(holder));
        let held = held.or_else(|| self.former(asked));
        let (holder, token, remaining) = held.filter(|_| self.rules.hold(Rule::GrantToOne))?;
        let configuration = self.configuration(asked.lease);
        Some(Answer::Busy { ballot, holder, token, remaining, configuration })
    }

    /// Who holds another lease of the same slot by this witness's word: whoever reset the slot may have been wrong.
    fn former(&self, asked: &Asked<'_>) -> Option<(Holder, Token, Duration)> {
        let slot = &asked.lease.slot;
        let all = self.slots.range(LeaseId::first(slot.clone())..).map(|(lease, _)| lease);
        let others = all.take_while(|it| it.slot == *slot).filter(|it| *it != asked.lease);
        others.filter_map(|it| self.holder(asked.now, it)).max_by_key(|(.., remaining)| *remaining)
    }

    fn refuse(&mut self, asked: &Asked<'_>, ballot: Ballot, refusal: Refusal, out: &mut Vec<Step>) {
        let configuration = self.configuration(asked.lease);
        self.say(asked, Answer::Refused { ballot, refusal, configuration }, out);
    }

    /// Answers. What the answer tells may be on its way to the disk still; then it waits for that.
    fn say(&mut self, asked: &Asked<'_>, answer: Answer, out: &mut Vec<Step>) {
        let slot = self.slots.get(asked.lease);
        let waits = slot.is_some_and(|slot| slot.unflushed.is_some());
        if waits && self.rules.hold(Rule::FlushFirst) {
            return self.write(asked, answer, out);
        }
        out.push(Step::Answer { to: asked.from, lease: asked.lease.clone(), answer });
    }

    /// Answers when the register is on disk.
    fn write(&mut self, asked: &Asked<'_>, answer: Answer, out: &mut Vec<Step>) {
        self.last = self.last.saturating_add(1);
        let ticket = Ticket(self.last);
        let Some(slot) = self.slots.get_mut(asked.lease) else { return };
        // It replaces an earlier one, which a full disk may have left out.
        if let Some(former) = slot.unflushed.replace(ticket) {
            self.writes.remove(&former);
        }
        self.writes.insert(ticket, asked.lease.clone());
        let mut then = vec![(asked.from, answer)];
        if !self.rules.hold(Rule::FlushFirst) {
            out.extend(then.drain(..).map(|(to, answer)| Step::Answer {
                to,
                lease: asked.lease.clone(),
                answer,
            }));
        }
        let register = slot.register.clone();
        out.push(Step::Persist { ticket, lease: asked.lease.clone(), register, then });
    }
}

/// A counter that no honest node can have come to from the `last` one.
fn is_leap(last: u64, ballot: Ballot) -> Option<Refusal> {
    (ballot.counter > last.saturating_add(LEAP_MAX)).then_some(Refusal::Leap)
}

impl Slot {
    /// A slot that was never heard of before somebody tried to get it by `ballot`.
    const fn empty(ballot: Ballot) -> Self {
        let register =
            Register { promised: ballot, accepted: None, released: None, ttl_max: Duration::ZERO };
        Self { register, granted: None, unflushed: None }
    }

    /// Grants time. Messages overtake each other, so an earlier end of the same holder's never replaces a later one.
    fn grant(&mut self, now: Reading, holder: Holder, token: Token, ttl: Duration) {
        let before = self.granted.filter(|before| before.holder.node == holder.node);
        let until = before.map_or(now + ttl, |before| before.until.later(now + ttl));
        self.granted = Some(Granted { holder, token, until });
    }
}
