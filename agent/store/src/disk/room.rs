//! Whether the disk has room, and a reserve for when it suddenly has none.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_ports::store::Change;
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

/// The file that keeps blocks back.
const RESERVE: &str = "reserve";
/// A change is written to the log, and later once more when its node is written anew; doubled for what goes along.
const WRITES_PER_CHANGE: u64 = 4;

/// How much is kept back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// What must be free before a change is begun: a few of sled's segments of 512 KiB.
    pub(super) free_min: u64,
    /// What the reserve holds: enough to open the store again and flush it.
    pub(super) reserve: i64,
}

/// The room on the disk of one store.
pub(super) struct Room {
    directory: PathBuf,
    sizes: Sizes,
    reserved: AtomicBool,
}

impl Room {
    /// For a real disk.
    pub(super) const DEFAULT: Sizes = Sizes { free_min: 4 << 20, reserve: 4 << 20 };

    pub(super) fn new(directory: &Path, sizes: Sizes) -> Self {
        Self { directory: directory.to_owned(), sizes, reserved: AtomicBool::new(false) }
    }

    /// Whether a commit of `changes` can be begun. A disk that does not say how much is free is believed to have enough.
    pub(super) fn suffices(&self, changes: &[Change]) -> bool {
        let size = |change: &Change| match change {
            Change::Put(_, key, value) => key.len().saturating_add(value.len()),
            Change::Delete(_, key) => key.len(),
        };
        let bytes = changes.iter().map(size).fold(0, usize::saturating_add);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let needed = bytes.saturating_mul(WRITES_PER_CHANGE).saturating_add(self.sizes.free_min);
        self.free_bytes().is_none_or(|free| free >= needed)
    }

    /// Takes the reserve when it is not there and the disk has twice as much. Best effort: without it, only a disk that fills up
    /// in the middle of a commit is harder to recover from.
    pub(super) fn reserve(&self) {
        if self.reserved.load(Ordering::Relaxed) {
            return;
        }
        let wanted = u64::try_from(self.sizes.reserve).unwrap_or(0);
        let spare = wanted.saturating_mul(2).saturating_add(self.sizes.free_min);
        let path = self.directory.join(RESERVE);
        let there = fs::metadata(&path).is_ok_and(|file| file.len() >= wanted);
        if there || (self.free_bytes().is_none_or(|free| free >= spare) && self.allocate(&path)) {
            self.reserved.store(true, Ordering::Relaxed);
        }
    }

    /// Gives the reserve back to the disk.
    pub(super) fn free(&self) {
        // Not there is as good as removed.
        drop(fs::remove_file(self.directory.join(RESERVE)));
        self.reserved.store(false, Ordering::Relaxed);
    }

    fn allocate(&self, path: &Path) -> bool {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(path).is_ok_and(|file| posix_fallocate(&file, 0, self.sizes.reserve).is_ok())
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = statvfs(&self.directory).ok()?;
        Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }
}
