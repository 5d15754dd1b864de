//! The store without a disk, for tests of everything that needs one.
//!
//! It keeps the promise of the port, and breaks it on request: each switch is one thing that a disk does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_ports::store::{Change, Pairs, Store, StoreError, Table};

type Content = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What errors call the place of this store.
const PATH: &str = "memory";

/// A store in memory. Clones share their content, as two users of one disk do.
#[derive(Debug, Clone, Default)]
pub struct MemStore {
    state: Arc<Mutex<State>>,
}

/// How the disk behaves that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disk {
    /// As it should.
    #[default]
    Honest,
    /// Acknowledges commits without keeping them: a disk with a cache that it does not admit to.
    Lying,
    /// Has no room for any commit.
    Full,
    /// Fails every call.
    Broken,
}

/// Counts the stores of this process, which is as good as chance here.
static STORES: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
struct State {
    /// What readers see.
    live: Content,
    /// What a crash leaves.
    durable: Content,
    disk: Disk,
    id: u128,
}

impl Default for State {
    fn default() -> Self {
        let (live, durable) = (Content::new(), Content::new());
        Self { live, durable, disk: Disk::default(), id: next_id() }
    }
}

fn next_id() -> u128 {
    STORES.fetch_add(1, Ordering::Relaxed).into()
}

impl MemStore {
    /// An empty store that keeps its promise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the disk behaves like this.
    pub fn set_disk(&self, disk: Disk) {
        self.state().disk = disk;
    }

    /// Cuts the power: what was not kept is gone. If anything is, it is noticed, and this is another store from here on.
    pub fn crash(&self) {
        let mut state = self.state();
        if state.live != state.durable {
            state.live = state.durable.clone();
            state.begin();
        }
    }

    /// Loses everything, as a replaced disk does.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.live.clear();
        state.durable.clear();
        state.begin();
    }
}

impl State {
    /// Another number, and nothing that was vouched for under the old one.
    fn begin(&mut self) {
        self.id = next_id();
        for content in [&mut self.live, &mut self.durable] {
            content.retain(|(table, _), _| *table != Table::Registers);
        }
    }

    fn check(&self, attempt: &'static str) -> Result<(), StoreError> {
        match self.disk {
            Disk::Honest | Disk::Lying | Disk::Full => Ok(()),
            Disk::Broken => {
                let source = Box::new(std::io::Error::other("the test broke this disk"));
                Err(StoreError::Io { path: PATH.to_owned(), attempt, source })
            }
        }
    }
}

impl Store for MemStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        state.check("be read")?;
        Ok(state.live.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Pairs, StoreError> {
        let state = self.state();
        state.check("be read")?;
        let from = state.live.range((table, prefix.to_vec())..);
        let fitting = from.take_while(|((t, key), _)| *t == table && key.starts_with(prefix));
        Ok(fitting.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check("be written")?;
        if state.disk == Disk::Full {
            return Err(StoreError::Full { path: PATH.to_owned() });
        }
        for change in changes {
            match change {
                Change::Put(table, key, value) => state.live.insert((table, key), value),
                Change::Delete(table, key) => state.live.remove(&(table, key)),
            };
        }
        if state.disk != Disk::Lying {
            state.durable = state.live.clone();
        }
        Ok(())
    }

    fn id(&self) -> u128 {
        self.state().id
    }

    fn renew(&self) -> Result<u128, StoreError> {
        let mut state = self.state();
        state.check("be given another number")?;
        state.begin();
        Ok(state.id)
    }
}

#[cfg(test)]
mod tests {
    use mesh_ports::store::{Change, Store as _, StoreError, Table};

    use super::{Disk, MemStore};
    use crate::suite;

    fn put(key: &[u8]) -> Vec<Change> {
        vec![Change::Put(Table::Node, key.to_vec(), b"value".to_vec())]
    }

    #[test]
    fn the_suite_holds_in_memory() {
        suite::run(|| (MemStore::new(), ()));
    }

    #[test]
    fn a_crash_takes_exactly_what_a_lying_disk_acknowledged() {
        let store = MemStore::new();
        store.commit(put(b"kept")).unwrap();
        store.set_disk(Disk::Lying);
        store.commit(put(b"lost")).unwrap();
        assert!(store.get(Table::Node, b"lost").unwrap().is_some());
        store.crash();
        assert!(store.get(Table::Node, b"kept").unwrap().is_some());
        assert_eq!(store.get(Table::Node, b"lost").unwrap(), None);
    }

    #[test]
    fn a_crash_that_loses_anything_leaves_another_store() {
        let store = MemStore::new();
        let number = store.id();
        store.put_registers(vec![(b"slot".to_vec(), b"1".to_vec())]).unwrap();
        store.crash();
        assert_eq!((store.id(), store.registers().unwrap().len()), (number, 1));
        store.set_disk(Disk::Lying);
        store.put_registers(vec![(b"slot".to_vec(), b"2".to_vec())]).unwrap();
        store.crash();
        assert!(store.id() != number && store.registers().unwrap().is_empty());
        assert_ne!(MemStore::new().id(), MemStore::new().id());
    }

    #[test]
    fn a_full_disk_changes_nothing_and_can_be_tried_again() {
        let store = MemStore::new();
        store.set_disk(Disk::Full);
        let refused = store.commit(put(b"key")).unwrap_err();
        assert!(matches!(refused, StoreError::Full { .. }) && refused.is_transient());
        assert_eq!(store.get(Table::Node, b"key").unwrap(), None);
        store.set_disk(Disk::Honest);
        store.commit(put(b"key")).unwrap();
    }

    #[test]
    fn a_broken_disk_answers_nothing() {
        let store = MemStore::new();
        store.set_disk(Disk::Broken);
        assert!(!store.get(Table::Node, b"key").unwrap_err().is_transient());
        assert!(store.scan(Table::Node, b"").is_err() && store.commit(put(b"key")).is_err());
    }
}
