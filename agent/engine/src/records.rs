//! Signed records in the store, by their hash: the signature, then the signed bytes.

use mesh_coordinator::catalogue::{Entry, SignedBytes};
use mesh_coordinator::id::{Hash, Signature};
use mesh_ports::directory::RecordCodec;
use mesh_ports::store::{Change, Store, StoreError, Table};
use tracing::warn;

/// Why the records of the store could not be read. *Nothing was changed.*
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk cannot be read.
    #[error("cannot read the catalogue")]
    Store(#[from] StoreError),
}

/// What the store has.
#[derive(Debug)]
pub struct Loaded {
    /// The records whose signatures are good.
    pub entries: Vec<Entry>,
    /// How many records are damaged: they are left out and come again from peers.
    pub n_damaged: usize,
}

/// All records of the store.
///
/// # Errors
/// When the disk cannot be read.
pub fn load(store: &impl Store, codec: &impl RecordCodec) -> Result<Loaded, LoadError> {
    let pairs = store.scan(Table::Records, &[])?;
    let n_stored = pairs.len();
    let mut entries = Vec::with_capacity(n_stored);
    for (key, value) in pairs {
        let opened = decode(&value)
            .ok_or_else(|| "it is too short".to_owned())
            .and_then(|signed| codec.open(signed));
        match opened {
            Ok(entry) => entries.push(entry),
            Err(reason) => {
                warn!(key = ?key.get(..4), %reason, "a stored record is damaged and left out");
            }
        }
    }
    Ok(Loaded { n_damaged: n_stored.saturating_sub(entries.len()), entries })
}

/// The changes that store `entries`, as [`load`] finds them again.
#[must_use]
pub fn put(entries: &[Entry]) -> Vec<Change> {
    let change = |entry: &Entry| {
        let value = [&entry.signed.signature.0[..], &entry.signed.bytes].concat();
        Change::Put(Table::Records, entry.hash.0.to_vec(), value)
    };
    entries.iter().map(change).collect()
}

/// The changes that forget records.
pub(crate) fn erase(hashes: &[Hash]) -> Vec<Change> {
    hashes.iter().map(|hash| Change::Delete(Table::Records, hash.0.to_vec())).collect()
}

fn decode(value: &[u8]) -> Option<SignedBytes> {
    let (signature, bytes) = value.split_first_chunk::<64>()?;
    Some(SignedBytes { bytes: bytes.to_vec(), signature: Signature(*signature) })
}
