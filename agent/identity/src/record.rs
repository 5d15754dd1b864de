//! Records of the catalogue: signing what an author wants, and checking what arrives.
//!
//! [`open`] is the only way from bytes to an [`Entry`]: whoever holds one knows that its author signed it and that everything in
//! it is possible. Whether the author may say so is the catalogue's question.

use mesh_coordinator::catalogue::{Body, Entry, Record, SignedBytes};
use mesh_coordinator::id::{MeshId, PublicKey, Signature};
use mesh_ports::directory::{RecordCodec, Signer};
use mesh_proto::v1;
use prost::Message as _;

use crate::keys::{self, KeyPair};
use crate::wire::{self, Fault};
use crate::{context, invite};

/// The largest record, in bytes. It fits into one message of a busy exchange, and a hundred services fit into it.
pub const RECORD_LEN_MAX: usize = 64 * 1024;
/// The most nodes of a roster. The witnesses of a slot are a few of it; this many leave a choice after many nodes were lost, and fit
/// into every release.
pub const ROSTER_LEN_MAX: usize = 64;

/// Why bytes are no record. *Nothing was made of them.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record is too large to be spread.
    #[error("a record has at most {RECORD_LEN_MAX} bytes, not {found}")]
    Long {
        /// How many bytes it has.
        found: usize,
    },
    /// The bytes are not in the record's format.
    #[error("the record cannot be decoded")]
    Malformed {
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// The record needs a newer agent.
    #[error("the record has format {found}, and this agent knows formats up to {known}")]
    Format {
        /// The record's format.
        found: u32,
        /// The highest known one.
        known: u32,
    },
    /// A field says something impossible.
    #[error(transparent)]
    Field(#[from] Fault),
    /// The signature is not the author's over these bytes.
    #[error("the signature is not the author's")]
    Signature,
    /// Somebody else's key was given for signing.
    #[error("the record names another author than the key that signs it")]
    Author,
}

/// Signs what an author wants.
///
/// # Errors
/// When a reader would refuse the record, so that an impossible one is noticed by its author first.
pub fn sign(record: &Record, author: &KeyPair) -> Result<Entry, RecordError> {
    sign_with(record, author.public(), |bytes| author.sign(context::RECORD, bytes))
}

/// Like [`sign`], with a key that is only reachable through a port.
///
/// # Errors
/// When a reader would refuse the record.
pub fn sign_by_node(record: &Record, author: &impl Signer) -> Result<Entry, RecordError> {
    sign_with(record, author.key(), |bytes| author.sign(context::RECORD, bytes))
}

fn sign_with(
    record: &Record,
    author: PublicKey,
    sign: impl FnOnce(&[u8]) -> Signature,
) -> Result<Entry, RecordError> {
    if record.author != author {
        return Err(RecordError::Author);
    }
    let bytes = wire::record::write(record).encode_to_vec();
    let signature = sign(&bytes);
    open(SignedBytes { bytes, signature })
}

/// Checks a record: its form, every field, and that its author signed it.
///
/// # Errors
/// Says what is wrong; a record that is refused is refused by every agent of this version.
pub fn open(signed: SignedBytes) -> Result<Entry, RecordError> {
    let record = decode(&signed.bytes)?;
    if !keys::verifies(&record.author, context::RECORD, &signed.bytes, &signed.signature) {
        return Err(RecordError::Signature);
    }
    let invitation_verified = invitation_verified(&record);
    let hash = signed.digest();
    Ok(Entry { record, signed, hash, invitation_verified })
}

/// The mesh that a genesis record makes; `None` for every other record.
#[must_use]
pub fn mesh_made_by(entry: &Entry) -> Option<MeshId> {
    matches!(entry.record.body, Body::Genesis(_)).then_some(MeshId(entry.hash))
}

fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
    if bytes.len() > RECORD_LEN_MAX {
        return Err(RecordError::Long { found: bytes.len() });
    }
    let record = v1::Record::decode(bytes).map_err(|source| RecordError::Malformed { source })?;
    // Looked at before anything else: the fields of a newer format may mean something else.
    match record.format {
        0 => Err(Fault::new("format", "is missing").into()),
        1..=wire::record::FORMAT_MAX => Ok(wire::record::read(record)?),
        found => Err(RecordError::Format { found, known: wire::record::FORMAT_MAX }),
    }
}

fn invitation_verified(record: &Record) -> bool {
    let Body::Member(member) = &record.body else { return false };
    let (Some(invitation), Some(invited)) = (&member.invitation, &member.invited) else {
        return false;
    };
    invite::verifies(invitation, &invite::Invitee::of(record.mesh, member), invited)
}

/// Opens records that arrive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

impl RecordCodec for Codec {
    fn open(&self, signed: SignedBytes) -> Result<Entry, String> {
        open(signed).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod tests;
