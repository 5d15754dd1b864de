//! Identities: keys, hashes of them, and what a replica is called.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::lease::exclusive::WitnessId;
use crate::name::{AppName, ServiceName};

/// The SHA-256 of something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `parts`, each preceded by its length, so that no two lists of parts collide by concatenation.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The first eight bytes as a number.
    #[must_use]
    pub const fn head(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The last eight bytes as a number.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({:016x}…)", self.head())
    }
}

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text has the wrong length.
    #[error("{found} characters where {expected} are needed")]
    Length {
        /// How many characters there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The text has a character that the encoding does not know.
    #[error("the character {0:?} does not belong here")]
    Character(char),
}

/// An Ed25519 public key: of a node, of an operator or of an invitation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:016x}…)", Hash(self.0).head())
    }
}

impl FromStr for PublicKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text).map(Self)
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

/// A node: the hash of its public key, 80 bits, written as 16 characters of base 32.
///
/// Short, because gossip lists every node in every digest. 80 bits put a collision among 10 000 nodes below 10^-16, and a
/// forger would need a second preimage, not a collision, since members are admitted by their whole key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 10]);

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl NodeId {
    /// The identity that belongs to `key`.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash = Hash::of(&[b"mesh node", &key.0]);
        let [a, b, c, d, e, f, g, h, i, j, ..] = hash.0;
        Self([a, b, c, d, e, f, g, h, i, j])
    }

    /// The identity made of these bytes, as found in a message.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 10]) -> Self {
        Self(bytes)
    }

    /// The bytes behind the text.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 10] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.iter().fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let text: String = (0..16_u32)
            .rev()
            .map(|place| {
                let index = usize::try_from((bits >> (place * 5)) & 31).unwrap_or(0);
                char::from(BASE32.get(index).copied().unwrap_or(b'a'))
            })
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = text.chars().count();
        if found != 16 {
            return Err(ParseIdError::Length { expected: 16, found });
        }
        let mut bits = 0_u128;
        for character in text.chars() {
            let digit = BASE32.iter().position(|digit| char::from(*digit) == character);
            let digit = digit.ok_or(ParseIdError::Character(character))?;
            bits = (bits << 5) | u128::try_from(digit).unwrap_or(0);
        }
        let [_, _, _, _, _, _, bytes @ ..] = bits.to_be_bytes();
        Ok(Self(bytes))
    }
}

/// A mesh: the hash of its genesis record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId(pub Hash);

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of an app's name: the hash of the mesh, the name, how often that name was removed before, and the roster of an app with
/// exclusive slots.
///
/// So the same manifest placed on both sides of a split is one app, and a re-created name is a new one. Two apps with exclusive
/// slots are one only if they agree on who may witness: else nothing would keep both from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppUid(pub [u8; 16]);

impl AppUid {
    /// The identity of the app `name` without a roster, after `n_removals` removals of that name.
    #[must_use]
    pub fn of(mesh: MeshId, name: &AppName, n_removals: u64) -> Self {
        Self::with_roster(mesh, name, n_removals, &BTreeSet::new())
    }

    /// The identity of the app `name` after `n_removals` removals of that name. `roster` is empty if no slot of it is exclusive.
    #[must_use]
    pub fn with_roster(
        mesh: MeshId,
        name: &AppName,
        n_removals: u64,
        roster: &BTreeSet<WitnessId>,
    ) -> Self {
        let removals = n_removals.to_be_bytes();
        let stores: Vec<[u8; 16]> = roster.iter().map(|it| it.store.0.to_be_bytes()).collect();
        let mut parts: Vec<&[u8]> =
            vec![b"mesh app", &mesh.0.0, name.as_str().as_bytes(), &removals];
        for (witness, store) in roster.iter().zip(&stores) {
            parts.extend([witness.node.as_bytes().as_slice(), store]);
        }
        let hash = Hash::of(&parts);
        let mut uid = [0; 16];
        uid.copy_from_slice(hash.0.split_at(16).0);
        Self(uid)
    }
}

impl fmt::Display for AppUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl FromStr for AppUid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text).map(Self)
    }
}

/// Which replica of its service a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotIndex {
    /// The n-th replica of a replicated service, counted from zero; any suitable node may hold it.
    Number(u32),
    /// The one replica of a global service on this node; nobody else can hold it.
    Node(NodeId),
}

impl fmt::Display for SlotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

/// One numbered place of a service: the unit of claims.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// The app it belongs to.
    pub app: AppUid,
    /// The service of that app.
    pub service: ServiceName,
    /// Which replica.
    pub index: SlotIndex,
}

impl SlotId {
    /// A hash that names the slot where space is dear: in gossip keys and in ranks.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let service = self.service.as_str().as_bytes();
        match self.index {
            SlotIndex::Number(number) => {
                Hash::of(&[b"mesh slot", &self.app.0, service, &number.to_be_bytes()])
            }
            SlotIndex::Node(node) => {
                Hash::of(&[b"mesh slot", &self.app.0, service, node.as_bytes()])
            }
        }
    }
}

/// Which life of a node's agent: rises with every start (gossip calls it the generation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which definition of a service's container a claim is for.
///
/// Rises when a field that defines the container changes, or when somebody asks for a restart. The `id` tells apart two
/// definitions that were written on both sides of a split and got the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Counts the changes, for people and for order.
    pub number: u64,
    /// A hash of what it defines.
    pub id: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.number)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let digits = text
        .chars()
        .map(|c| {
            c.to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(ParseIdError::Character(c))
        })
        .collect::<Result<Vec<u8>, _>>()?;
    if digits.len() != N * 2 {
        return Err(ParseIdError::Length { expected: N * 2, found: digits.len() });
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| (byte << 4) | digit);
    }
    Ok(bytes)
}
