//! What one life of this agent leaves to the next: its number, and where the others were.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_engine::Clock;
use mesh_gossip::AddressBook;
use mesh_ports::store::{Change, Store, StoreError, Table};
use tracing::warn;

use crate::home;

const INCARNATION: &[u8] = b"incarnation";
const ADDRESSES: &[u8] = b"addresses";

/// Why no life begins. *No number was used.*
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file beside the store cannot be written.
    #[error("cannot note the number of this life: {0}")]
    File(String),
}

/// Begins another life, on disk before anybody hears of it. Its number is in the store and in a `file` beside it, since a number that
/// the others know must not come again when the store is lost and the clock was set back.
pub(crate) fn begin(
    store: &impl Store,
    file: &Path,
    clock: &Clock,
) -> Result<Incarnation, BeginError> {
    let last = stored(store)?.max(noted(file)).map(Incarnation);
    let next = mesh_gossip::next_incarnation(last, clock.wall().0);
    // The store first: a file that is ahead of it says that the store was put back.
    store.commit(vec![Change::Put(
        Table::Node,
        INCARNATION.to_vec(),
        next.0.to_be_bytes().to_vec(),
    )])?;
    home::write(file, next.0.to_string().as_bytes())
        .map_err(|error| BeginError::File(format!("{error:#}")))?;
    Ok(next)
}

/// Whether the store has not heard of the last life: somebody has put back an older state of it, and nobody knows what it had promised
/// since.
///
/// # Errors
/// When the disk cannot be read.
pub(crate) fn is_put_back(store: &impl Store, file: &Path) -> Result<bool, StoreError> {
    let stored = stored(store)?;
    Ok(stored.is_some() && stored < noted(file))
}

fn stored(store: &impl Store) -> Result<Option<u64>, StoreError> {
    let bytes = store.get(Table::Node, INCARNATION)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
}

fn noted(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Where the others were when they were last heard, on disk: lines of `node address`.
#[derive(Debug)]
pub(crate) struct Book<S>(pub(crate) Arc<S>);

impl<S: Store> AddressBook for Book<S> {
    fn load(&self) -> Vec<(NodeId, SocketAddr)> {
        let read =
            self.0.get(Table::Node, ADDRESSES).context("read").map(Option::unwrap_or_default);
        let text = read.and_then(|bytes| String::from_utf8(bytes).context("decode"));
        let text = text.unwrap_or_else(|error| {
            warn!(error = %format!("{error:#}"), "the address book cannot be read and begins anew");
            String::new()
        });
        let pair = |line: &str| {
            let (node, address) = line.split_once(' ')?;
            Some((node.parse().ok()?, address.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    fn save(&self, book: &[(NodeId, SocketAddr)]) {
        let text: String =
            book.iter().map(|(node, address)| format!("{node} {address}\n")).collect();
        let saved =
            self.0.commit(vec![Change::Put(Table::Node, ADDRESSES.to_vec(), text.into_bytes())]);
        if let Err(error) = saved {
            warn!(error = %mesh_telemetry::Chain(&error), "the address book is not saved");
        }
    }
}

#[cfg(test)]
mod tests {
    //! Lives only rise, whatever is lost.

    use mesh_engine::Clock;
    use mesh_ports::store::{Change, Store as _, Table};
    use mesh_store::MemStore;

    use super::{INCARNATION, begin, is_put_back};

    #[test]
    fn neither_a_lost_store_nor_a_lost_file_nor_the_clock_lowers_the_number() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("life");
        let store = MemStore::new();
        let first = begin(&store, &file, &Clock::new(60_000)).unwrap();
        // The clock goes back by a minute from here on.
        let second = begin(&MemStore::new(), &file, &Clock::new(0)).unwrap();
        assert_eq!(second.0, first.0 + 1, "the file remembers");
        std::fs::write(&file, b"").unwrap();
        let lost = begin(&store, &file, &Clock::new(0)).unwrap();
        assert_eq!(lost.0, first.0 + 1, "the store remembers");
        let number = (lost.0 + 100).to_be_bytes().to_vec();
        store.commit(vec![Change::Put(Table::Node, INCARNATION.to_vec(), number)]).unwrap();
        assert_eq!(begin(&store, &file, &Clock::new(0)).unwrap().0, lost.0 + 101);
    }

    #[test]
    fn a_store_that_has_not_heard_of_the_last_life_was_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("life");
        let (store, old) = (MemStore::new(), MemStore::new());
        assert!(!is_put_back(&store, &file).unwrap(), "the first life");
        let first = begin(&store, &file, &Clock::new(0)).unwrap();
        assert!(!is_put_back(&store, &file).unwrap());
        assert!(!is_put_back(&old, &file).unwrap(), "a new store has promised nothing");
        let number = first.0.to_be_bytes().to_vec();
        old.commit(vec![Change::Put(Table::Node, INCARNATION.to_vec(), number)]).unwrap();
        begin(&store, &file, &Clock::new(0)).unwrap();
        assert!(is_put_back(&old, &file).unwrap());
    }
}
