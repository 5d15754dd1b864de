//! The protocol of exclusive slots, explored by random walks through whatever messages, clocks, disks and processes may do.
//!
//! The machines are those of the agent, alone: one slot, five nodes, each a witness and a candidate. At every step something is
//! chosen at random among all that could happen next, so a walk gets to places where no schedule of a whole mesh leads. Whether
//! two nodes ever hold the slot at one moment is judged by what their containers do, not by what they believe.
//!
//! A walk is a function of its seed.

#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a made-up world of a handful of nodes: what is wrong in it is a fault of the test and should end it"
)]

mod coverage;
mod world;

use mesh_coordinator::rules::Rules;

pub use self::coverage::Coverage;
use self::world::World;

/// The steps of one walk.
const STEPS: usize = 4_000;

/// One walk.
///
/// # Errors
/// The promise that was broken, and how.
pub fn walk(seed: u64, rules: Rules) -> Result<Coverage, String> {
    let mut world = World::new(seed, rules);
    for _ in 0..STEPS {
        world.step()?;
    }
    // A tenth of them is enough to see whether a slot can get stuck.
    if seed.is_multiple_of(10) && world.end_well()? {
        world.coverage.ended_well += 1;
    }
    Ok(world.coverage)
}
