//! A large part of a mesh dies at once: how long its slots are without a replica, and who starts how much.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Entry};
use mesh_coordinator::id::{SlotId, SlotIndex};
use mesh_coordinator::rules::Rules;
use mesh_coordinator::spec::Mode;

use super::size::Rate;
use super::{Violation, World, quiet_plan};
use crate::sim::clock::{SECOND, Time};
use crate::sim::host::{Container, Process};
use crate::sim::traffic::Gauge;

/// Replicas of one service.
const REPLICAS: u32 = 20;
/// Until then everybody has heard of everybody, in the largest mesh too.
const GREETED: Time = 30 * SECOND;
/// How long the mesh is looked at before the blow.
const REST: Time = 10 * SECOND;
/// After so long what is not ready is not waited for any more.
const PATIENCE: Time = 180 * SECOND;
/// How long it is looked at after the last slot was refilled: what was started twice is let go meanwhile.
const AFTER: Time = 15 * SECOND;

/// What is struck, and how hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blow {
    /// Nodes.
    pub n_hosts: usize,
    /// Slots, in services of twenty replicas.
    pub n_slots: u32,
    /// Nodes that lose power at one moment.
    pub n_lost: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Refill {
    /// Slots whose holder died.
    pub n_lost_slots: usize,
    /// Of those, slots without a ready replica in the end.
    pub n_left: usize,
    /// From the loss of power to a ready replica, of each of the others, ascending.
    pub times: Vec<Duration>,
    /// Starts of each living node, ascending.
    pub starts: Vec<u64>,
    /// The most starts under way on one node at one moment.
    pub starting_max_node: usize,
    /// The same in the whole mesh.
    pub starting_max_mesh: usize,
    /// Slots that were held by two nodes or more when all was over.
    pub n_doubled: usize,
    /// What was sent at rest before the blow, heartbeats aside.
    pub at_rest: Rate,
    /// The same from the blow until the last slot was refilled.
    pub in_trouble: Rate,
    /// Inputs that the nodes handled, from the beginning of the run.
    pub inputs: u64,
    /// The check that failed; the figures are not to be used then.
    pub violation: Option<Violation>,
}

/// Strikes a mesh in which everything runs.
#[must_use]
pub fn mass(seed: u64, blow: Blow, gauge: Option<Gauge>) -> Refill {
    let mut world = World::furnished(seed, blow);
    world.tally.gauge = gauge;
    world.run_until(GREETED);
    let sent = world.tally.sent;
    world.run_until(GREETED + REST);
    let at_rest = world.tally.sent.since(sent);
    let lost = world.some_hosts(blow.n_lost);
    let slots: BTreeSet<SlotId> = lost.iter().flat_map(|host| world.served_by(*host)).collect();
    let n_lost_slots = slots.len();
    world.tally.awaited = slots;
    world.tally.count_starts_anew();
    let (began, sent) = (world.now, world.tally.sent);
    world.at_once(|world| lost.iter().for_each(|host| world.power_off(*host)));
    while !world.tally.awaited.is_empty()
        && world.now < began + PATIENCE
        && world.checks.violation.is_none()
    {
        let next = world.now + SECOND / 10;
        world.run_until(next);
    }
    let in_trouble = Rate::of(world.tally.sent.since(sent), blow.n_hosts, world.now - began);
    let end = world.now + AFTER;
    world.run_until(end);
    let living = (0..blow.n_hosts).filter(|host| !lost.contains(host));
    let starts = |host| world.tally.starts.get(&host).copied().unwrap_or_default();
    let mut asked: Vec<u64> = living.clone().map(|host| starts(host).asked).collect();
    asked.sort_unstable();
    let mut times: Vec<Duration> =
        world.tally.refilled.iter().map(|at| Duration::from_micros(at - began)).collect();
    times.sort_unstable();
    Refill {
        n_lost_slots,
        n_left: world.tally.awaited.len(),
        times,
        starts: asked,
        starting_max_node: living.map(|host| starts(host).max).max().unwrap_or(0),
        starting_max_mesh: world.tally.starting_max,
        n_doubled: world.claimants().values().filter(|claimants| **claimants > 1).count(),
        at_rest: Rate::of(at_rest, blow.n_hosts, REST),
        in_trouble,
        inputs: world.coverage.inputs,
        violation: world.checks.violation,
    }
}

impl World {
    /// A mesh whose agents start at one moment and find everything running, in equal shares.
    fn furnished(seed: u64, blow: Blow) -> Self {
        let plan = quiet_plan(seed, blow.n_hosts);
        let (mut world, mut records) = Self::unpowered(seed, Rules::ALL, plan);
        let mut n_left = blow.n_slots;
        let mut apps: Vec<Entry> = Vec::new();
        while n_left > 0 {
            let replicas = REPLICAS.min(n_left);
            n_left -= replicas;
            let name = format!("app{}", apps.len()).parse().expect("a name");
            let services = world.small_services(replicas);
            apps.push(world.operator.found(name, services, BTreeSet::new()));
        }
        world.furnish(&apps);
        records.append(&mut apps);
        world.power_on(&records);
        world
    }

    /// Puts a running replica of each slot somewhere: of one service on as many nodes as possible, on each node as many as on any other.
    fn furnish(&mut self, apps: &[Entry]) {
        let mut next = Vec::new();
        for entry in apps {
            let Body::App(release) = &entry.record.body else { continue };
            for (name, spec) in &release.spec.services {
                let Mode::Replicated(replicas) = spec.deploy.mode else { continue };
                for number in 0..replicas {
                    let index = SlotIndex::Number(number);
                    let slot = SlotId { app: release.app, service: name.clone(), index };
                    if next.is_empty() {
                        next = self.some_hosts(self.hosts.len());
                    }
                    let Some(host) = next.pop() else { return };
                    let mut container = Container::new(spec.revision);
                    (container.process, container.sound) = (Process::Running, true);
                    self.hosts[host].containers.insert((slot, spec.revision.id), container);
                }
                let digest = &spec.template.image.digest;
                for host in &mut self.hosts {
                    host.images.insert(digest.clone());
                }
            }
        }
    }

    /// Gives all hosts these records and starts their agents.
    pub(super) fn power_on(&mut self, records: &[Entry]) {
        let disk: BTreeMap<_, _> = records.iter().map(|it| (it.hash, it.clone())).collect();
        self.at_once(|world| {
            for host in 0..world.hosts.len() {
                world.hosts[host].disk.clone_from(&disk);
                world.boot(host, 0);
            }
        });
    }

    /// So many hosts, in random order.
    fn some_hosts(&mut self, count: usize) -> Vec<usize> {
        let mut hosts: Vec<usize> = (0..self.hosts.len()).collect();
        for at in (1..hosts.len()).rev() {
            hosts.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        hosts.truncate(count);
        hosts
    }
}
