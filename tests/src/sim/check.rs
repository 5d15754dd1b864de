//! What must hold: some of it always, some soon after something happened, some once the mesh was left alone for a while, some at the end. One file each.

mod always_acked_is_stored;
mod always_bounded;
mod always_fair_starts;
mod always_looks_enough;
mod always_one_runs;
mod always_start_before_stop;
mod always_witnesses_keep_word;
mod finally_nothing_is_lost;
mod settled_one_holder;
mod settled_views_agree;
mod settled_witnesses_live;
mod soon_claims_are_spread;
mod soon_somebody_holds;

use std::collections::{BTreeMap, BTreeSet};

use mesh_coordinator::catalogue::{Body, Entry};
use mesh_coordinator::id::{AppUid, NodeId, SlotId};
use mesh_coordinator::lease::exclusive::{LeaseId, Token};
use mesh_coordinator::name::ServiceName;

use self::always_bounded::Rate;
use self::soon_claims_are_spread::Burst;
use super::World;
use super::clock::{SECOND, Time};
use super::host::Host;
use super::queue::Key;

/// After so long without a disturbance a part of the mesh is in order. The longest way there: gossip finds forgotten nodes
/// within 5 s and takes three rounds, catalogues meet, and a service of six replicas is replaced one by one.
pub(crate) const SETTLE: Time = 45 * SECOND;
/// After so long lost witnesses were replaced: they are waited for for 60 s, and a change for as long after the last one.
const MENDED: Time = 110 * SECOND;
/// How often a part that is in order is looked at.
const LOOK_PERIOD: Time = 5 * SECOND;

/// Something that should not have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which checker noticed.
    pub check: &'static str,
    /// When, in microseconds.
    pub at: u64,
    /// What.
    pub text: String,
}

/// What the checkers remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) violation: Option<Violation>,
    /// Until when the loss of a replica of a slot was nobody's choice, or an operator's.
    excused: BTreeMap<SlotId, Time>,
    /// When it last changed who reaches whom, or who runs.
    pub(crate) last_change: Time,
    /// When something was last wrong with anything.
    pub(crate) last_fault: Time,
    /// When each host last published a claim, or took one back.
    pub(crate) claimed: BTreeMap<usize, Time>,
    /// Since when each host has been saying of a replica of its own that it is ready and stays.
    serving: BTreeMap<(usize, Key), Time>,
    rates: BTreeMap<usize, Rate>,
    /// When an operator last said anything.
    pub(crate) last_word: Time,
    /// Claims that stand.
    claims: BTreeSet<(usize, SlotId, u64)>,
    /// When a claim of each service was last let go, or given up.
    let_go: BTreeMap<(AppUid, ServiceName), Time>,
    bursts: BTreeMap<(AppUid, ServiceName), Burst>,
    /// When an exclusive slot was last claimed, or let go.
    last_leased: Time,
    /// When a node last got another store.
    pub(crate) renewed: Option<Time>,
    /// Changes of witnesses that were looked at.
    changes: BTreeSet<(LeaseId, Token, u32)>,
    /// Since when a node could have held a slot that nobody holds.
    vacant: BTreeMap<(SlotId, usize), Time>,
    /// By which token an exclusive slot was run last, and where.
    tokens: BTreeMap<SlotId, (Token, usize)>,
}

impl Checks {
    /// Something befell a replica of `slot` that is no fault of the protocol.
    pub(crate) fn excuse(&mut self, slot: &SlotId, at: Time) {
        let excused = self.excused.entry(slot.clone()).or_default();
        *excused = at.max(*excused);
    }

    /// An agent begins a new life, and has said nothing in it.
    pub(crate) fn forget(&mut self, host: usize) {
        self.serving.retain(|(other, _), _| *other != host);
    }
}

impl World {
    pub(crate) fn fail(&mut self, check: &'static str, text: String) {
        if self.checks.violation.is_none() {
            self.checks.violation = Some(Violation { check, at: self.now, text });
        }
    }

    /// Looks at the parts of the mesh that were left alone for long enough.
    pub(crate) fn look(&mut self) {
        self.check_spread();
        self.check_vacancies();
        self.check_oversight();
        self.note_parked();
        let calm = self.now.saturating_sub(self.calm_from);
        if calm < SETTLE || calm % LOOK_PERIOD >= SECOND {
            return;
        }
        for part in self.parts() {
            self.coverage.settled += 1;
            self.check_views(&part);
            self.check_holders(&part);
            if calm >= MENDED {
                self.check_witnesses(&part);
            }
        }
    }

    fn note_parked(&mut self) {
        let parks = |it: &&Host| it.node().is_some_and(|node| !node.state().parked.is_empty());
        self.coverage.parked += u64::from(self.hosts.iter().any(|it| parks(&it)));
    }

    /// The sets of members that all reach each other and nobody else.
    fn parts(&self) -> Vec<Vec<usize>> {
        let awake: Vec<usize> = (0..self.hosts.len())
            .filter(|host| self.hosts[*host].is_awake() && !self.is_removed(*host))
            .filter(|host| self.is_known(*host))
            .collect();
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for host in &awake {
            let part: Vec<usize> = awake
                .iter()
                .filter(|other| *other == host || self.net.are_linked(*host, **other))
                .copied()
                .collect();
            if part.first() == Some(host) && self.is_closed(&part, &awake) {
                parts.push(part);
            }
        }
        parts
    }

    fn is_closed(&self, part: &[usize], awake: &[usize]) -> bool {
        part.iter().all(|a| {
            awake.iter().all(|b| {
                if part.contains(b) {
                    a == b || self.net.are_linked(*a, *b)
                } else {
                    !self.net.is_open(*a, *b) && !self.net.is_open(*b, *a)
                }
            })
        })
    }

    /// Whether any other member ever heard of this host: not when it joined through a node that had been removed, which was
    /// given up with all that only it had.
    pub(crate) fn is_known(&self, host: usize) -> bool {
        let id = self.hosts[host].id;
        let knows = |it: &Host| it.node().is_some_and(|node| node.state().nodes.contains_key(&id));
        let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != host);
        let mut others =
            others.filter(|(other, it)| it.agent.is_some() && !self.is_removed(*other));
        others.clone().next().is_none() || others.any(|(_, it)| knows(it))
    }

    /// Whether a member knows that this host is no member any more, if only by its disk.
    pub(crate) fn is_noted_as_removed(&self, host: usize) -> bool {
        let id = self.hosts[host].id;
        let removes = |entry: &Entry| matches!(entry.record.body, Body::MemberRemoval { node, .. } if node == id);
        let notes = self.hosts.iter().enumerate().any(|(other, it)| {
            let is_asleep = it.agent.is_none() && !self.is_removed(other);
            other != host && is_asleep && it.disk.values().any(removes)
        });
        notes || self.is_removed(host)
    }

    /// Whether a member that runs knows that this host is no member any more.
    ///
    /// A removed node that was not told of it may have heard of other removals, from operators who took it for a member. They
    /// are none of the mesh's: its word counts only among those that it took leave of itself.
    pub(crate) fn is_removed(&self, host: usize) -> bool {
        let says = |a: &Host, b: NodeId| {
            a.node().is_some_and(|node| node.state().removed_nodes.contains(&b))
        };
        let counts =
            |a: &Host| self.hosts.iter().all(|judge| !says(judge, a.id) || says(a, judge.id));
        self.hosts.iter().any(|other| says(other, self.hosts[host].id) && counts(other))
    }
}
