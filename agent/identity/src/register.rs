//! What a witness keeps on disk of a lease, as bytes.
//!
//! Nothing is signed: a register never leaves the store that is its witness. But it is read by later versions of the agent, and a
//! promise that one of them understood otherwise would be broken, so its form has a number and a test.

use mesh_coordinator::lease::exclusive::{LeaseId, Register};
use mesh_ports::store::RegisterCodec;
use mesh_proto::v1;
use prost::Message as _;

use crate::wire::{self, Fault, Within as _};

/// Why bytes are no register. *Nothing was made of them: the store that they are in keeps its word no more.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The bytes are in no form that is known.
    #[error("the register cannot be decoded")]
    Malformed {
        /// What the decoder said.
        #[source]
        source: prost::DecodeError,
    },
    /// A field says something impossible.
    #[error(transparent)]
    Field(#[from] Fault),
}

/// The key and the value under which a register is stored.
#[must_use]
pub fn encode(lease: &LeaseId, register: &Register) -> (Vec<u8>, Vec<u8>) {
    let slot = Some(wire::fact::write_slot(&lease.slot));
    let key = v1::LeaseId { slot, reset: lease.reset }.encode_to_vec();
    (key, wire::lease::write_register(register).encode_to_vec())
}

/// What is stored under a key.
///
/// # Errors
/// Says what is wrong.
pub fn decode(key: &[u8], value: &[u8]) -> Result<(LeaseId, Register), RegisterError> {
    let malformed = |source| RegisterError::Malformed { source };
    let lease = v1::LeaseId::decode(key).map_err(malformed)?;
    let register = v1::Register::decode(value).map_err(malformed)?;
    let slot = lease.slot.ok_or_else(|| Fault::new("slot", "is missing"))?;
    let slot = wire::fact::read_slot(slot).within("slot")?;
    Ok((
        LeaseId { slot, reset: lease.reset },
        wire::lease::read_register(register).within("register")?,
    ))
}

/// Registers of this agent's store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

impl RegisterCodec for Codec {
    fn encode(&self, lease: &LeaseId, register: &Register) -> (Vec<u8>, Vec<u8>) {
        encode(lease, register)
    }

    fn decode(&self, key: &[u8], value: &[u8]) -> Result<(LeaseId, Register), String> {
        decode(key, value).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
