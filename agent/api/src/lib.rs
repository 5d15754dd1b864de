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

/// How many bytes `message` has as protobuf, in as many envelopes as it takes. What carries them adds some 36 bytes to each: 5 by gRPC, 9
/// by HTTP/2, 22 by TLS.
#[must_use]
pub fn message_len(message: &mesh_coordinator::message::Message) -> usize {
    convert::message::to_wire(message).iter().map(prost::Message::encoded_len).sum()
}

/// How many bytes a heartbeat of an agent of this version has as protobuf, in the years to come.
#[must_use]
pub fn beat_len(version: &str) -> usize {
    /// A time in 2026 in milliseconds. An agent counts its lives by such times too.
    const NOW_MS: u64 = 1_790_000_000_000;
    let beat =
        mesh_proto::v1::Beat { incarnation: NOW_MS, version: version.to_owned(), wall_ms: NOW_MS };
    prost::Message::encoded_len(&beat)
}

/// The addresses behind `host:port`, by the resolvers of the host; empty when there are none. A static binary must not ask the C
/// library for them.
pub async fn resolve(address: &str) -> Vec<std::net::SocketAddr> {
    dial::Names::default().resolve(address).await.unwrap_or_default()
}

#[cfg(test)]
mod tests;
