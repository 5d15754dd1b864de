//! The deterministic simulator: a whole mesh in virtual time, from a seed.
//!
//! Every host runs the coordinator that the agent runs ([`Node`](mesh_coordinator::node::Node)). All around it is made up: clocks
//! that drift and step, a network that loses, repeats, reorders and splits, gossip that takes rounds, disks that forget what was
//! not flushed, containers that fail and outlive their agents, operators who edit on both sides of a split, and a fate that is
//! drawn for each seed. Checkers look on: some hold always, some once the mesh was left alone for a while.
//!
//! A run is a function of its [`Setup`]: two runs of one have equal [`Outcome::trace`]s.

#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "numbers here are small and made up, and a simulator that is wrong about itself may well panic"
)]
#![expect(
    clippy::multiple_inherent_impl,
    reason = "the world is one thing, told in chapters: its network, its disks, its people"
)]

mod beats;
mod check;
mod clock;
mod coverage;
mod fault;
mod gossip;
mod host;
mod lease;
mod life;
mod net;
mod operator;
mod plan;
mod queue;
mod runtime;
pub mod scenario;
mod sleep;
mod trace;
mod traffic;
mod world;

use std::hash::Hasher as _;

use mesh_coordinator::rules::{Rule, Rules};

pub use self::check::Violation;
pub use self::coverage::Coverage;
pub use self::traffic::{Gauge, Traffic};
use self::world::World;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// The rules by which the nodes play.
    pub rules: Rules,
    /// The rule for which there is to be occasion, where its occasions are rare on most days.
    pub about: Option<Rule>,
    /// How many nodes there are at first; `None` as the seed says.
    pub n_hosts: Option<usize>,
}

impl Setup {
    /// A day of which nothing is known, by all rules.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self { seed, rules: Rules::ALL, about: None, n_hosts: None }
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// A fingerprint of all inputs and outputs.
    pub trace: u64,
    /// What happened.
    pub coverage: Coverage,
    /// The first thing that should not have; the run ends with it.
    pub violation: Option<Violation>,
    /// What happened before, newest last, when the environment asks for it (`SIM_LOG`).
    pub log: Vec<String>,
}

/// Runs one seed to its end, or to the first violation.
#[must_use]
pub fn run(setup: Setup) -> Outcome {
    let mut world = World::new(setup);
    world.run();
    Outcome {
        trace: world.trace.finish(),
        violation: world.checks.violation.take(),
        log: std::mem::take(&mut world.log),
        coverage: world.coverage,
    }
}
