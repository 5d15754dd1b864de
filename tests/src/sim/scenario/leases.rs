//! Exclusive slots in meshes of many sizes: what their leases cost, and how long a slot is without a replica when its holder dies.

use std::time::Duration;

use mesh_coordinator::rules::Rules;

use super::size::Rate;
use super::{Violation, World, quiet_plan};
use crate::sim::clock::{SECOND, Time};
use crate::sim::traffic::Gauge;

/// Until then everybody has heard of everybody, and all slots are held.
const HELD: Time = 60 * SECOND;
/// How long renewals are counted: several of the longest lease.
const REST: Time = 30 * SECOND;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Leases {
    /// Slots that somebody held before the first loss.
    pub n_held: usize,
    /// From the loss of power to a ready replica elsewhere, one for each slot that was lost, ascending.
    pub times: Vec<Duration>,
    /// What was sent about leases at rest.
    pub at_rest: Rate,
    /// Everything that was sent at rest, heartbeats aside.
    pub all_at_rest: Rate,
    /// Inputs that the nodes handled.
    pub inputs: u64,
    /// The check that failed; the figures are not to be used then.
    pub violation: Option<Violation>,
}

/// Lets a mesh hold exclusive slots by leases of `ttl`, and takes the power of `n_losses` holders, one after the other.
#[must_use]
pub fn leases(
    seed: u64,
    n_hosts: usize,
    (n_slots, ttl): (u32, Duration),
    n_losses: usize,
    gauge: Option<Gauge>,
) -> Leases {
    let (mut world, mut records) = World::unpowered(seed, Rules::ALL, quiet_plan(seed, n_hosts));
    world.tally.gauge = gauge;
    records.push(world.exclusive_app(n_slots, ttl));
    world.power_on(&records);
    world.run_until(HELD);
    let n_held = (0..n_hosts).map(|host| world.served_by(host).count()).sum();
    let (leased, sent) = (world.tally.leases, world.tally.sent);
    world.run_until(HELD + REST);
    let at_rest = Rate::of(world.tally.leases.since(leased), n_hosts, REST);
    let all_at_rest = Rate::of(world.tally.sent.since(sent), n_hosts, REST);
    let mut times = Vec::new();
    for _ in 0..n_losses {
        let Some(host) = world.some_holder() else { break };
        times.extend(world.lose_power_of(host).refilled);
        world.boot_after(host, SECOND);
        let later = world.now + 25 * SECOND;
        world.run_until(later);
    }
    times.sort_unstable();
    Leases {
        n_held,
        times,
        at_rest,
        all_at_rest,
        inputs: world.coverage.inputs,
        violation: world.checks.violation,
    }
}
