//! Drives the coordinator: one task that owns its state, with clocks and channels around it.
//!
//! [`start`] spawns the task. It turns everything that happens (messages, gossip, ends of containers, commands, time) into
//! inputs of [`mesh_coordinator::node::Node`], and carries out what that says, through the traits of `mesh-ports`. The task never
//! waits for the world: containers are handled by one small worker each ([`worker`]), the disk by a task of its own ([`disk`]), and what
//! became of it comes back as an input. [`Handle`] is the remote control that the API uses; [`directory::Live`] is who is who, for all.

mod clock;
pub mod directory;
mod disk;
mod fetch;
mod handle;
pub mod records;
pub mod registers;
mod replicas;
mod routes;
mod task;
mod worker;

pub use self::clock::Clock;
pub use self::handle::Handle;
pub use self::task::{Config, Inboxes, Parts, World, start};

#[cfg(test)]
mod tests;
