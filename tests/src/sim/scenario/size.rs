//! Scenes of meshes of many sizes: a host loses power; the mesh falls into two halves and comes together again.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::node::Node;
use mesh_coordinator::rules::Rules;
use mesh_coordinator::view::NodeStatus;

use super::{Violation, World, quiet};
use crate::sim::clock::{MILLI, SECOND, Time};
use crate::sim::traffic::{Gauge, Traffic};

/// How often it is looked who believes what: looking costs more than a large mesh itself.
const LOOK_EVERY: Time = 5 * MILLI;
/// The same where everybody is compared with everybody.
const COMPARE_EVERY: Time = 50 * MILLI;
/// After so long something that did not happen is not waited for any more.
const PATIENCE: Time = 60 * SECOND;
/// How long a split lasts: until both halves have taken all slots, in the largest mesh too.
const SPLIT: Time = 60 * SECOND;

/// What one node sends in a second, on average.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// Messages.
    pub messages: f64,
    /// Their bytes; zero if nobody gauged them.
    pub bytes: f64,
}

impl Rate {
    pub(super) fn of(traffic: Traffic, n_hosts: usize, time: Time) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let each = |count: u64| count as f64 * 1e6 / (n_hosts as f64 * time as f64);
        Self { messages: each(traffic.messages), bytes: each(traffic.bytes) }
    }
}

/// How a mesh of some size takes the loss of hosts.
#[derive(Debug, Clone)]
pub struct Failovers {
    /// From the loss of power to a ready replica elsewhere, one for each slot that was lost, ascending.
    pub times: Vec<Duration>,
    /// From the loss of power until the first node believed it, one for each loss, ascending.
    pub noticed: Vec<Duration>,
    /// The same, until every node believed it.
    pub noticed_by_all: Vec<Duration>,
    /// What was sent in a mesh at rest, heartbeats aside.
    pub at_rest: Rate,
    /// The same in the seconds around the losses.
    pub in_trouble: Rate,
    /// Heartbeats that one node sends in a second, on average.
    pub beats: f64,
    /// Inputs that the nodes handled.
    pub inputs: u64,
    /// The check that failed; the world stood still from then on, so that the figures are not to be used.
    pub violation: Option<Violation>,
}

