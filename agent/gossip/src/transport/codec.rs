//! chitchat's envelopes as bytes.
//!
//! chitchat keeps its own encoding to itself, so the envelope is sent through chitchat's UDP socket to a socket of ours on
//! loopback, where the bytes are read; and the other way round. Our socket is connected, so the kernel gives it only what
//! chitchat's socket sent; chitchat's socket is not, so what did not come from ours is dropped here.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chitchat::transport::{Socket as _, UdpSocket};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};

use super::packet::MESSAGE_LEN_MAX;

/// How long a datagram on loopback may take before it counts as lost. Long, because a loaded machine is not a fault.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where an encoded envelope says which message it is.
const KIND_AT: usize = 3;

/// The kind that begins a handshake; its length is that of the digest.
const KIND_SYN: u8 = 0;

/// One pair of sockets. After an error it is out of step and must be opened anew.
pub(crate) struct Codec {
    inner: UdpSocket,
    outer: tokio::net::UdpSocket,
    outer_address: SocketAddr,
    buffer: Vec<u8>,
    /// An encoded envelope that marks the end of an answer: chitchat skips what it cannot read without a word, so that only the
    /// arrival of the mark tells that there will be no answer.
    mark: Vec<u8>,
}

impl Codec {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let inner = UdpSocket::open(loopback).await?;
        let outer = tokio::net::UdpSocket::bind(loopback).await?;
        outer.connect(inner.local_addr()?).await?;
        let outer_address = outer.local_addr()?;
        let buffer = vec![0; MESSAGE_LEN_MAX + 1];
        let mut codec = Self { inner, outer, outer_address, buffer, mark: Vec::new() };
        let mark =
            ChitchatEnvelope { version: ProtocolVersion::V1, message: ChitchatMessage::BadCluster };
        codec.mark = codec.encode(mark).await?;
        Ok(codec)
    }

    /// The bytes of `envelope`.
    pub(crate) async fn encode(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<Vec<u8>> {
        let sent = self.inner.send(self.outer_address, envelope).await?;
        let received = tokio::time::timeout(PATIENCE, self.outer.recv(&mut self.buffer));
        let length = received.await.context("an envelope was lost on loopback")??;
        ensure!(length == sent.num_bytes_sent, "loopback is out of step");
        Ok(self.buffer.get(..length).unwrap_or_default().to_vec())
    }

    /// The envelope in `bytes`; `None` when there is none.
    pub(crate) async fn decode(
        &mut self,
        bytes: &[u8],
    ) -> anyhow::Result<Option<ChitchatEnvelope>> {
        // A complaint of another mesh has no place in a sealed one, and could not be told from the mark.
        if bytes.get(KIND_AT) == self.mark.get(KIND_AT) {
            return Ok(None);
        }
        self.outer.send(bytes).await?;
        self.outer.send(&self.mark).await?;
        let mut found = None;
        loop {
            let received = tokio::time::timeout(PATIENCE, self.inner.recv());
            let outcome = received.await.context("an envelope was lost on loopback")??;
            if outcome.from_addr != self.outer_address {
                continue;
            }
            match outcome.envelope.message {
                ChitchatMessage::BadCluster => return Ok(found),
                ChitchatMessage::Syn { .. }
                | ChitchatMessage::SynAck { .. }
                | ChitchatMessage::Ack { .. } => {
                    if found.replace(outcome.envelope).is_some() {
                        bail!("loopback is out of step");
                    }
                }
            }
        }
    }

    /// Whether `bytes` are the start of a handshake, which is hardly more than a digest.
    pub(crate) fn is_syn(bytes: &[u8]) -> bool {
        bytes.get(KIND_AT) == Some(&KIND_SYN)
    }
}
