//! What this node vouches for as a witness, as its store has it.

use mesh_coordinator::lease::exclusive::{LeaseId, Register};
use mesh_ports::store::{RegisterCodec, Store, StoreError};
use tracing::error;

/// What the store has.
#[derive(Debug)]
pub struct Loaded {
    /// The registers, by lease.
    pub registers: Vec<(LeaseId, Register)>,
    /// What was wrong, for people; `None` when nothing was. Then there are no registers, and the store has another number.
    pub lost: Option<String>,
}

/// All registers of the store. One that cannot be read is a promise that nobody knows any more: then the store begins anew, as another
/// witness that has promised nothing.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn load(store: &impl Store, codec: &impl RegisterCodec) -> Result<Loaded, StoreError> {
    let pairs = store.registers()?;
    let read: Result<Vec<_>, String> =
        pairs.iter().map(|(key, value)| codec.decode(key, value)).collect();
    match read {
        Ok(registers) => Ok(Loaded { registers, lost: None }),
        Err(reason) => {
            error!(%reason, "what this node promised as a witness cannot be read");
            store.renew()?;
            Ok(Loaded { registers: Vec::new(), lost: Some(reason) })
        }
    }
}
