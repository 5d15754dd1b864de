//! Phase 1: finding out what was agreed on, and making it impossible for lower ballots to agree on anything else.

use std::collections::{BTreeMap, BTreeSet};

use super::register::{Accepted, Ballot, Configuration, WitnessId};
use crate::time::Reading;

/// One ballot's phase 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) ballot: Ballot,
    /// Until when answers are waited for.
    pub(super) until: Reading,
    asked: BTreeSet<WitnessId>,
    promises: BTreeMap<WitnessId, Option<Accepted>>,
    /// Who will not promise, and until when somebody else holds the slot there, where that is why.
    declined: BTreeMap<WitnessId, Option<Reading>>,
}

impl Attempt {
    pub(super) const fn new(ballot: Ballot, until: Reading) -> Self {
        Self {
            ballot,
            until,
            asked: BTreeSet::new(),
            promises: BTreeMap::new(),
            declined: BTreeMap::new(),
        }
    }

    /// Those of `members` who were not asked yet; from now on they were.
    pub(super) fn ask(&mut self, members: impl Iterator<Item = WitnessId>) -> Vec<WitnessId> {
        members.filter(|member| self.asked.insert(*member)).collect()
    }

    pub(super) fn promised(&mut self, by: WitnessId, accepted: Option<Accepted>) {
        self.promises.insert(by, accepted);
    }

    pub(super) fn declined(&mut self, by: WitnessId, busy_until: Option<Reading>) {
        self.declined.insert(by, busy_until);
    }

    /// H2: what the highest value says that anybody has accepted; `None` when nobody has accepted anything.
    pub(super) fn highest(&self) -> Option<&Accepted> {
        self.promises.values().flatten().max_by_key(|accepted| accepted.key)
    }

    /// Whether enough have promised for `configuration`.
    pub(super) fn is_quorum(&self, configuration: &Configuration) -> bool {
        configuration.is_quorum(&self.promises.keys().copied().collect())
    }

    /// Whether those who may still promise are not enough, so that there is nothing to wait for.
    pub(super) fn is_lost(&self, configuration: &Configuration) -> bool {
        let open = configuration.members().filter(|member| !self.declined.contains_key(member));
        !configuration.is_quorum(&open.collect())
    }

    /// When enough will be free, if nobody renews; `None` when that is not what stands in the way.
    pub(super) fn free_at(&self, configuration: &Configuration) -> Option<Reading> {
        let mut free: BTreeSet<WitnessId> = self.promises.keys().copied().collect();
        let held = self.declined.iter().filter_map(|(by, until)| Some((until.as_ref()?, by)));
        let mut held: Vec<(&Reading, &WitnessId)> = held.collect();
        held.sort();
        held.into_iter().find_map(|(until, by)| {
            free.insert(*by);
            configuration.is_quorum(&free).then_some(*until)
        })
    }
}
