//! chitchat's view of the link: a transport that opens one socket per incarnation.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use mesh_telemetry::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, warn};

use super::codec::Codec;
use super::link::{Arrival, Link, canonical};

/// Envelopes between the receiving task and chitchat. When chitchat is behind, the kernel's buffer fills and drops.
const INBOX_LEN: usize = 64;

/// A digest that calls for a person: two thirds of what a datagram can carry.
const DIGEST_LEN_ALERT: usize = 40_000;

/// After an error of the socket nothing is read for this long, so that a lasting error does not eat the machine.
const PAUSE: Duration = Duration::from_millis(10);

/// Gives chitchat sealed sockets over one link.
pub(crate) struct Sealed {
    pub(crate) link: Arc<Link>,
    pub(crate) tasks: Tasks,
}

#[async_trait]
impl Transport for Sealed {
    /// A task of its own receives, opens, puts together and decodes, because chitchat drops the future of `recv` at every tick:
    /// what was half done there would be lost.
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(INBOX_LEN);
        let stop = CancellationToken::new();
        let receiver =
            Receiver { link: Arc::clone(&self.link), codec: Codec::open().await?, sender };
        let stopped = stop.clone();
        self.tasks.spawn("gossip-receive", async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = receiver.run() => {}
            }
        });
        Ok(Box::new(SealedSocket {
            link: Arc::clone(&self.link),
            codec: Codec::open().await?,
            inbox,
            _stop: stop.drop_guard(),
        }))
    }
}

struct Receiver {
    link: Arc<Link>,
    codec: Codec,
    sender: mpsc::Sender<RecvOutcome>,
}

impl Receiver {
    /// Receives until chitchat's end of the channel is gone. Errors of the socket are no end: a refused datagram of ours comes
    /// back as one.
    async fn run(mut self) {
        let mut buffer = vec![0; 2_048];
        loop {
            let (length, from) = match self.link.udp.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "cannot receive");
                    if error.kind() != ErrorKind::ConnectionRefused {
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            };
            let from = canonical(from);
            let packet = buffer.get(..length).unwrap_or_default();
            match self.link.open_packet(packet, from) {
                Arrival::Nothing => {}
                Arrival::Answer(packet) => {
                    if let Err(error) = self.link.send_packet(&packet, from).await {
                        debug!(%error, %from, "cannot greet");
                    }
                }
                Arrival::Message(message) => {
                    if !self.hand_over(&message, from).await {
                        return;
                    }
                }
            }
        }
    }

    /// Decodes a message for chitchat. False when nobody wants it any more or nothing can be decoded: the socket ends.
    async fn hand_over(&mut self, message: &[u8], from_addr: SocketAddr) -> bool {
        let envelope = match self.codec.decode(message).await {
            Ok(Some(envelope)) => envelope,
            Ok(None) => {
                self.link.refuse(from_addr, "a message that is none");
                return true;
            }
            Err(error) => {
                warn!(%error, "cannot decode, trying anew");
                return reopen(&mut self.codec).await;
            }
        };
        let num_bytes_received = message.len();
        self.sender.send(RecvOutcome { from_addr, envelope, num_bytes_received }).await.is_ok()
    }
}

/// Replaces a codec that is out of step. False when even that fails.
async fn reopen(codec: &mut Codec) -> bool {
    match Codec::open().await {
        Ok(new) => {
            *codec = new;
            true
        }
        Err(error) => {
            error!(%error, "cannot open sockets on loopback");
            false
        }
    }
}

struct SealedSocket {
    link: Arc<Link>,
    codec: Codec,
    inbox: mpsc::Receiver<RecvOutcome>,
    _stop: DropGuard,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.link.udp.local_addr()?)
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let message = match self.codec.encode(envelope).await {
            Ok(message) => message,
            Err(error) => {
                self.link.tally.messages_undelivered.add(1);
                warn!(%error, %to, "cannot encode");
                anyhow::ensure!(reopen(&mut self.codec).await, "cannot encode any more");
                return Ok(SendOutcome { num_bytes_sent: 0 });
            }
        };
        if Codec::is_syn(&message) {
            watch_digest(&self.link, message.len());
        }
        Ok(SendOutcome { num_bytes_sent: self.link.send(to, &message).await })
    }

    /// Cancel-safe: a channel's `recv` is. Ends only with the receiving task, and then gossip begins a new life.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.inbox.recv().await.context("the receiving task ended")
    }
}

fn watch_digest(link: &Link, length: usize) {
    let before = link.tally.digest_bytes.set(length);
    let alert = u64::try_from(DIGEST_LEN_ALERT).unwrap_or(u64::MAX);
    if length > DIGEST_LEN_ALERT && before <= alert {
        error!(
            bytes = length,
            "the digest of all nodes is near its limit: the mesh has too many nodes or restarts"
        );
    }
}
