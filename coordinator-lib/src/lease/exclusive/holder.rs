//! One node's attempt to hold one slot, and its lease while it does.
//!
//! ```text
//!   Idle ──seek──▶ Waiting ──time──▶ Preparing ──majority──▶ Holding ──first majority──▶ Acquired
//!     ▲               ▲                  │ no majority          │ none          renewals │
//!     │               └──────────────────┴──────────────────────┘                        │
//!     └───────────────────────────── Lapsed, or released ◀───────────────────────────────┘
//! ```

mod show;

use std::collections::BTreeSet;
use std::time::Duration;

use super::attempt::Attempt;
use super::fence::Fence;
use super::register::{
    Answer, Ballot, Configuration, Key, LEAP_MAX, Refusal, Request, Token, Value, WitnessId,
};
use super::session::{End, Outcome, Session};
use super::setup::Setup;
use super::timing::Timing;
use crate::id::NodeId;
use crate::prng::Prng;
use crate::rules::Rule;
use crate::time::Reading;

/// After a lost attempt the next one waits at least so long (H10): several round trips and flushes.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// And at most so long, doubled with every further loss.
const BACKOFF_MAX: Duration = Duration::from_millis(800);
/// How often it is doubled.
const DOUBLINGS_MAX: u32 = 4;

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Motion {
    /// The slot is held: the container may start. Its deadline was set before.
    Acquired {
        /// By this token.
        token: Token,
    },
    /// H6: the guard is to know, without fail, when the container ends. Only ever later than before.
    Deadline(Fence),
    /// The lease is over and does not come back (H5).
    Lapsed {
        /// Which.
        token: Token,
    },
    /// Ask all nodes that are heard who the witnesses are: those that are known here do not suffice.
    Locate,
    /// Ask a witness.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        request: Request,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Waiting { until: Reading },
    Preparing(Attempt),
    Holding(Box<Holding>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holding {
    session: Session,
    /// H7: phase 1 of a higher ballot, while the lease goes on.
    attempt: Option<Attempt>,
    /// Before the first majority: when it is given up.
    patience: Reading,
    /// Whether the container may run.
    is_acquired: bool,
}

/// One slot, as one node that may run it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    setup: Setup,
    /// The times that go with the configuration that was found.
    timing: Timing,
    prng: Prng,
    state: State,
    /// Who is asked first: the last configuration that anybody spoke of. A hint (H2).
    hint: Configuration,
    /// The highest counter that was heard of.
    counter: u64,
    losses: u32,
    /// How many others are before this node in line.
    rank: u32,
}

impl Lease {
    /// A lease that nobody seeks yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let former = setup.former.map_or(0, |former| former.token.0);
        Self {
            prng: Prng::new(setup.seed),
            hint: setup.first.clone(),
            timing: setup.timing,
            state: State::Idle,
            counter: former.max(setup.resume.map_or(0, |resume| resume.token.0)),
            setup,
            losses: 0,
            rank: 0,
        }
    }

    /// The token, while the slot is held.
    #[must_use]
    pub fn token(&self, now: Reading) -> Option<Token> {
        let State::Holding(holding) = &self.state else { return None };
        let end = holding.session.end?;
        (!now.may_be_past(end.over)).then_some(holding.session.value.token)
    }

    /// The token, also when the time is over and nobody has looked since.
    #[must_use]
    pub fn held(&self) -> Option<Token> {
        let State::Holding(holding) = &self.state else { return None };
        holding.session.end.map(|_| holding.session.value.token)
    }

    /// The token by which the container may run; `None` before [`Motion::Acquired`] and when the time is over.
    #[must_use]
    pub fn acquired(&self, now: Reading) -> Option<Token> {
        let is_acquired = matches!(&self.state, State::Holding(holding) if holding.is_acquired);
        self.token(now).filter(|_| is_acquired)
    }

    /// Until when the slot is held if nobody answers any more; `None` while it is not held.
    #[must_use]
    pub fn over(&self) -> Option<Reading> {
        let State::Holding(holding) = &self.state else { return None };
        holding.session.end.map(|end| end.over)
    }

    /// The times that go with the slot's configuration, as far as it is known here.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// The configuration as far as it is known here.
    #[must_use]
    pub const fn configuration(&self) -> &Configuration {
        &self.hint
    }

    /// Whether nothing is being done.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// When [`Lease::wake`] wants to be called, by whichever clock comes first; `None` while time changes nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Reading> {
        match &self.state {
            State::Idle => None,
            State::Waiting { until } => Some(*until),
            State::Preparing(attempt) => Some(attempt.until),
            State::Holding(holding) => {
                let end = holding.session.end.map_or(holding.patience, |end| end.over);
                let attempt = holding.attempt.as_ref().map(|attempt| attempt.until);
                [Some(holding.session.next), Some(end), attempt].into_iter().flatten().min()
            }
        }
    }

    /// The slot is wanted by this node, which is the `rank`-th in line (from zero): each further one leaves the others some time (H10).
    pub fn seek(&mut self, now: Reading, rank: u32) {
        self.rank = rank;
        if matches!(self.state, State::Idle) {
            self.losses = 0;
            self.state = State::Waiting { until: now + self.headstart() };
        }
    }

    /// The last holder, by `token`, says that it has let go: nobody needs to wait for its time to end. A hint; the rank still counts.
    pub fn hurry(&mut self, now: Reading, token: Token) {
        self.raise(token.0);
        if matches!(self.state, State::Waiting { .. }) {
            self.losses = 0;
            let soon = now + self.headstart();
            if let State::Waiting { until } = &mut self.state
                && now.until_maybe(*until) > now.until_maybe(soon)
            {
                *until = soon;
            }
        }
    }

    /// Somebody says who the witnesses are. A hint of whom to ask (H2), wherever it comes from.
    pub fn hear(&mut self, configuration: Configuration) {
        if configuration.version > self.hint.version {
            self.hint = configuration;
        }
    }

    /// The slot is not wanted any more. What is held stays held.
    pub fn give_up(&mut self) {
        if !matches!(&self.state, State::Holding(holding) if holding.is_acquired) {
            self.state = State::Idle;
        }
    }

    /// The container is gone for certain, also that of a former life: the slot is free (H9).
    pub fn release(&mut self, out: &mut Vec<Motion>) {
        let former = self.setup.resume.map(|resume| resume.token);
        self.setup.forget_former();
        let token = match &self.state {
            State::Holding(holding) => Some(holding.session.value.token),
            State::Idle | State::Waiting { .. } | State::Preparing(_) => former,
        };
        if let Some(token) = token {
            self.tell_release(token, out);
        }
        self.state = State::Idle;
    }

    /// Other witnesses from now on. Returns whether the change has begun: it does not before the lease is held and the last one
    /// is through, not for an empty set, and not while a renewal is overdue: whoever is cut off does not know who can be asked. Until it is through nobody else gets the slot without a majority of `next`, so let
    /// these be nodes that have just been heard.
    pub fn change(
        &mut self,
        now: Reading,
        next: BTreeSet<WitnessId>,
        out: &mut Vec<Motion>,
    ) -> bool {
        self.lapse(now, out);
        let State::Holding(holding) = &mut self.state else { return false };
        let renewal = self.timing.renew + self.timing.attempt;
        let is_overdue = |end: End| now.may_be_past(end.since + renewal);
        let is_calm = holding.is_acquired
            && holding.session.is_settled()
            && (!holding.session.end.is_none_or(is_overdue)
                || !self.setup.rules.hold(Rule::AskLiving));
        if next.is_empty() || !is_calm || holding.attempt.is_some() {
            return false;
        }
        holding.session.propose(now, next);
        self.wake(now, out);
        true
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Reading, out: &mut Vec<Motion>) {
        self.lapse(now, out);
        match &mut self.state {
            State::Idle => {}
            State::Waiting { until } => {
                if now.may_be_past(*until) {
                    self.prepare(now, out);
                }
            }
            State::Preparing(attempt) => {
                if now.may_be_past(attempt.until) {
                    let attempt = attempt.clone();
                    let (configuration, _) = self.found(&attempt);
                    self.lose(now, attempt.free_at(&configuration), out);
                }
            }
            State::Holding(holding) => {
                if holding.session.end.is_none() && now.may_be_past(holding.patience) {
                    return self.lose(now, None, out);
                }
                let is_late = |attempt: &Attempt| now.may_be_past(attempt.until);
                if holding.attempt.as_ref().is_some_and(is_late) {
                    holding.attempt = None;
                }
                if now.may_be_past(holding.session.next) {
                    self.ask(now, out);
                }
            }
        }
    }

    /// Whether the lease is to be renewed within half of the usual pause, and nothing else is under way. A round that waits for its answers
    /// is: were it asked again whenever another lease is due, many leases would never be done with asking.
    #[must_use]
    pub fn renews_soon(&self, now: Reading) -> bool {
        let State::Holding(holding) = &self.state else { return false };
        let is_answered = holding.session.is_answered();
        let is_calm = holding.is_acquired && is_answered && holding.attempt.is_none();
        is_calm && now.until_maybe(holding.session.next) <= self.timing.renew / 2
    }

    /// Renews the lease now, though there is time.
    pub fn renew(&mut self, now: Reading, out: &mut Vec<Motion>) {
        self.lapse(now, out);
        self.ask(now, out);
    }

    /// A witness answers. The transport has made sure that it is the node of `from`.
    pub fn answer(&mut self, now: Reading, from: WitnessId, answer: Answer, out: &mut Vec<Motion>) {
        self.lapse(now, out);
        match answer {
            Answer::Promise { ballot, accepted } => {
                if let Some(attempt) = self.attempt(ballot) {
                    attempt.promised(from, accepted);
                    self.conclude(now, out);
                }
            }
            Answer::Busy { ballot, token, remaining, configuration, .. } => {
                self.raise(token.0);
                configuration.into_iter().for_each(|heard| self.hear(heard));
                if let Some(attempt) = self.attempt(ballot) {
                    attempt.declined(from, Some(now + remaining.min(Timing::TTL_MAX)));
                    self.conclude(now, out);
                }
            }
            Answer::Granted { key, round } => self.granted(now, (from, key, round), out),
            Answer::Refused { ballot, refusal, configuration } => {
                configuration.into_iter().for_each(|heard| self.hear(heard));
                self.refused(now, from, ballot, refusal, out);
            }
            Answer::Located { configuration } => {
                configuration.into_iter().for_each(|heard| self.hear(heard));
            }
            Answer::Released { .. } => {}
        }
    }

    /// H5.
    fn lapse(&mut self, now: Reading, out: &mut Vec<Motion>) {
        let State::Holding(holding) = &mut self.state else { return };
        let Some(end) = holding.session.end.filter(|end| now.may_be_past(end.over)) else { return };
        let token = holding.session.value.token;
        out.push(Motion::Lapsed { token });
        self.setup.forget_former();
        if self.setup.rules.hold(Rule::LapseIsFinal) {
            self.state = State::Idle;
        } else {
            holding.is_acquired = false;
            holding.session.end = None;
            holding.patience = end.over + self.timing.ttl;
        }
    }

    /// Phase 1, with a ballot above all that was heard of.
    fn prepare(&mut self, now: Reading, out: &mut Vec<Motion>) {
        let attempt = self.begin(now, out);
        self.state = State::Preparing(attempt);
    }

    fn begin(&mut self, now: Reading, out: &mut Vec<Motion>) -> Attempt {
        self.counter = self.counter.saturating_add(1);
        let ballot = Ballot { counter: self.counter, holder: self.setup.me };
        let mut attempt = Attempt::new(ballot, now + self.timing.patience());
        let asked = attempt.ask(self.known().into_iter());
        send_prepare(ballot, asked, out);
        attempt
    }

    /// All who may be witnesses: the first ones may be gone, and what was heard may be wrong.
    fn known(&self) -> BTreeSet<WitnessId> {
        self.hint.members().chain(self.setup.first.members()).collect()
    }

    /// Takes note of a counter, if an honest node can have come to it.
    fn raise(&mut self, counter: u64) {
        if counter <= self.counter.saturating_add(LEAP_MAX) {
            self.counter = self.counter.max(counter);
        }
    }

    /// The phase 1 that is under way with this ballot.
    fn attempt(&mut self, ballot: Ballot) -> Option<&mut Attempt> {
        let attempt = match &mut self.state {
            State::Idle | State::Waiting { .. } => None,
            State::Preparing(attempt) => Some(attempt),
            State::Holding(holding) => holding.attempt.as_mut(),
        };
        attempt.filter(|attempt| attempt.ballot == ballot)
    }

    /// H2: whether phase 1 is won or lost.
    fn conclude(&mut self, now: Reading, out: &mut Vec<Motion>) {
        let mut attempt = match &mut self.state {
            State::Idle | State::Waiting { .. } => return,
            State::Preparing(attempt) => attempt.clone(),
            State::Holding(holding) => match holding.attempt.take() {
                Some(attempt) => attempt,
                None => return,
            },
        };
        let (configuration, last) = self.found(&attempt);
        let ballot = attempt.ballot;
        if attempt.is_quorum(&configuration) {
            if let Some(former) =
                self.setup.former.filter(|it| last.is_none() && !now.is_past(it.over))
            {
                return self.lose(now, Some(former.over), out);
            }
            self.hint = configuration.clone();
            return self.win(now, Key { ballot, sub: 1 }, (configuration, last), out);
        }
        let more = attempt.ask(configuration.members().chain(self.known()));
        send_prepare(ballot, more, out);
        let is_lost = attempt.is_lost(&configuration) && self.hint.version <= configuration.version;
        match &mut self.state {
            State::Preparing(_) if is_lost => self.lose(now, attempt.free_at(&configuration), out),
            State::Preparing(waiting) => *waiting = attempt,
            State::Holding(holding) if !is_lost => holding.attempt = Some(attempt),
            State::Idle | State::Waiting { .. } | State::Holding(_) => {}
        }
    }

    /// H2: the configuration that phase 1 has found so far, and the token of the last holder that was; `None` when there was none.
    fn found(&self, attempt: &Attempt) -> (Configuration, Option<Token>) {
        let adopts = self.setup.rules.hold(Rule::AdoptHighest);
        match attempt.highest().filter(|_| adopts) {
            Some(it) => (it.value.configuration.clone(), Some(it.value.token)),
            None => (self.setup.first.clone(), None),
        }
    }

    /// H3, H7: phase 2 begins.
    fn win(
        &mut self,
        now: Reading,
        key: Key,
        (configuration, last): (Configuration, Option<Token>),
        out: &mut Vec<Motion>,
    ) {
        // Somebody has agreed on times that no honest node takes.
        let Ok(timing) = Timing::of(configuration.ttl) else {
            if !matches!(self.state, State::Holding(_)) {
                self.lose(now, None, out);
            }
            return;
        };
        self.timing = timing;
        if let State::Holding(holding) = &mut self.state {
            holding.session.rebase(now, key, configuration);
        } else {
            let mut patience = now + timing.patience();
            let former = self.setup.resume;
            let resume = former.filter(|it| Some(it.token) == last && !now.may_be_past(it.kill));
            if let Some(resume) = resume {
                patience = resume.kill;
            }
            let token = resume.map_or(Token(key.ballot.counter), |resume| resume.token);
            let value = Value { configuration, token };
            let outlasts = former.is_some() && self.setup.rules.hold(Rule::OutlastFormer);
            let session = Session::new(now, key, value, outlasts);
            let holding = Holding { session, attempt: None, patience, is_acquired: false };
            self.state = State::Holding(Box::new(holding));
        }
        self.ask(now, out);
    }

    fn ask(&mut self, now: Reading, out: &mut Vec<Motion>) {
        let State::Holding(holding) = &mut self.state else { return };
        let asked = holding.session.ask(now, &self.timing);
        let send = |(to, request): (WitnessId, Request)| Motion::Send { to: to.node, request };
        out.extend(asked.into_iter().map(send));
    }

    fn granted(&mut self, now: Reading, grant: (WitnessId, Key, u64), out: &mut Vec<Motion>) {
        let State::Holding(holding) = &mut self.state else { return };
        let was_held = holding.session.end.is_some();
        if !was_held && now.may_be_past(holding.patience) {
            return self.lose(now, None, out);
        }
        let outcome = holding.session.granted(now, grant, &self.timing, self.setup.rules);
        if self.hint != holding.session.value.configuration {
            self.hint = holding.session.value.configuration.clone();
        }
        let token = holding.session.value.token;
        if let (Outcome::Extended, Some(end)) = (outcome, holding.session.end) {
            out.push(Motion::Deadline(Fence { token, stop: end.stop, kill: end.kill }));
            if !was_held {
                // The first grants are short.
                holding.session.next = now;
            }
            // A container that would have to stop at once is not started; the next round is under way.
            if !holding.is_acquired && !now.may_be_past(end.stop) {
                holding.is_acquired = true;
                self.losses = 0;
                self.setup.forget_former();
                out.push(Motion::Acquired { token });
            }
        }
        if now.may_be_past(holding.session.next) {
            self.ask(now, out);
        }
    }

    fn refused(
        &mut self,
        now: Reading,
        from: WitnessId,
        ballot: Ballot,
        refusal: Refusal,
        out: &mut Vec<Motion>,
    ) {
        if let Refusal::Promised(promised) = refusal {
            self.raise(promised.counter);
        }
        if let Some(attempt) = self.attempt(ballot) {
            attempt.declined(from, None);
            return self.conclude(now, out);
        }
        let State::Holding(holding) = &mut self.state else { return };
        if holding.session.key.ballot != ballot {
            return;
        }
        match refusal {
            // Also of the same counter: the witness promised it to somebody else.
            Refusal::Promised(promised)
                if promised != ballot && promised.counter >= ballot.counter =>
            {
                if holding.session.end.is_none() {
                    self.lose(now, None, out);
                } else if holding.attempt.is_none()
                    && holding.session.is_settled()
                    && self.setup.rules.hold(Rule::WinBack)
                {
                    // While the witnesses change it would take a majority of the new ones to go on at all.
                    let attempt = self.begin(now, out);
                    if let State::Holding(holding) = &mut self.state {
                        holding.attempt = Some(attempt);
                    }
                }
            }
            Refusal::Unaccepted => {
                let key = holding.session.key;
                let request = holding.session.tell(from, key);
                out.extend(request.map(|request| Motion::Send { to: from.node, request }));
            }
            Refusal::Leap
            | Refusal::Promised(_)
            | Refusal::Removed
            | Refusal::Stranger
            | Refusal::Unknown => {}
        }
    }

    /// H10: tries again, when the slot may be free and nobody else has tried for a while. What was granted meanwhile is let go, since
    /// nothing ran by it; but not a former life's token.
    fn lose(&mut self, now: Reading, free_at: Option<Reading>, out: &mut Vec<Motion>) {
        if let State::Holding(holding) = &self.state {
            let (key, token) = (holding.session.key, holding.session.value.token);
            if token == Token(key.ballot.counter) {
                self.tell_release(token, out);
            }
        }
        if free_at.is_none() && self.losses > 0 {
            out.push(Motion::Locate);
        }
        let factor = 1 << self.losses.min(DOUBLINGS_MAX);
        self.losses = self.losses.saturating_add(1);
        let (min, max) = (BACKOFF_MIN, BACKOFF_MAX * factor);
        let span = u64::try_from(max.saturating_sub(min).as_micros()).unwrap_or(u64::MAX);
        let random = min + Duration::from_micros(self.prng.below(span));
        let soon = now + random;
        let until = free_at.map_or(soon, |free| free.later(now + BACKOFF_MIN) + self.headstart());
        self.state = State::Waiting { until };
    }

    fn tell_release(&self, token: Token, out: &mut Vec<Motion>) {
        let request = |witness: WitnessId| Motion::Send {
            to: witness.node,
            request: Request::Release { token },
        };
        out.extend(self.known().into_iter().map(request));
    }

    /// How long the better ones in line are left alone: two round trips and flushes each, and not all at the same moment.
    fn headstart(&mut self) -> Duration {
        let jitter = Duration::from_micros(self.prng.below(50_000));
        Duration::from_millis(300) * self.rank + jitter * self.rank.min(1)
    }
}

fn send_prepare(ballot: Ballot, to: Vec<WitnessId>, out: &mut Vec<Motion>) {
    let request = |witness: WitnessId| Motion::Send {
        to: witness.node,
        request: Request::Prepare { ballot },
    };
    out.extend(to.into_iter().map(request));
}
