//! An operator's request to one agent, proved whoever carries it there.
//!
//! `agentctl` talks to any agent, and most agents have to pass the request on. What counts is therefore not who is at the other
//! end of the connection but this signature: an agent that was broken into can forward what an operator asked for, to whom it was
//! asked, once and for a short while, and nothing of its own. Whether the request is meant for this node, is new, is in time and
//! is allowed is judged by whoever opened it.

use mesh_coordinator::catalogue::SignedBytes;
use mesh_coordinator::id::{Hash, PublicKey};
use mesh_ports::request::{Challenge, Request, RequestCodec, RequestSigner};
use mesh_proto::v1;
use prost::Message as _;

use crate::context;
use crate::keys::{self, KeyError, KeyPair};
use crate::wire::{self, Fault, Within as _};

/// The largest request, in bytes. The arguments are not in it, only their hash.
pub const REQUEST_LEN_MAX: usize = 1_024;

/// Why bytes are no request. *Nothing was done.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request is longer than any that `agentctl` makes.
    #[error("a signed request has at most {REQUEST_LEN_MAX} bytes, not {found}")]
    Long {
        /// How many bytes it has.
        found: usize,
    },
    /// The bytes are no request.
    #[error("the request cannot be decoded")]
    Malformed {
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// A field says something impossible.
    #[error(transparent)]
    Field(#[from] Fault),
    /// The signature is not the operator's over these bytes.
    #[error("the signature is not the operator's")]
    Signature,
}

/// Bytes for [`Request::nonce`].
///
/// # Errors
/// When the operating system has no random bytes.
pub fn nonce() -> Result<[u8; 16], KeyError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|source| KeyError::Random { source })?;
    Ok(nonce)
}

/// The request with the operator's signature. Its [`Request::operator`] is taken from the key that signs.
#[must_use]
pub fn sign(operator: &KeyPair, request: &Request) -> SignedBytes {
    let statement = v1::RequestStatement {
        mesh: request.mesh.0.0.to_vec(),
        operator: operator.public().0.to_vec(),
        target: request.target.as_bytes().to_vec(),
        action: request.action.clone(),
        slot: request.slot.as_ref().map(wire::fact::write_slot),
        arguments: request.arguments.0.to_vec(),
        nonce: request.nonce.to_vec(),
        challenge: request.challenge.0.to_vec(),
    };
    let bytes = statement.encode_to_vec();
    let signature = operator.sign(context::REQUEST, &bytes);
    SignedBytes { bytes, signature }
}

/// The request, of which the operator that it names is the author.
///
/// # Errors
/// Says what is wrong with it.
pub fn verify(signed: &SignedBytes) -> Result<Request, RequestError> {
    if signed.bytes.len() > REQUEST_LEN_MAX {
        return Err(RequestError::Long { found: signed.bytes.len() });
    }
    let statement = v1::RequestStatement::decode(signed.bytes.as_slice())
        .map_err(|source| RequestError::Malformed { source })?;
    let operator: PublicKey = wire::key("operator", &statement.operator)?;
    if !keys::verifies(&operator, context::REQUEST, &signed.bytes, &signed.signature) {
        return Err(RequestError::Signature);
    }
    Ok(Request {
        mesh: wire::mesh(&statement.mesh)?,
        operator,
        target: wire::node("target", &statement.target)?,
        action: wire::filled("action", statement.action)?,
        slot: statement.slot.map(wire::fact::read_slot).transpose().within("slot")?,
        arguments: Hash(wire::array("arguments", &statement.arguments)?),
        nonce: wire::array("nonce", &statement.nonce)?,
        challenge: wire::maybe_array("challenge", &statement.challenge)?
            .map_or(Challenge::NONE, Challenge),
    })
}

impl RequestSigner for KeyPair {
    fn key(&self) -> PublicKey {
        self.public()
    }

    fn seal(&self, request: &Request) -> SignedBytes {
        sign(self, request)
    }
}

/// Opens requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

impl RequestCodec for Codec {
    fn open(&self, signed: &SignedBytes) -> Result<Request, String> {
        verify(signed).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
