//! An open sled database, and what it takes to make a change durable in it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mesh_ports::store::{Change, Pairs, Table};

use super::identity;

/// Memory for pages. The whole state of a large mesh is about as large; sled takes a gigabyte when it is not told.
const CACHE_BYTES: u64 = 16 << 20;
/// How often sled flushes what nobody waits for. Switching this off would also switch off its only real sync.
const FLUSH_EVERY_MS: u64 = 500;
/// The tree that holds all tables; its name is the version of the form in which they are kept.
const TREE: &str = "mesh-1";

/// The key, below those of all tables, under which each commit leaves its number.
const NUMBER_KEY: &[u8] = &[0];
/// The key of the store's own number, beside it.
const ID_KEY: &[u8] = &[1];
/// The file beside the log that says which commit was the last to be acknowledged.
const MARK: &str = "acknowledged";

/// Numbers the handles of this process, so that a caller can say which one failed.
static HANDLES: AtomicU64 = AtomicU64::new(0);

/// An open database. All tables are in one tree, so that one batch can change several at once.
pub(super) struct Handle {
    number: u64,
    db: sled::Db,
    tree: sled::Tree,
    /// A second descriptor of the log, for the sync that sled leaves out.
    log: File,
    blobs: PathBuf,
    mark: File,
    lost: bool,
    /// The number of the last commit in the log. The lock also keeps commits in the order of their numbers.
    n_applied: Mutex<u64>,
    synced: Mutex<Synced>,
}

/// What is known to be on the disk.
#[derive(Default)]
struct Synced {
    /// All commits up to this number.
    n_commits: u64,
    /// These blob files, with the length at which they were synced: sled writes each once and never changes it.
    blobs: HashMap<OsString, u64>,
    /// Of which kind the failure of a sync was; `None` while all went well.
    failed: Option<io::ErrorKind>,
}

