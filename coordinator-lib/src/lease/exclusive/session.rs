//! Phase 2 and what follows: a ballot that won its phase 1, and with it the lease as long as it is renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::register::{Configuration, Key, Request, Value, WitnessId, is_majority};
use super::timing::{Timing, valid};
use crate::rules::{Rule, Rules};
use crate::time::Reading;

/// One request for time, to all witnesses at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Round {
    sent: Reading,
    ttl: Duration,
    key: Key,
    granted: BTreeSet<WitnessId>,
}

impl Round {
    /// The moment after which it counts no more (H1).
    fn closes(&self) -> Reading {
        self.sent + valid(self.ttl)
    }
}

/// How far a change of the witnesses has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// There is none, or it is agreed on.
    Settled,
    /// This holder has proposed it: until it is agreed on, the former witnesses decide.
    Proposed,
    /// Somebody has proposed it, and phase 1 has brought it up: it may be agreed on, so both sets decide.
    Found,
}

/// The end of a lease as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct End {
    /// When the time was asked for.
    pub(super) since: Reading,
    /// SIGTERM.
    pub(super) stop: Reading,
    /// SIGKILL: from then it takes K at most until all is dead.
    pub(super) kill: Reading,
    /// Not valid any more.
    pub(super) over: Reading,
}

/// A ballot in phase 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) key: Key,
    pub(super) value: Value,
    stage: Stage,
    rounds: BTreeMap<u64, Round>,
    last_round: u64,
    /// Who has granted the present value, so that a renewal is enough.
    knows: BTreeSet<WitnessId>,
    /// Whether the first grants hold as long as all others: they must outlast what an earlier life was granted.
    resumes: bool,
    /// `None` before the first majority.
    pub(super) end: Option<End>,
    /// When the next round is sent.
    pub(super) next: Reading,
}

/// What a grant led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// Nothing new.
    Nothing,
    /// The lease ends later than before; or, the first time, it begins.
    Extended,
}

impl Session {
    /// A ballot that won phase 1 and found `value`'s configuration.
    pub(super) fn new(now: Reading, key: Key, value: Value, resumes: bool) -> Self {
        let stage = if value.configuration.next.is_some() { Stage::Found } else { Stage::Settled };
        Self {
            key,
            value,
            stage,
            rounds: BTreeMap::new(),
            last_round: 0,
            knows: BTreeSet::new(),
            resumes,
            end: None,
            next: now,
        }
    }

    /// H7: goes on under a higher ballot, with the configuration that its phase 1 found. Holder and token stay.
    pub(super) fn rebase(&mut self, now: Reading, key: Key, configuration: Configuration) {
        self.stage = if configuration.next.is_some() { Stage::Found } else { Stage::Settled };
        self.key = key;
        self.value.configuration = configuration;
        self.knows.clear();
        self.next = now;
    }

    /// Whether no change of the witnesses is under way.
    pub(super) const fn is_settled(&self) -> bool {
        self.value.configuration.next.is_none()
    }

    /// Whether the last round has extended the lease, so that nothing is waited for.
    pub(super) fn is_answered(&self) -> bool {
        let asked = self.rounds.last_key_value().map(|(_, round)| round.sent);
        asked.is_some() && asked == self.end.map(|end| end.since)
    }

    /// Step 1 of a change: both sets are asked from now on.
    pub(super) fn propose(&mut self, now: Reading, next: BTreeSet<WitnessId>) {
        let before = &self.value.configuration;
        let version = before.version.saturating_add(1);
        let configuration = Configuration { version, next: Some(next), ..before.clone() };
        self.supersede(now, configuration, Stage::Proposed);
    }

    fn supersede(&mut self, now: Reading, configuration: Configuration, stage: Stage) {
        self.value.configuration = configuration;
        self.stage = stage;
        self.key.sub = self.key.sub.saturating_add(1);
        self.knows.clear();
        self.next = now;
    }