/// Takes the power of `n_losses` hosts, one after the other, and measures how long their slots are without a replica, and when the others
/// know.
#[must_use]
pub fn failovers(seed: u64, n_hosts: usize, n_losses: usize, gauge: Option<Gauge>) -> Failovers {
    let mut world = quiet(seed, n_hosts, Rules::ALL);
    world.tally.gauge = gauge;
    world.run_until(20 * SECOND);
    world.place_plain(6);
    world.run_until(60 * SECOND);
    let sent = world.tally.sent;
    world.run_until(90 * SECOND);
    let at_rest = world.tally.sent.since(sent);
    let beats = world.beats_per_second();
    let (sent, began) = (world.tally.sent, world.now);
    let (mut times, mut noticed, mut noticed_by_all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n_losses {
        let Some(host) = world.some_holder() else { break };
        let loss = world.lose_power_of(host);
        times.extend(loss.refilled);
        noticed.extend(loss.noticed);
        noticed_by_all.extend(loss.noticed_by_all);
        world.boot_after(host, SECOND);
        let later = world.now + 25 * SECOND;
        world.run_until(later);
    }
    for sample in [&mut times, &mut noticed, &mut noticed_by_all] {
        sample.sort_unstable();
    }
    Failovers {
        times,
        noticed,
        noticed_by_all,
        at_rest: Rate::of(at_rest, n_hosts, 30 * SECOND),
        in_trouble: Rate::of(world.tally.sent.since(sent), n_hosts, world.now - began),
        beats,
        inputs: world.coverage.inputs,
        violation: world.checks.violation,
    }
}

/// What became of the loss of one host.
pub(super) struct Loss {
    pub(super) refilled: Vec<Duration>,
    noticed: Option<Duration>,
    noticed_by_all: Option<Duration>,
}

/// How a mesh of two halves comes together.
#[derive(Debug, Clone)]
pub struct Heal {
    /// Slots that were claimed in both halves.
    pub n_doubled: usize,
    /// From the moment at which the ways were open until each slot was claimed once; `None` if that did not happen.
    pub one_claim: Option<Duration>,
    /// The same, until all nodes believed each other alive and knew the same claims.
    pub all_agree: Option<Duration>,
    /// What was sent from then on until that moment.
    pub sent: Rate,
    /// The check that failed; the figures are not to be used then.
    pub violation: Option<Violation>,
}

/// Cuts a mesh into two halves for a minute, and mends it.
#[must_use]
pub fn heal(seed: u64, n_hosts: usize, gauge: Option<Gauge>) -> Heal {
    let mut world = quiet(seed, n_hosts, Rules::ALL);
    world.tally.gauge = gauge;
    world.run_until(20 * SECOND);
    world.place_plain(6);
    world.run_until(60 * SECOND);
    let half = |host: usize| host % 2;
    let pairs = (0..n_hosts).flat_map(|from| (0..n_hosts).map(move |to| (from, to)));
    let ways: Vec<(usize, usize)> = pairs.filter(|(from, to)| half(*from) != half(*to)).collect();
    world.cut(&ways, Time::MAX);
    world.run_until(60 * SECOND + SPLIT);
    let n_doubled = world.claimants().values().filter(|claimants| **claimants > 1).count();
    let (began, sent) = (world.now, world.tally.sent);
    world.mend_all();
    let (mut one_claim, mut all_agree) = (None, None);
    while all_agree.is_none() && world.now < began + PATIENCE && world.checks.violation.is_none() {
        let next = world.now + COMPARE_EVERY;
        world.run_until(next);
        if world.claimants().values().any(|claimants| *claimants != 1) {
            one_claim = None;
            continue;
        }
        let passed = Duration::from_micros(world.now - began);
        one_claim = one_claim.or(Some(passed));
        all_agree = world.all_agree().then_some(passed);
    }
    Heal {
        n_doubled,
        one_claim,
        all_agree,
        sent: Rate::of(world.tally.sent.since(sent), n_hosts, world.now - began),
        violation: world.checks.violation,
    }
}

impl World {
    /// Heartbeats that one node sends in a second, on average.
    fn beats_per_second(&self) -> f64 {
        let watched: usize =
            self.hosts.iter().flat_map(|it| &it.agent).map(|it| it.watched.len()).sum();
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let each = watched as f64 / self.hosts.len() as f64;
        each / mesh_coordinator::membership::HEARTBEAT.as_secs_f64()
    }

    /// A host that serves something.
    pub(super) fn some_holder(&mut self) -> Option<usize> {
        let now = self.now;
        let serves = |host: &usize| self.hosts[*host].containers.values().any(|it| it.serves(now));
        let holders: Vec<usize> = (0..self.hosts.len()).filter(serves).collect();
        self.rng.pick(&holders).copied()
    }

    /// The slots that a host serves, by its own word.
    pub(super) fn served_by(&self, host: usize) -> impl Iterator<Item = SlotId> {
        let claims = self.hosts[host].node().into_iter().flat_map(Node::claims);
        claims.filter(|claim| claim.phase == Phase::Ready).map(|claim| claim.slot.clone())
    }

    /// Takes the power of a host, and waits until all that it held is ready elsewhere and everybody believes it down.
    pub(super) fn lose_power_of(&mut self, host: usize) -> Loss {
        let (began, lost) = (self.now, self.hosts[host].id);
        self.tally.awaited = self.served_by(host).collect();
        self.tally.refilled.clear();
        self.power_off(host);
        let (mut noticed, mut noticed_by_all) = (None, None);
        while (!self.tally.awaited.is_empty() || noticed_by_all.is_none())
            && self.now < began + PATIENCE
            && self.checks.violation.is_none()
        {
            let next = self.now + LOOK_EVERY;
            self.run_until(next);
            let passed = Duration::from_micros(next - began);
            let believes = |node: &Node| node.status(lost) == Some(NodeStatus::Down);
            let nodes = || self.hosts.iter().filter_map(|host| host.node());
            if noticed.is_none() && nodes().any(believes) {
                noticed = Some(passed);
            }
            if noticed_by_all.is_none() && nodes().all(believes) {
                noticed_by_all = Some(passed);
            }
        }
        let refilled = self.tally.refilled.iter();
        let refilled = refilled.map(|at| Duration::from_micros(at - began)).collect();
        Loss { refilled, noticed, noticed_by_all }
    }

    /// How many nodes claim each slot.
    pub(super) fn claimants(&self) -> BTreeMap<SlotId, usize> {
        let mut claimants = BTreeMap::new();
        let claims = self.hosts.iter().filter_map(|host| host.node()).flat_map(Node::claims);
        for claim in claims.filter(|claim| claim.phase.holds()) {
            *claimants.entry(claim.slot.clone()).or_default() += 1;
        }
        claimants
    }

    /// Whether all nodes believe each other alive, and know the same claims.
    fn all_agree(&self) -> bool {
        let ids: Vec<NodeId> = self.hosts.iter().map(|host| host.id).collect();
        let knows = |node: &Node| {
            let own = node.claims().filter(|it| it.phase.holds()).map(|it| (node.id(), it));
            let others = node.known_claims().filter(|(_, it)| it.phase.holds());
            let mut known: Vec<(NodeId, SlotId, Phase)> =
                own.chain(others).map(|(id, it)| (id, it.slot.clone(), it.phase)).collect();
            known.sort_unstable();
            known
        };
        let mut nodes = self.hosts.iter().filter_map(|host| host.node());
        let Some(first) = nodes.next().map(knows) else { return false };
        nodes.all(|node| knows(node) == first)
            && self
                .hosts
                .iter()
                .filter_map(|host| host.node())
                .all(|node| ids.iter().all(|id| node.status(*id) == Some(NodeStatus::Alive)))
    }
}
