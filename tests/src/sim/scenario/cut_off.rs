//! Scenes of one exclusive slot: its holder is cut off for good, and something befalls its witnesses at the same moment. What a day of
//! random faults shows in one of thousands of seeds, these show in most.

use mesh_coordinator::rules::Rules;

use super::{Violation, World, quiet};
use crate::sim::clock::{MILLI, SECOND, Time};
use crate::sim::host::Process;

/// What happens beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Its last questions were answered late.
    LateAnswers,
    /// All other agents are killed, and come back at once.
    Restarts,
    /// And they come back with other stores.
    NewStores,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// The check that failed; `None` when none did.
    pub violation: Option<Violation>,
    /// Whether another host ran the slot in the end.
    pub is_taken_over: bool,
}

/// Plays the scene.
#[must_use]
pub fn cut_off(seed: u64, scene: Scene, rules: Rules) -> CutOff {
    let mut world = quiet(seed, 5, rules);
    world.run_until(20 * SECOND);
    world.place_exclusive();
    world.run_until(45 * SECOND);
    let Some(holder) = world.runner() else {
        return CutOff { violation: world.checks.violation, is_taken_over: false };
    };
    if scene == Scene::LateAnswers {
        world.plan.lag = Some((holder, 2_300 * MILLI + world.rng.below(900 * MILLI)));
    }
    let moment = 60 * SECOND + world.rng.below(6 * SECOND);
    world.run_until(moment);
    // Late answers still come.
    world.cut_off(holder, scene != Scene::LateAnswers);
    let others = (0..world.hosts.len()).filter(|host| *host != holder);
    for host in others.collect::<Vec<_>>() {
        if scene != Scene::LateAnswers {
            world.kill_agent(host);
            let wait = world.rng.below(200 * MILLI);
            world.boot_after(host, wait);
        }
        if scene == Scene::NewStores {
            world.lose_registers(host);
        }
    }
    world.run_until(moment + 60 * SECOND);
    let is_taken_over = world.runner().is_some_and(|host| host != holder);
    CutOff { violation: world.checks.violation, is_taken_over }
}

impl World {
    /// The host that runs something by a lease.
    pub(super) fn runner(&self) -> Option<usize> {
        self.hosts.iter().position(|host| {
            let mut containers = host.containers.values();
            containers.any(|it| it.process == Process::Running && it.fence.is_some())
        })
    }

    fn cut_off(&mut self, host: usize, is_deaf: bool) {
        let others = (0..self.hosts.len()).filter(|other| *other != host);
        let both = others.flat_map(|other| [(host, other), (other, host)]);
        let ways: Vec<(usize, usize)> = both.filter(|(from, _)| *from == host || is_deaf).collect();
        self.cut(&ways, Time::MAX);
    }
}
