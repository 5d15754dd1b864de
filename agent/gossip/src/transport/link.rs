//! The socket to the other members, and the sealing and opening of packets.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_ports::directory::{Directory, Peer, Sealer};
use mesh_telemetry::{Reason, Refusals};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tracing::debug;

use super::packet::{Header, Inner, MESSAGE_LEN_MAX, PACKET_LEN_MAX, PART_LEN_MAX};
use super::session::{Sessions, Verdict};
use crate::addresses::Addresses;
use crate::tally::Tally;

/// The receive buffer that is asked for. A few members may each send a message of 52 packets at the same moment; the default
/// of Linux holds about ninety.
const RECEIVE_BUFFER_LEN: usize = 4 << 20;

/// What came of a packet.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A whole message.
    Message(Vec<u8>),
    /// A packet to send back.
    Answer(Vec<u8>),
    /// Nothing to do.
    Nothing,
}

/// The way to the other members. Lives as long as gossip; its sessions as long as one incarnation.
pub(crate) struct Link {
    node: NodeId,
    header: Header,
    pub(crate) udp: UdpSocket,
    is_v6: bool,
    directory: Arc<dyn Directory>,
    sealer: Arc<dyn Sealer>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) refusals: Refusals,
    /// A leaf: locked for moments, never while waiting.
    sessions: Mutex<Sessions>,
}

/// `address` in the form by which it is known: a socket for both families writes IPv4 addresses as IPv6 ones.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // As it is, with its scope.
        IpAddr::V6(_) => address,
    }
}

/// What a [`Link`] needs besides its socket.
pub(crate) struct Parties {
    pub(crate) node: NodeId,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) refusals: Refusals,
}

impl Link {
    pub(crate) async fn open(bind: SocketAddr, parties: Parties) -> std::io::Result<Self> {
        let udp = UdpSocket::bind(bind).await?;
        // The first needs privileges and ignores the system's limit; the second is cut to that limit. Neither is needed to work.
        if setsockopt(&udp, sockopt::RcvBufForce, &RECEIVE_BUFFER_LEN).is_err()
            && let Err(error) = setsockopt(&udp, sockopt::RcvBuf, &RECEIVE_BUFFER_LEN)
        {
            debug!(%error, "receive buffer keeps its size");
        }
        Ok(Self {
            node: parties.node,
            header: Header::new(parties.directory.mesh(), parties.node),
            udp,
            is_v6: bind.is_ipv6(),
            directory: parties.directory,
            sealer: parties.sealer,
            addresses: parties.addresses,
            tally: parties.tally,
            refusals: parties.refusals,
            sessions: Mutex::new(Sessions::new(Incarnation(0))),
        })
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a life: all sessions begin anew.
    pub(crate) fn begin(&self, life: Incarnation) {
        *self.sessions() = Sessions::new(life);
    }

    /// A later life of this node that a member named.
    pub(crate) fn rumour(&self) -> Option<Incarnation> {
        self.sessions().rumour()
    }

    /// Opens `packet`, which came from `from`.
    pub(crate) fn open_packet(&self, packet: &[u8], from: SocketAddr) -> Arrival {
        match self.judge(packet, from) {
            Ok(arrival) => arrival,
            Err(reason) => {
                self.refuse(from, reason);
                Arrival::Nothing
            }
        }
    }

    /// Counts what came from `from` and is not taken.
    pub(crate) fn refuse(&self, from: SocketAddr, words: &str) {
        self.tally.datagrams_refused.add(1);
        self.refusals.refuse(Reason::Datagram, from, words);
    }

    fn judge(&self, packet: &[u8], from: SocketAddr) -> Result<Arrival, &'static str> {
        if packet.len() > PACKET_LEN_MAX {
            return Err("too long");
        }
        let (header, sealed) = Header::split(packet).ok_or("no packet of ours")?;
        if header.tag != self.header.tag {
            return Err("of another mesh");
        }
        if header.sender == self.node {
            return Err("says that it comes from this node");
        }
        let peer = self.directory.peer(header.sender).ok_or("not from a member")?;
        let plain = self.sealer.open(&peer.key, sealed).ok_or("does not open")?;
        let inner = Inner::parse(&plain).ok_or("malformed inside")?;
        if inner.header != header {
            return Err("header and seal differ");
        }
        let verdict = {
            let mut sessions = self.sessions();
            sessions.make_room(|node| self.directory.peer(node).is_some());
            sessions.judge(peer.node, &inner)
        };
        let arrival = match verdict {
            Verdict::Refused(reason) => return Err(reason),
            Verdict::Stale(reason) => {
                self.tally.datagrams_refused.add(1);
                debug!(%from, reason, "ignored a datagram");
                return Ok(Arrival::Nothing);
            }
            Verdict::Greet => {
                self.tally.datagrams_refused.add(1);
                // Not taken as the member's address: the datagram may be an old one that somebody plays again.
                let hello = self.seal(&peer, &[]).into_iter().flatten().next();
                return Ok(hello.map_or(Arrival::Nothing, Arrival::Answer));
            }
            Verdict::Kept => Arrival::Nothing,
            Verdict::Message(message) => Arrival::Message(message),
        };
        self.tally.datagrams_received.add(1);
        self.addresses.hear(peer.node, from);
        Ok(arrival)
    }

