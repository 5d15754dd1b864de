//! A scene of one exclusive slot: the disk of its holder is copied, and the copy is started on another machine beside it.

use mesh_coordinator::node::Input;
use mesh_coordinator::rules::Rules;

use super::{CutOff, World, quiet};
use crate::sim::clock::SECOND;

/// Plays the scene: the older one hears of the copy by the next rounds of gossip. [`CutOff::is_taken_over`] tells whether a third host ran the slot in the end.
#[must_use]
pub fn cloned(seed: u64, rules: Rules) -> CutOff {
    let mut world = quiet(seed, 5, rules);
    world.run_until(20 * SECOND);
    world.place_exclusive();
    let moment = 45 * SECOND + world.rng.below(6 * SECOND);
    world.run_until(moment);
    let Some(holder) = world.runner() else {
        return CutOff { violation: world.checks.violation, is_taken_over: false };
    };
    let copy = world.copy_host(holder);
    world.boot_after(copy, world.plan.start);
    let heard = moment + SECOND + world.rng.below(3 * SECOND);
    world.run_until(heard);
    world.input(holder, Input::Twin);
    world.run_until(moment + 90 * SECOND);
    let is_taken_over = world.runner().is_some_and(|host| host != holder && host != copy);
    CutOff { violation: world.checks.violation, is_taken_over }
}

impl World {
    /// Another machine with the disk of `host`, which others take for that node from now on: its agent begins a later life. What the
    /// older agent says of itself by gossip counts no more then, but what it asks is still heard.
    fn copy_host(&mut self, host: usize) -> usize {
        let mut copy = self.hosts[host].clone();
        copy.agent = None;
        copy.powered = false;
        copy.containers.clear();
        copy.unflushed.clear();
        copy.boot ^= u128::MAX;
        self.hosts.push(copy);
        let copy = self.hosts.len() - 1;
        self.index.insert(self.hosts[host].id, copy);
        self.gossip.grow(self.hosts.len());
        self.gossip.silence(host);
        copy
    }
}
