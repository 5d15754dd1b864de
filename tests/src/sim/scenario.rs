//! Scenes for tests that want one thing to happen, and not a whole day.

mod cloned;
mod cut_off;
mod frozen;
mod leases;
mod mass;
mod size;

use std::time::Duration;

use mesh_coordinator::catalogue::gossip_interval;
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
pub use self::leases::{Leases, leases};
pub use self::mass::{Blow, Refill, mass};
pub use self::size::{Failovers, Heal, Rate, failovers, heal};

/// A mesh in which nothing happens by itself.
fn quiet(seed: u64, n_hosts: usize, rules: Rules) -> World {
    World::with_plan(seed, rules, quiet_plan(seed, n_hosts))
}

fn quiet_plan(seed: u64, n_hosts: usize) -> Plan {
    let mut plan = Plan::draw(&mut Prng::new(seed));
    plan.n_hosts = n_hosts;
    plan.n_hosts_max = n_hosts;
    plan.n_apps = 1;
    plan.roomy = true;
    plan.loss_permille = 0;
    plan.repeat_permille = 0;
    plan.delay = 200;
    plan.jitter = 300;
    plan.gossip_interval = micros(gossip_interval(n_hosts));
    plan.fetch = 500 * MILLI;
    plan.start = 100 * MILLI;
    plan.faults.clear();
    plan.acts.clear();
    plan
}

fn micros(time: Duration) -> Time {
    Time::try_from(time.as_micros()).unwrap_or(Time::MAX)
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

impl World {
    fn entry_of(&self, acked: &Acked) -> Option<usize> {
        let entry = self.operator.entry?;
        acked.stored_on.contains(&self.hosts[entry].id).then_some(entry)
    }
}
