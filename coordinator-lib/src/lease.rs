//! Who holds what: claims of available slots.
//!
//! A node that finds a slot without a holder and itself first in rank says so ("intent"), waits a moment for objections, starts
//! the container and says when it serves. Two nodes that hold one slot find out by gossip; both know which claim is better, and
//! the worse one asks the better one before it stops. The rules C1 to C13, why they are safe and how fast they are, is written
//! down in `LEASES.md`.
#![doc = include_str!("../LEASES.md")]

mod book;
mod claims;
pub mod exclusive;
mod leases;
mod mine;
mod need;
mod order;
mod post;

pub(crate) use self::claims::{Claims, Effect, Strays, World};
pub(crate) use self::leases::{Leases, Terms};
pub(crate) use self::mine::Mine;
pub(crate) use self::need::wanted_slots;
pub use self::order::{Contender, best, outranks};
pub use self::post::together;

/// An available slot whose holder dies is claimed elsewhere within this time; the start of its container comes on top.
///
/// The parts, all worst cases: a heartbeat that had just arrived (250 ms), the silence of a node without a second opinion
/// (1 500 ms), a probe (150 ms), the intent (100 ms), and half a second for a busy machine. With a second opinion the silence is
/// half as long.
pub const FAILOVER_BOUND: std::time::Duration = std::time::Duration::from_millis(2_500);

#[cfg(test)]
mod tests;