    /// The packets that carry `message` to `peer`; an empty message is a hello. `None` when it cannot be sent.
    fn seal(&self, peer: &Peer, message: &[u8]) -> Option<Vec<Vec<u8>>> {
        if message.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let of = u8::try_from(message.len().div_ceil(PART_LEN_MAX)).ok()?;
        let (life, proven, first) = {
            let mut sessions = self.sessions();
            let first = sessions.take_counters(u64::from(of.max(1)))?;
            (sessions.own_life(), sessions.life(peer.node), first)
        };
        let unproven = proven == Incarnation(0);
        let hears = if unproven { self.addresses.told_life(peer.node) } else { proven };
        let seal_part = |(part, payload): (u8, &[u8])| {
            let counter = first.checked_add(u64::from(part))?;
            let inner = Inner { header: self.header, life, counter, hears, part, of, payload };
            let sealed = self.sealer.seal(&peer.key, &inner.to_bytes());
            let packet = self.header.packet(&sealed);
            // Nothing sealed: the sealer could not.
            (!sealed.is_empty() && packet.len() <= PACKET_LEN_MAX).then_some(packet)
        };
        if of == 0 {
            return Some(vec![seal_part((0, &[]))?]);
        }
        (0..of).zip(message.chunks(PART_LEN_MAX)).map(seal_part).collect()
    }

    /// The packets that carry `message` to `node`.
    #[cfg(test)]
    pub(crate) fn seal_for_test(&self, node: NodeId, message: &[u8]) -> Vec<Vec<u8>> {
        self.seal(&self.directory.peer(node).unwrap(), message).unwrap()
    }

    /// Sends `message` to whoever is known at `to`. Failures are counted: gossip lives with loss.
    pub(crate) async fn send(&self, to: SocketAddr, message: &[u8]) -> usize {
        let to = canonical(to);
        let owners = self.addresses.owners(to);
        let mut n_bytes = 0_usize;
        let mut reached = false;
        for peer in owners.into_iter().filter_map(|node| self.directory.peer(node)) {
            match self.send_to(&peer, to, message).await {
                Ok(bytes) => {
                    n_bytes = n_bytes.saturating_add(bytes);
                    reached = true;
                }
                Err(error) => debug!(peer = %peer.node, %to, %error, "cannot send"),
            }
        }
        if !reached {
            self.tally.messages_undelivered.add(1);
            debug!(%to, "message was not sent");
        }
        n_bytes
    }

    async fn send_to(&self, peer: &Peer, to: SocketAddr, message: &[u8]) -> std::io::Result<usize> {
        let too_long = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let packets = self.seal(peer, message).ok_or_else(too_long)?;
        let mut n_bytes = 0_usize;
        for packet in packets {
            self.send_packet(&packet, to).await?;
            n_bytes = n_bytes.saturating_add(packet.len());
        }
        Ok(n_bytes)
    }

    /// Sends one packet as it is.
    pub(crate) async fn send_packet(&self, packet: &[u8], to: SocketAddr) -> std::io::Result<()> {
        let to = match to {
            SocketAddr::V4(v4) if self.is_v6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        };
        let n_bytes = match self.udp.send_to(packet, to).await {
            // The error belongs to an earlier datagram whose host refused it; it is taken off the socket by being reported.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.udp.send_to(packet, to).await?
            }
            sent => sent?,
        };
        self.tally.datagrams_sent.add(1);
        self.tally.bytes_sent.add(n_bytes);
        Ok(())
    }
}