    /// Opens the next round, and says what to ask of whom.
    pub(super) fn ask(&mut self, now: Reading, timing: &Timing) -> Vec<(WitnessId, Request)> {
        let is_full = self.end.is_some() || self.resumes;
        let ttl = if is_full { timing.ttl } else { timing.ttl_first };
        self.last_round = self.last_round.saturating_add(1);
        let (round, key) = (self.last_round, self.key);
        self.rounds.insert(round, Round { sent: now, ttl, key, granted: BTreeSet::new() });
        self.next = now + timing.attempt;
        let request = |witness: WitnessId| {
            let request = if self.knows.contains(&witness) {
                Request::Renew { key, round, ttl }
            } else {
                Request::Accept { key, round, value: self.value.clone(), ttl }
            };
            (witness, request)
        };
        self.value.configuration.members().map(request).collect()
    }

    /// What a witness has to be told that has not accepted what was to be renewed; `None` when that was long ago.
    pub(super) fn tell(&mut self, witness: WitnessId, key: Key) -> Option<Request> {
        let was_to_renew = self.knows.remove(&witness);
        let (round, asked) = self.rounds.last_key_value()?;
        let fits = was_to_renew && key == self.key && asked.key == key;
        fits.then(|| Request::Accept {
            key,
            round: *round,
            value: self.value.clone(),
            ttl: asked.ttl,
        })
    }

    /// A witness grants a round.
    pub(super) fn granted(
        &mut self,
        now: Reading,
        (by, key, number): (WitnessId, Key, u64),
        timing: &Timing,
        rules: Rules,
    ) -> Outcome {
        self.rounds.retain(|_, round| !now.may_be_past(round.closes()));
        let Some(round) = self.rounds.get_mut(&number).filter(|round| round.key == key) else {
            return Outcome::Nothing;
        };
        round.granted.insert(by);
        if !rules.hold(Rule::FromAsking) {
            round.sent = now;
        }
        if key == self.key {
            self.knows.insert(by);
        }
        let round = round.clone();
        let outcome = self.count(&round, timing);
        if self.is_agreed(&round, rules) {
            self.finish(now);
        } else if outcome == Outcome::Extended && number == self.last_round {
            self.next = round.sent + timing.renew;
        }
        outcome
    }

    /// H3, H4: whether the grants of a round are enough, and what that makes of the end.
    fn count(&mut self, round: &Round, timing: &Timing) -> Outcome {
        let configuration = &self.value.configuration;
        let counts = match self.stage {
            Stage::Settled | Stage::Proposed => is_majority(&configuration.current, &round.granted),
            Stage::Found => configuration.is_quorum(&round.granted),
        };
        let over = round.closes();
        let is_later = self.end.is_none_or(|end| over.boot() > end.over.boot());
        if !counts || !is_later {
            return Outcome::Nothing;
        }
        let kill = valid(round.ttl).saturating_sub(timing.kill);
        let stop = kill.saturating_sub(timing.grace);
        let since = round.sent;
        self.end = Some(End { since, stop: since + stop, kill: since + kill, over });
        Outcome::Extended
    }

    /// Whether both sets have accepted the change.
    fn is_agreed(&self, round: &Round, rules: Rules) -> bool {
        let Some(next) = &self.value.configuration.next else { return false };
        let enough = if rules.hold(Rule::BothMajorities) {
            self.value.configuration.is_quorum(&round.granted)
        } else {
            is_majority(next, &round.granted)
        };
        round.key == self.key && enough
    }

    /// Step 3 of a change: from now on only the new witnesses decide.
    fn finish(&mut self, now: Reading) {
        let before = &self.value.configuration;
        let Some(current) = before.next.clone() else { return };
        let version = before.version.saturating_add(1);
        let configuration = Configuration { version, current, next: None, ttl: before.ttl };
        self.supersede(now, configuration, Stage::Settled);
    }
}
