//! The layout of one datagram.
//!
//! ```text
//! clear   version (1)  mesh tag (8)  sender (10)
//! sealed  the clear header again (19)  sender's life (8)  counter (8)  recipient's life (8)  part (1)  of (1)  payload
//! ```
//!
//! The header is repeated inside because the seal does not cover it, and because the key of a pair is the same in both
//! directions: without the sender's name inside, a datagram could be sent back to its author as if the other had written it.
//! All numbers are big-endian. A packet of zero parts is a hello.

use mesh_coordinator::id::{Incarnation, MeshId, NodeId};

/// The longest packet: fits every path that carries 1,500 bytes, tunnels included.
pub(crate) const PACKET_LEN_MAX: usize = 1_400;

/// The longest message: chitchat fills what UDP could carry.
pub(crate) const MESSAGE_LEN_MAX: usize = 65_507;

/// What a seal may add. A box of X25519 and `XSalsa20` with its nonce adds 40 bytes.
const SEAL_LEN_MAX: usize = 64;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 19;
const INNER_LEN: usize = HEADER_LEN + 8 + 8 + 8 + 1 + 1;

/// The longest payload of one packet.
pub(crate) const PART_LEN_MAX: usize = PACKET_LEN_MAX - HEADER_LEN - SEAL_LEN_MAX - INNER_LEN;

/// The most parts of a message.
pub(crate) const PARTS_MAX: u8 = 52;

const _: () = assert!(PART_LEN_MAX * 52 >= MESSAGE_LEN_MAX, "the longest message fits its parts");
const _: () = assert!(PART_LEN_MAX * 51 < MESSAGE_LEN_MAX, "no more parts than needed");

/// The clear part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The first bytes of the mesh's hash: keeps meshes that share a network apart, without trying keys.
    pub(crate) tag: [u8; 8],
    /// Who says that it sent the packet.
    pub(crate) sender: NodeId,
}

impl Header {
    pub(crate) const fn new(mesh: MeshId, sender: NodeId) -> Self {
        Self { tag: mesh.0.head().to_be_bytes(), sender }
    }

    /// The header at the start of `packet` and what follows; `None` when it has no such form.
    pub(crate) fn split(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (version, rest) = packet.split_first()?;
        let (tag, rest) = rest.split_first_chunk::<8>()?;
        let (sender, rest) = rest.split_first_chunk::<10>()?;
        let header = Self { tag: *tag, sender: NodeId::from_bytes(*sender) };
        (*version == VERSION).then_some((header, rest))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.tag);
        out.extend_from_slice(self.sender.as_bytes());
    }

    /// The packet with this header and the sealed rest.
    pub(crate) fn packet(&self, sealed: &[u8]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER_LEN + sealed.len());
        self.write(&mut packet);
        packet.extend_from_slice(sealed);
        packet
    }
}

/// What is inside the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inner<'a> {
    /// Must equal the clear header.
    pub(crate) header: Header,
    /// In which life the sender is.
    pub(crate) life: Incarnation,
    /// Counts the sender's packets in this life, from one.
    pub(crate) counter: u64,
    /// In which life the sender believes the recipient to be; zero when it does not know.
    pub(crate) hears: Incarnation,
    /// Which part of its message this is, from zero.
    pub(crate) part: u8,
    /// How many parts the message has; zero for a hello.
    pub(crate) of: u8,
    /// The part.
    pub(crate) payload: &'a [u8],
}

impl<'a> Inner<'a> {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INNER_LEN + self.payload.len());
        self.header.write(&mut bytes);
        bytes.extend_from_slice(&self.life.0.to_be_bytes());
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes.extend_from_slice(&self.hears.0.to_be_bytes());
        bytes.extend_from_slice(&[self.part, self.of]);
        bytes.extend_from_slice(self.payload);
        bytes
    }

    /// What `bytes` say; `None` when they have no such form.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = Header::split(bytes)?;
        let (life, rest) = rest.split_first_chunk::<8>()?;
        let (counter, rest) = rest.split_first_chunk::<8>()?;
        let (hears, rest) = rest.split_first_chunk::<8>()?;
        let ([part, of], payload) = rest.split_first_chunk::<2>()?;
        let fits = *of <= PARTS_MAX && payload.len() <= PART_LEN_MAX;
        let counts = if *of == 0 { *part == 0 && payload.is_empty() } else { part < of };
        (fits && counts).then(|| Self {
            header,
            life: Incarnation(u64::from_be_bytes(*life)),
            counter: u64::from_be_bytes(*counter),
            hears: Incarnation(u64::from_be_bytes(*hears)),
            part: *part,
            of: *of,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    //! The layout can be read back, and nothing else can be read.

    use mesh_coordinator::id::{Hash, Incarnation, MeshId, NodeId, PublicKey};
    use mesh_coordinator::prng::Prng;

    use super::{Header, Inner, PART_LEN_MAX, PARTS_MAX};

    fn inner(payload: &[u8]) -> Inner<'_> {
        let header = Header::new(MeshId(Hash([3; 32])), NodeId::of(&PublicKey([4; 32])));
        let (life, hears) = (Incarnation(5), Incarnation(6));
        Inner { header, life, counter: 7, hears, part: 1, of: 2, payload }
    }

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        let bytes = inner(b"payload").to_bytes();
        assert_eq!(Inner::parse(&bytes), Some(inner(b"payload")));
        let packet = inner(b"").header.packet(&bytes);
        assert_eq!(Header::split(&packet), Some((inner(b"").header, bytes.as_slice())));
    }

    #[test]
    fn truncated_and_overlong_packets_are_refused() {
        let bytes = inner(b"").to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(Inner::parse(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(Inner::parse(&inner(&[0; PART_LEN_MAX + 1]).to_bytes()), None);
    }

    #[test]
    fn impossible_parts_are_refused() {
        for (part, of, payload) in
            [(2, 2, &b""[..]), (0, PARTS_MAX + 1, b""), (0, 0, b"x"), (1, 0, b"")]
        {
            let bytes = Inner { part, of, ..inner(payload) }.to_bytes();
            assert_eq!(Inner::parse(&bytes), None, "part {part} of {of}");
        }
    }

    #[test]
    fn random_bytes_do_no_harm() {
        let mut prng = Prng::new(1);
        for length in 0..2_000 {
            let bytes: Vec<u8> =
                (0..length).map(|_| u8::try_from(prng.below(256)).unwrap()).collect();
            assert_eq!(Inner::parse(&bytes).filter(|inner| inner.of > PARTS_MAX), None);
        }
    }
}
