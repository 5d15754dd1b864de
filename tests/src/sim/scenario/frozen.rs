//! A scene of one exclusive slot: its holder is a virtual machine that is paused, with its clocks, until another has taken over.

use mesh_coordinator::lease::exclusive::Token;
use mesh_coordinator::rules::Rules;

use super::{Violation, World, quiet};
use crate::sim::clock::{SECOND, Time};
use crate::sim::host::Process;

/// So long after it goes on everybody has heard of both holders, and what runs by the earlier token has been stopped: two rounds of
/// gossip and a stop. The lease, by the clocks that stood still, goes on for longer than that.
const NEWS: Time = 3 * SECOND;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The check that failed; `None` when none did.
    pub violation: Option<Violation>,
    /// How many hosts ran the slot: at the moment when the former holder went on, and soon after.
    pub n_runners: (usize, usize),
    /// D4: whether a host that knew of both holders sent new connections by the earlier token.
    pub is_misled: bool,
}

/// Plays the scene.
#[must_use]
pub fn frozen(seed: u64, rules: Rules) -> Frozen {
    let mut world = quiet(seed, 5, rules);
    world.run_until(20 * SECOND);
    world.place_exclusive();
    let moment = 45 * SECOND + world.rng.below(6 * SECOND);
    world.run_until(moment);
    let mut outcome = Frozen { violation: None, n_runners: (0, 0), is_misled: false };
    if let Some(holder) = world.runner() {
        let paused = 60 * SECOND;
        world.freeze(holder, paused, NEWS);
        world.run_until(moment + paused);
        outcome.n_runners.0 = world.runners().count();
        while world.now < moment + paused + NEWS {
            let next = world.now + SECOND / 100;
            world.run_until(next);
            outcome.is_misled |= world.is_misled();
        }
        outcome.n_runners.1 = world.runners().count();
    }
    outcome.violation = world.checks.violation;
    outcome
}

impl World {
    fn runners(&self) -> impl Iterator<Item = Token> {
        let containers = self.hosts.iter().flat_map(|host| host.containers.values());
        let running = containers.filter(|it| it.process == Process::Running);
        running.filter_map(|it| it.fence).map(|fence| fence.token)
    }

    /// D4: whether somebody forwards to a container though he has heard of a later token than its own.
    fn is_misled(&self) -> bool {
        self.hosts.iter().filter_map(|host| host.node()).any(|node| {
            let known = || node.known_claims().map(|(_, claim)| claim).chain(node.claims());
            node.serving().any(|(_, served)| {
                known().any(|it| it.slot == served.slot && it.token > served.token)
            })
        })
    }
}
