//! Phase 1: finding out what was agreed on, and making it impossible for lower ballots to agree on anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::register::{Accepted, Ballot, Configuration, WitnessId};
use crate::time::Reading;

/// One ballot's phase 1.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) ballot: Ballot,
    /// Until when answers are waited for.
    pub(super) until: Reading,
    asked: BTreeSet<WitnessId>,
    promises: BTreeMap<WitnessId, Option<Accepted>>,
    declined: BTreeSet<WitnessId>,
    /// The longest time that somebody else holds the slot for, as far as was heard.
    pub(super) busy: Duration,
}

impl Attempt {
    pub(super) const fn new(ballot: Ballot, until: Reading) -> Self {
        Self {
            ballot,
            until,
            asked: BTreeSet::new(),
            promises: BTreeMap::new(),
            declined: BTreeSet::new(),
            busy: Duration::ZERO,
        }
    }

    /// Those of `members` who were not asked yet; from now on they were.
    pub(super) fn ask(&mut self, members: impl Iterator<Item = WitnessId>) -> Vec<WitnessId> {
        members.filter(|member| self.asked.insert(*member)).collect()
    }

    pub(super) fn promised(&mut self, by: WitnessId, accepted: Option<Accepted>) {
        self.promises.insert(by, accepted);
    }

    pub(super) fn declined(&mut self, by: WitnessId, busy: Duration) {
        self.declined.insert(by);
        self.busy = self.busy.max(busy);
    }

    /// H2: what the highest value says that anybody has accepted; `None` when nobody has accepted anything.
    pub(super) fn highest(&self) -> Option<&Accepted> {
        self.promises.values().flatten().max_by_key(|accepted| accepted.key)
    }

    /// Whether enough have promised for `configuration`.
    pub(super) fn is_quorum(&self, configuration: &Configuration) -> bool {
        configuration.is_quorum(&self.promises.keys().copied().collect())
    }

    /// Whether everybody has answered, so that there is nothing to wait for.
    pub(super) fn is_answered(&self) -> bool {
        let has_answered =
            |witness| self.promises.contains_key(witness) || self.declined.contains(witness);
        self.asked.iter().all(has_answered)
    }
}
