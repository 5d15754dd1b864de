//! Durable state on sled: catalogue, node facts; flushed before it is answered.
//!
//! [`SledStore`] is what an agent keeps on its disk; [`MemStore`] is the same promise without a disk, with a switch for every way
//! in which a disk breaks it. The store is a copy of what the mesh knows and of a few small facts: keys are never in it, so that
//! a lost store costs a transfer from the peers and not the node.

mod disk;
mod memory;
#[cfg(test)]
mod suite;

pub use self::disk::{OpenError, SledStore, hold, set_aside};
pub use self::memory::{Disk, MemStore};
