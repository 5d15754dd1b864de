//! The store on sled, with a guard for each way in which sled 0.34 disappoints.
//!
//! | what sled does | what stands against it |
//! |---|---|
//! | its flush does not reach the disk's own cache | [`handle`]: `fdatasync` after each flush |
//! | large nodes go to files of their own, never synced | [`handle`]: those files are synced too |
//! | a snapshot torn by a power failure refuses to open | [`open`]: it is set aside, the log has everything |
//! | some kinds of damage make it panic | [`open`]: a panic is damage, and [`set_aside`] is the way on |
//! | an error of a write sticks to the handle for ever | the store is opened again when there is room |
//! | a gigabyte of cache | a small one |
//! | a damaged log is read up to the damage, in silence | [`identity`]: what is left is another store, and vouches for nothing |
//!
//! Before a change is begun, [`room`] looks whether the disk has room for it, so that a full disk is noticed while nothing has
//! happened yet. Should the disk fill up in between, the store is opened again and asked whether the change is there.
//!
//! [`handle`]: self::handle
//! [`identity`]: self::identity
//! [`open`]: self::open
//! [`room`]: self::room

mod handle;
mod identity;
mod open;
mod room;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use mesh_ports::store::{Change, Pairs, Store, StoreError, Table};
use tracing::warn;

use self::handle::Handle;
pub use self::open::{OpenError, hold, set_aside};
use self::room::Room;

/// The store of one agent. Clones of nothing: one value per directory, shared by reference.
pub struct SledStore {
    path: PathBuf,
    room: Room,
    /// `None` after the disk was full, until there is room to open the store again.
    handle: RwLock<Option<Handle>>,
    repaired: bool,
    id: Mutex<u128>,
    /// What was promised may be lost since the store was opened: no register is written any more.
    parted: AtomicBool,
    /// Held as long as this value lives, also while sled's own lock is let go to open it again.
    _lock: File,
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store in the directory `path`, or makes one. Blocks while the log is read.
    ///
    /// # Errors
    /// When another agent has it open, the disk is full or fails, or the store is damaged beyond what the log repairs.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Room::DEFAULT)
    }

    fn open_with(path: &Path, sizes: room::Sizes) -> Result<Self, OpenError> {
        let lock = open::lock(path)?;
        let room = Room::new(path, sizes);
        let open::Opened { handle, repaired } = open::handle(path)?;
        let id = Mutex::new(open::id(path, &handle)?);
        room.reserve();
        let handle = RwLock::new(Some(handle));
        let parted = AtomicBool::new(false);
        Ok(Self { path: path.to_owned(), room, handle, repaired, id, parted, _lock: lock })
    }

    /// Whether damage was found and repaired when the store was opened. Usually nothing is lost, but nobody can tell: whoever
    /// relies on what this store *promised* must count it as a new one.
    #[must_use]
    pub const fn repaired(&self) -> bool {
        self.repaired
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn full(&self) -> StoreError {
        StoreError::Full { path: self.name() }
    }

    fn failed(&self, attempt: &'static str, source: sled::Error) -> StoreError {
        if is_full(&source) {
            self.full()
        } else {
            StoreError::Io { path: self.name(), attempt, source: Box::new(source) }
        }
    }

    /// The open store; opens it again first when a full disk closed it.
    fn handle(&self) -> Result<RwLockReadGuard<'_, Option<Handle>>, StoreError> {
        let open = self.handle.read().unwrap_or_else(PoisonError::into_inner);
        if open.is_some() {
            return Ok(open);
        }
        drop(open);
        self.reopen(None)?;
        Ok(self.handle.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new handle in the place of the one numbered `failed`, unless somebody else did so already.
    fn reopen(&self, failed: Option<u64>) -> Result<(), StoreError> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if handle.as_ref().is_some_and(|open| Some(open.number()) != failed) {
            return Ok(());
        }
        drop(handle.take());
        self.room.free();
        match open::handle(&self.path) {
            Ok(open::Opened { handle: opened, .. }) => {
                // Somebody may have said already what is not there any more. The next life finds a new store.
                if !identity::holds(&self.path, &opened, self.id()) {
                    self.parted.store(true, Ordering::Relaxed);
                }
                warn!(path = %self.path.display(), "opened the store again after the disk was full");
                *handle = Some(opened);
                Ok(())
            }
            Err(OpenError::Full { .. }) => Err(self.full()),
            Err(source) => Err(StoreError::Io {
                path: self.name(),
                attempt: "be opened again",
                source: Box::new(source),
            }),
        }
    }

    /// Whether these changes may be made: what is vouched for goes only into the store that vouched for the rest.
    fn check(&self, changes: &[Change]) -> Result<(), StoreError> {
        let is_register = |change: &Change| match change {
            Change::Put(table, ..) | Change::Delete(table, _) => *table == Table::Registers,
        };
        if !self.parted.load(Ordering::Relaxed) || !changes.iter().any(is_register) {
            return Ok(());
        }
        let source = Box::new(io::Error::other("what it promised may be lost"));
        Err(StoreError::Io { path: self.name(), attempt: "keep its word", source })
    }

    fn read<T>(&self, read: impl FnOnce(&Handle) -> sled::Result<T>) -> Result<T, StoreError> {
        let guard = self.handle()?;
        let handle = guard.as_ref().ok_or_else(|| self.full())?;
        read(handle).map_err(|source| self.failed("be read", source))
    }

    /// The disk filled up while these changes were made: finds out what became of them.
    fn settle(&self, failed: u64, changes: &[Change]) -> Result<(), StoreError> {
        self.reopen(Some(failed))?;
        let made = self.read(|handle| {
            let made = contains(handle, changes)?;
            if made { handle.sync().map(|()| true) } else { Ok(false) }
        });
        if made? { Ok(()) } else { Err(self.full()) }
    }
}

impl Store for SledStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|handle| handle.get(table, key))
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Pairs, StoreError> {
        self.read(|handle| handle.scan(table, prefix))
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if !self.room.suffices(&changes) {
            return Err(self.full());
        }
        let failed = {
            let guard = self.handle()?;
            let handle = guard.as_ref().ok_or_else(|| self.full())?;
            self.check(&changes)?;
            match handle.commit(&changes) {
                Ok(()) => None,
                Err(error) if is_full(&error) => Some(handle.number()),
                Err(error) => return Err(self.failed("be written", error)),
            }
        };
        match failed {
            None => {
                self.room.reserve();
                Ok(())
            }
            Some(number) => self.settle(number, &changes),
        }
    }

    fn id(&self) -> u128 {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self) -> Result<u128, StoreError> {
        let guard = self.handle()?;
        let handle = guard.as_ref().ok_or_else(|| self.full())?;
        self.parted.store(true, Ordering::Relaxed);
        let renewed = identity::renew(&self.path, handle);
        let renewed = renewed.map_err(|source| self.failed("be given another number", source))?;
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        self.parted.store(false, Ordering::Relaxed);
        Ok(renewed)
    }
}

/// Whether the last of these changes to each key is there.
fn contains(handle: &Handle, changes: &[Change]) -> sled::Result<bool> {
    let mut wanted = BTreeMap::new();
    for change in changes {
        match change {
            Change::Put(table, key, value) => wanted.insert((*table, key), Some(value)),
            Change::Delete(table, key) => wanted.insert((*table, key), None),
        };
    }
    for ((table, key), value) in wanted {
        if handle.get(table, key)?.as_ref() != value {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_full(error: &sled::Error) -> bool {
    match error {
        sled::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => false,
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod tests;
