//! Membership and published claims by chitchat, over a sealed datagram transport.
//!
//! chitchat spreads key-value pairs and heartbeats; this crate makes it fit for a hostile network and a long life. Start with
//! [`start`]: it opens the socket and spawns three tasks. The *keeper* owns the chitchat instance, publishes this node's facts
//! and starts gossip again when it ends; the *watcher* turns snapshots of the live nodes into events; the *addresses* task keeps
//! the book of where members are. [`transport`] seals every datagram for one member and refuses everything else.
//!
//! What it does not do: it decides nothing (a fact is a hint with delay, invariant I9), it keeps nothing on disk (the daemon
//! gives it an [`AddressBook`] and the next incarnation), and it does not know how facts are signed
//! ([`FactCodec`](mesh_ports::gossip::FactCodec)).

mod addresses;
mod chat;
mod config;
mod diff;
mod handle;
mod keeper;
mod keys;
mod life;
mod tally;
mod transport;
mod watcher;

#[cfg(test)]
mod tests;

pub use self::config::{
    AddressBook, Config, INTERVAL_MAX, INTERVAL_MIN, Medium, Memory, NODES_MAX, NextIncarnation,
    Ports, Resolve, StartError,
};
pub use self::handle::{Handle, IntervalError, start};
pub use self::life::next_incarnation;
