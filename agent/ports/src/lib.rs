//! What the engine asks of the world, as traits.
//!
//! Every adapter in `agent/` implements one of these; adapters do not know each other, and the daemon wires them. Start with
//! [`runtime`] (containers and images), [`gossip`] (membership and published facts) and [`peer`] (direct messages).

pub mod clock;
pub mod control;
pub mod directory;
pub mod gossip;
pub mod network;
pub mod peer;
pub mod request;
pub mod runtime;
pub mod store;
