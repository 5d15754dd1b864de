//! The host's bridge, container interfaces, address translation, and the proxy behind published ports.
//!
//! [`bridge::Bridge`] gives each container a network namespace of its own on a bridge of this host, by netlink alone: neither
//! `ip` nor `nft` nor `iptables` needs to be installed. [`proxy::Proxy`] listens on what apps publish and forwards each
//! connection to a ready replica, on this node or, through an agent, on another one. The two do not know each other: the bridge
//! is what the runtime asks for, the proxy is what the engine tells about routes.
//!
//! Not here: which replica is ready (the engine), how agents reach each other (the API), names (the resolver).

pub mod bridge;
pub mod proxy;
