//! Facts in gossip: signed by the node that they speak for.
//!
//! Gossip passes every node's facts through every other node, so a fact carries its own proof. The signature covers the mesh, the
//! node and the incarnation: a fact can neither be moved to another node nor kept alive past its author's restart. Those three
//! are known from the place where the fact stands and do not travel with it, since gossip carries every fact to everybody.

use std::sync::Arc;

use data_encoding::BASE64_NOPAD;
use mesh_coordinator::fact::Fact;
use mesh_coordinator::id::{Incarnation, MeshId, NodeId, PublicKey};
use mesh_ports::directory::{Peer, Signer as _};
use mesh_ports::gossip::FactCodec;
use mesh_proto::v1;
use prost::Message as _;

use crate::context;
use crate::keys::{self, NodeIdentity};
use crate::wire::{self, Fault, Within as _};

/// The longest sealed fact, in characters: about twice what a claim with the longest names and detail needs.
pub const FACT_LEN_MAX: usize = 1_024;
/// What a sealed fact begins with: the form of what follows.
const VERSION: &str = "1";

/// Why a text is no fact of that node. *Nothing was made of it.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// The fact is longer than any that an agent makes.
    #[error("a fact has at most {FACT_LEN_MAX} characters, not {found}")]
    Long {
        /// How many characters it has.
        found: usize,
    },
    /// The text begins with another version, or is no text of this form.
    #[error("the text is not a fact of version {VERSION}")]
    Text,
    /// The bytes are not in the form of a fact.
    #[error("the fact cannot be decoded")]
    Malformed {
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// A field says something impossible.
    #[error(transparent)]
    Field(#[from] Fault),
    /// The signature is not the node's over this fact, in this mesh and in this life of the node.
    #[error("the signature is not the node's in this mesh and incarnation")]
    Signature,
}

/// In whose name a fact is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    /// The mesh.
    pub mesh: MeshId,
    /// The node's key.
    pub key: PublicKey,
    /// Which life of its agent.
    pub incarnation: Incarnation,
}

impl Speaker {
    /// What is signed. The parts before the fact have a fixed length, so the bytes have one reading only.
    fn statement(&self, fact: &[u8]) -> Vec<u8> {
        let node = NodeId::of(&self.key);
        let incarnation = self.incarnation.0.to_be_bytes();
        [self.mesh.0.0.as_slice(), node.as_bytes(), &incarnation, fact].concat()
    }
}

/// Checks what stands in the key space of `speaker`.
///
/// # Errors
/// Says what is wrong.
pub fn open(sealed: &str, speaker: &Speaker) -> Result<Fact, FactError> {
    if sealed.len() > FACT_LEN_MAX {
        return Err(FactError::Long { found: sealed.len() });
    }
    let digits = sealed.strip_prefix(VERSION).ok_or(FactError::Text)?;
    let message = BASE64_NOPAD.decode(digits.as_bytes()).ok().ok_or(FactError::Text)?;
    let malformed = |source| FactError::Malformed { source };
    let signed = v1::SignedFact::decode(message.as_slice()).map_err(malformed)?;
    let signature = wire::signature("signature", &signed.signature)?;
    let statement = speaker.statement(&signed.bytes);
    if !keys::verifies(&speaker.key, context::FACT, &statement, &signature) {
        return Err(FactError::Signature);
    }
    let fact = v1::Fact::decode(signed.bytes.as_slice()).map_err(malformed)?;
    Ok(wire::fact::read(fact).within("fact")?)
}

/// This node's facts, sealed, and other nodes', opened.
#[derive(Debug, Clone)]
pub struct Codec {
    identity: Arc<NodeIdentity>,
    mesh: MeshId,
}

impl Codec {
    /// Speaks for `identity` in `mesh`.
    #[must_use]
    pub const fn new(identity: Arc<NodeIdentity>, mesh: MeshId) -> Self {
        Self { identity, mesh }
    }
}

impl FactCodec for Codec {
    fn seal(&self, incarnation: Incarnation, fact: &Fact) -> String {
        let speaker = Speaker { mesh: self.mesh, key: self.identity.key(), incarnation };
        let bytes = wire::fact::write(fact).encode_to_vec();
        let signature = self.identity.sign(context::FACT, &speaker.statement(&bytes)).0.to_vec();
        let message = v1::SignedFact { bytes, signature }.encode_to_vec();
        [VERSION, &BASE64_NOPAD.encode(&message)].concat()
    }

    fn open(&self, node: &Peer, incarnation: Incarnation, sealed: &str) -> Result<Fact, String> {
        let speaker = Speaker { mesh: self.mesh, key: node.key, incarnation };
        open(sealed, &speaker).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
