//! The gRPC server and client; conversion between wire and domain.
//!
//! Here the messages of `mesh-proto` become the types of the core and back; they go no further. [`server`] answers peers,
//! operators and nodes that join, each by the standing of the key that its connection proved; [`client`] asks. TLS with pinned
//! keys, signatures and the records' encoding come from `mesh-identity` and are handed in by the daemon: nothing here holds a
//! key. Start reading at [`server`] or [`client`].

pub mod client;
mod convert;
mod dial;
mod http2;
mod pipe;
pub mod server;
mod status;

/// The addresses behind `host:port`, by the resolvers of the host; empty when there are none. A static binary must not ask the C
/// library for them.
pub async fn resolve(address: &str) -> Vec<std::net::SocketAddr> {
    dial::Names::default().resolve(address).await.unwrap_or_default()
}

#[cfg(test)]
mod tests;