impl Handle {
    pub(super) fn open(path: &Path) -> sled::Result<Self> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .open()?;
        let tree = db.open_tree(TREE)?;
        // Damage is found now, while something can be done about it, and not when a value is needed.
        tree.iter().try_for_each(|pair| pair.map(drop))?;
        let n_applied = tree.get(NUMBER_KEY)?.and_then(|number| decode(&number)).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mark = options.open(path.join(MARK))?;
        let handle = Self {
            number: HANDLES.fetch_add(1, Ordering::Relaxed),
            db,
            tree,
            log: File::open(path.join("db"))?,
            blobs: path.join("blobs"),
            lost: read_mark(&mark)? > n_applied,
            mark,
            n_applied: Mutex::new(n_applied),
            synced: Mutex::new(Synced::default()),
        };
        if handle.lost {
            // Before the mark is written, which is all that knows of the loss.
            identity::forget(path)?;
        }
        handle.sync()?;
        // The names of the files themselves.
        File::open(path)?.sync_all()?;
        Ok(handle)
    }

    /// Whether commits are missing that were acknowledged before. Sled reads a damaged log up to the damage and says nothing.
    pub(super) const fn lost(&self) -> bool {
        self.lost
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        Ok(self.tree.get(full_key(table, key))?.map(|value| value.to_vec()))
    }

    pub(super) fn scan(&self, table: Table, prefix: &[u8]) -> sled::Result<Pairs> {
        let found = self.tree.scan_prefix(full_key(table, prefix));
        found
            .map(|pair| {
                let (key, value) = pair?;
                let key = key.split_first().map(|(_, key)| key.to_vec()).unwrap_or_default();
                Ok((key, value.to_vec()))
            })
            .collect()
    }

    /// Makes all changes or none, durably.
    pub(super) fn commit(&self, changes: &[Change]) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Put(table, key, value) => {
                    batch.insert(full_key(*table, key), value.as_slice());
                }
                Change::Delete(table, key) => batch.remove(full_key(*table, key)),
            }
        }
        self.apply(batch)
    }

    /// The number of the store as the log has it; `None` when it never had one.
    pub(super) fn id(&self) -> sled::Result<Option<u128>> {
        let id = self.tree.get(ID_KEY)?;
        Ok(id.and_then(|id| id.as_ref().try_into().ok()).map(u128::from_be_bytes))
    }

    /// Gives the store this number and forgets what it vouched for under another one.
    pub(super) fn begin(&self, id: u128) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        for pair in self.tree.scan_prefix(full_key(Table::Registers, &[])) {
            let (key, _) = pair?;
            batch.remove(key);
        }
        batch.insert(ID_KEY, id.to_be_bytes().as_slice());
        self.apply(batch)
    }

    fn apply(&self, mut batch: sled::Batch) -> sled::Result<()> {
        let number = {
            let mut n_applied = self.n_applied.lock().unwrap_or_else(PoisonError::into_inner);
            let number = n_applied.saturating_add(1);
            batch.insert(NUMBER_KEY, number.to_be_bytes().as_slice());
            self.tree.apply_batch(batch)?;
            *n_applied = number;
            number
        };
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        // Group commit: whoever waited for this lock may find its own commit synced by the one before.
        if synced.n_commits >= number { Ok(()) } else { self.sync_all(&mut synced) }
    }

    /// Makes everything durable that is in the log now.
    pub(super) fn sync(&self) -> sled::Result<()> {
        self.sync_all(&mut self.synced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Once a sync has failed, the system may have dropped what it could not write, and a later one would succeed without it: so
    /// this handle acknowledges nothing any more.
    fn sync_all(&self, synced: &mut Synced) -> sled::Result<()> {
        if let Some(kind) = synced.failed {
            return Err(io::Error::new(kind, "an earlier sync failed").into());
        }
        let result = self.try_sync_all(synced);
        if let Err(error) = &result {
            synced.failed = Some(kind(error));
        }
        result
    }

    fn try_sync_all(&self, synced: &mut Synced) -> sled::Result<()> {
        let n_commits = *self.n_applied.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.flush()?;
        // Blobs first: a log that survives must not point to one that does not.
        self.sync_blobs(&mut synced.blobs)?;
        self.log.sync_data()?;
        synced.n_commits = n_commits;
        // Not synced: a mark that is too old only means that less is noticed.
        self.mark.write_all_at(&encode_mark(n_commits), 0)?;
        Ok(())
    }

    fn sync_blobs(&self, known: &mut HashMap<OsString, u64>) -> io::Result<()> {
        let mut present = HashMap::new();
        let mut n_new = 0_u32;
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            let before = known.get(&name).copied();
            match sync_blob(&entry.path(), before) {
                Ok(length) => {
                    n_new = n_new.saturating_add(u32::from(before != Some(length)));
                    present.insert(name, length);
                }
                // Sled removes a blob when nothing points to it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if n_new > 0 {
            File::open(&self.blobs)?.sync_all()?;
        }
        *known = present;
        Ok(())
    }
}

/// The length of the file, which is on the disk when this returns.
fn sync_blob(path: &Path, synced_length: Option<u64>) -> io::Result<u64> {
    let length = fs::metadata(path)?.len();
    if synced_length != Some(length) {
        File::open(path)?.sync_all()?;
    }
    Ok(length)
}

/// Each table has a letter of its own before its keys.
fn full_key(table: Table, key: &[u8]) -> Vec<u8> {
    let letter = match table {
        Table::Records => b'r',
        Table::Redemptions => b'i',
        Table::Node => b'n',
        Table::Registers => b'w',
    };
    [&[letter], key].concat()
}

fn kind(error: &sled::Error) -> io::ErrorKind {
    match error {
        sled::Error::Io(error) => error.kind(),
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => io::ErrorKind::Other,
    }
}

fn decode(number: &[u8]) -> Option<u64> {
    number.try_into().ok().map(u64::from_be_bytes)
}

/// The number twice, once inverted, so that a mark that was written by half is none.
fn encode_mark(number: u64) -> [u8; 16] {
    (u128::from(number) << 64 | u128::from(!number)).to_be_bytes()
}

/// The last acknowledged commit as far as is known: zero for a file that says nothing.
fn read_mark(mut file: &File) -> io::Result<u64> {
    let mut mark = Vec::new();
    file.read_to_end(&mut mark)?;
    let number = mark.first_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
    Ok(if mark == encode_mark(number) { number } else { 0 })
}
