//! Scenes for tests that want one thing to happen, and not a whole day.

mod cloned;
mod cut_off;
mod frozen;

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::prng::Prng;
use mesh_coordinator::rules::Rules;

use super::check::Violation;
use super::clock::{MILLI, SECOND, Time};
use super::operator::Acked;
use super::plan::{Act, Plan};
use super::world::World;

pub use self::cloned::cloned;
pub use self::cut_off::{CutOff, Scene, cut_off};
pub use self::frozen::{Frozen, frozen};

/// How often it is looked whether a lost replica is ready elsewhere: looking costs more than a large mesh itself.
const LOOK_EVERY: Time = 5 * MILLI;

/// A mesh in which nothing happens by itself.
fn quiet(seed: u64, n_hosts: usize, rules: Rules) -> World {
    let mut plan = Plan::draw(&mut Prng::new(seed));
    plan.n_hosts = n_hosts;
    plan.n_hosts_max = n_hosts;
    plan.n_apps = 1;
    plan.roomy = true;
    plan.loss_permille = 0;
    plan.repeat_permille = 0;
    plan.delay = 200;
    plan.jitter = 300;
    plan.gossip_interval = match n_hosts {
        0..=100 => 500 * MILLI,
        _ => SECOND,
    };
    plan.fetch = 500 * MILLI;
    plan.start = 100 * MILLI;
    plan.faults.clear();
    plan.acts.clear();
    World::with_plan(seed, rules, plan)
}

/// Places an app, and destroys its entry node with its disk at the very moment of the acknowledgement; or, with `power_only`,
/// takes the power of all nodes at that moment, so that only what was flushed is left. Returns whether the app is still known
/// once the others have settled.
#[must_use]
pub fn survives_its_entry(seed: u64, power_only: bool, rules: Rules) -> bool {
    let mut world = quiet(seed, 3, rules);
    world.run_until(20 * SECOND);
    world.perform(Act::Place);
    let limit = world.now + 10 * SECOND;
    while world.operator.acked.is_empty() && world.now < limit {
        let next = world.now + 100;
        world.run_until(next);
    }
    let Some(acked) = world.operator.acked.first().cloned() else { return false };
    let Some(entry) = world.entry_of(&acked) else { return false };
    if power_only {
        for host in 0..world.hosts.len() {
            world.power_off(host);
            world.boot_after(host, SECOND);
        }
    } else {
        world.lose(entry);
    }
    world.run_until(limit + 60 * SECOND);
    let key = acked.entry.record.body.key();
    world
        .hosts
        .iter()
        .filter_map(|host| host.node())
        .all(|node| node.catalogue().record(&key).is_some_and(|it| it.hash == acked.entry.hash))
}

/// How a mesh of some size takes the loss of hosts.
#[derive(Debug, Clone)]
pub struct Failovers {
    /// From the loss of power to a ready replica elsewhere, one for each slot that was lost, ascending.
    pub times: Vec<Duration>,
    /// Messages that one node sent in a second, on average, in a mesh at rest.
    pub messages_at_rest: f64,
    /// The same in the seconds around the losses.
    pub messages_in_trouble: f64,
    /// The check that failed; the world stood still from then on, so that the figures are not to be used.
    pub violation: Option<Violation>,
}

/// Takes the power of `n_losses` hosts, one after the other, and measures how long their slots are without a replica.
#[must_use]
pub fn failovers(seed: u64, n_hosts: usize, n_losses: usize) -> Failovers {
    let mut world = quiet(seed, n_hosts, Rules::ALL);
    world.run_until(20 * SECOND);
    world.place_plain(6);
    world.run_until(60 * SECOND);
    let sent = world.coverage.messages;
    world.run_until(90 * SECOND);
    let at_rest = world.coverage.messages - sent;
    let sent = world.coverage.messages;
    let began = world.now;
    let mut times = Vec::new();
    for _ in 0..n_losses {
        let Some(host) = world.some_holder() else { break };
        times.extend(world.lose_power_of(host));
        world.boot_after(host, SECOND);
        let later = world.now + 25 * SECOND;
        world.run_until(later);
    }
    times.sort_unstable();
    let rate = |messages: u64, from: Time, to: Time| {
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let (messages, nodes, time) = (messages as f64, n_hosts as f64, (to - from) as f64);
        messages * 1e6 / (nodes * time)
    };
    Failovers {
        times,
        messages_at_rest: rate(at_rest, 60 * SECOND, 90 * SECOND),
        messages_in_trouble: rate(world.coverage.messages - sent, began, world.now),
        violation: world.checks.violation,
    }
}

impl World {
    fn entry_of(&self, acked: &Acked) -> Option<usize> {
        let entry = self.operator.entry?;
        acked.stored_on.contains(&self.hosts[entry].id).then_some(entry)
    }

    /// A host that serves something.
    fn some_holder(&mut self) -> Option<usize> {
        let now = self.now;
        let serves = |host: &usize| self.hosts[*host].containers.values().any(|it| it.serves(now));
        let holders: Vec<usize> = (0..self.hosts.len()).filter(serves).collect();
        self.rng.pick(&holders).copied()
    }

    /// Takes the power of a host, and waits until all that it held is ready elsewhere.
    fn lose_power_of(&mut self, host: usize) -> Vec<Duration> {
        let (now, node) = (self.now, &self.hosts[host]);
        let held = node.node().into_iter().flat_map(mesh_coordinator::node::Node::claims);
        let mut waiting: BTreeMap<_, _> = held
            .filter(|claim| claim.phase == Phase::Ready)
            .map(|claim| (claim.slot.clone(), ()))
            .collect();
        let mut times = Vec::new();
        self.power_off(host);
        let end = now + 30 * SECOND;
        while !waiting.is_empty() && self.now < end && self.checks.violation.is_none() {
            let next = self.now + LOOK_EVERY;
            self.run_until(next);
            let nodes = self.hosts.iter().filter_map(|host| host.node());
            for claim in nodes.flat_map(mesh_coordinator::node::Node::claims) {
                if claim.phase == Phase::Ready && waiting.remove(&claim.slot).is_some() {
                    times.push(Duration::from_micros(next - now));
                }
            }
        }
        times
    }
}
