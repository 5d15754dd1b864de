//! Opening a store: who may, and what to do with one that is damaged.

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use super::handle::Handle;
use super::{identity, is_full};

/// The file whose lock says that the store is in use.
const LOCK: &str = "lock";
/// What the names of sled's snapshots begin with.
const SNAPSHOT: &str = "snap.";
/// What stands before the name of a snapshot that was set aside.
const ASIDE: &str = "torn-";
/// What sled says when its own lock is held; it has no type of its own for this.
const SLED_LOCKED: &str = "could not acquire lock";

/// How often, and after which pause, a lock is tried again: one second in all. Its former owner may be ending still, and a child
/// that is being started holds copies of all locks of its parent until it is another program.
const ENDING_TRIES: u32 = 20;
const ENDING_PAUSE: Duration = Duration::from_millis(50);

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it open. *Nothing was changed.*
    #[error("the store at {path} is in use by another agent")]
    Busy {
        /// Where the store is.
        path: String,
    },
    /// The disk is full. *Nothing was lost; free space and it can be tried again.*
    #[error("no space is left for the store at {path}")]
    Full {
        /// Where the store is.
        path: String,
    },
    /// The disk or the file system failed. *Nothing was changed.*
    #[error("the store at {path} cannot {attempt}")]
    Io {
        /// Where the store is.
        path: String,
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store is damaged, and its log does not repair it. *Nothing was changed: [`set_aside`] makes room for a new one, which
    /// the peers fill; only what no peer has is lost.*
    #[error(
        "the store at {path} is damaged; what its peers know can be fetched again into a new one"
    )]
    Corrupt {
        /// Where the store is.
        path: String,
        /// What was found.
        #[source]
        source: sled::Error,
    },
}

/// The most damaged stores that are kept beside the good one: enough to find out what damages them, and no reason for a full disk.
const DAMAGED_MAX: u32 = 4;

/// Puts the damaged store at `path` beside its place, for whoever wants to look at it. Returns where it is now. Of those that were
/// set aside before, the oldest goes when there are too many.
///
/// # Errors
/// When somebody has it open, or the directory cannot be renamed. *It is where it was.*
pub fn set_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |source| OpenError::Io {
        path: path.display().to_string(),
        attempt: "be set aside",
        source,
    };
    let _lock = lock(path)?;
    let names: Vec<PathBuf> = (1..=DAMAGED_MAX)
        .map(|number| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".damaged-{number}"));
            PathBuf::from(name)
        })
        .collect();
    let aside = match names.iter().find(|name| !name.exists()) {
        Some(free) => free.clone(),
        None => oldest(&names).map_err(failed)?,
    };
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed)?;
    }
    fs::rename(path, &aside).map_err(failed)?;
    if let Some(parent) = path.parent() {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    Ok(aside)
}

/// Holds the lock of a store without opening it, so that no agent uses it until the file is dropped; `None` when there is no store.
///
/// # Errors
/// When somebody has it open, or it cannot be locked.
pub fn hold(path: &Path) -> Result<Option<File>, OpenError> {
    if path.exists() { lock(path).map(Some) } else { Ok(None) }
}

/// The one that was written to first, which is the one that was set aside first.
fn oldest(names: &[PathBuf]) -> io::Result<PathBuf> {
    let mut aged = Vec::with_capacity(names.len());
    for name in names {
        aged.push((fs::metadata(name)?.modified()?, name.clone()));
    }
    aged.into_iter().min().map(|(_, name)| name).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Makes the directory if needed and takes the lock in it.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let name = || path.display().to_string();
    let failed = |attempt| move |source: io::Error| OpenError::Io { path: name(), attempt, source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("be created"))?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(path.join(LOCK)).map_err(failed("be locked"))?;
    for _ in 0..ENDING_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => pause(),
            Err(TryLockError::Error(source)) => return Err(failed("be locked")(source)),
        }
    }
    Err(OpenError::Busy { path: name() })
}

/// A store that was opened.
pub(super) struct Opened {
    /// The database, of which everything could be read.
    pub(super) handle: Handle,
    /// Whether it took a repair, or acknowledged commits are missing.
    pub(super) repaired: bool,
}

/// Opens the database, if need be without its snapshots.
pub(super) fn handle(path: &Path) -> Result<Opened, OpenError> {
    let error = match unlocked(path) {
        Ok(handle) => {
            let repaired = handle.lost();
            if repaired {
                warn!(path = %path.display(), "the end of the store was damaged and is lost");
            }
            return Ok(Opened { handle, repaired });
        }
        Err(error) => error,
    };
    let classified = classify(path, error);
    if !matches!(classified, OpenError::Corrupt { .. }) {
        return Err(classified);
    }
    // A snapshot only saves reading the log, so a torn one costs nothing but time. But nobody can tell, so the store is another one
    // from here on, also if this attempt ends in the middle.
    let aside = identity::forget(path).and_then(|()| set_snapshots_aside(path));
    let n_aside = aside.map_err(|source| OpenError::Io {
        path: path.display().to_string(),
        attempt: "be repaired",
        source,
    })?;
    if n_aside == 0 {
        return Err(classified);
    }
    warn!(path = %path.display(), n_aside, "set a damaged snapshot aside; reading the whole log");
    let handle = unlocked(path).map_err(|error| classify(path, error))?;
    Ok(Opened { handle, repaired: true })
}

/// The number of the store; another one than before when nobody can tell whether it is whole.
pub(super) fn id(path: &Path, handle: &Handle) -> Result<u128, OpenError> {
    identity::settle(path, handle).map_err(|error| classify(path, error))
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "opening blocks anyway, and on threads that may"
    )]
    std::thread::sleep(ENDING_PAUSE);
}

/// Opens the database. Whoever is here holds the lock of the directory, so sled's own lock can only be held by a handle of this
/// process that was dropped, or failed to open, and whose threads are still ending: that is waited for.
fn unlocked(path: &Path) -> Result<Handle, sled::Error> {
    for _ in 0..ENDING_TRIES {
        match guarded(path) {
            Err(sled::Error::Io(error)) if error.to_string().contains(SLED_LOCKED) => {
                pause();
            }
            opened => return opened,
        }
    }
    guarded(path)
}

/// Opens the database; sled gives up by a panic on some kinds of damage.
fn guarded(path: &Path) -> Result<Handle, sled::Error> {
    // Nothing of a handle that was not made is used again.
    catch_unwind(AssertUnwindSafe(|| Handle::open(path))).unwrap_or_else(|panic| {
        Err(sled::Error::ReportableBug(format!("sled broke down: {}", said(panic.as_ref()))))
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it does not say why").to_owned()
}

fn set_snapshots_aside(path: &Path) -> io::Result<u32> {
    let mut n_aside = 0_u32;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(SNAPSHOT.as_bytes()) {
            continue;
        }
        let mut aside = std::ffi::OsString::from(ASIDE);
        aside.push(&name);
        fs::rename(path.join(&name), path.join(aside))?;
        n_aside = n_aside.saturating_add(1);
    }
    File::open(path)?.sync_all()?;
    Ok(n_aside)
}

fn classify(path: &Path, error: sled::Error) -> OpenError {
    let path = path.display().to_string();
    if is_full(&error) {
        return OpenError::Full { path };
    }
    match error {
        sled::Error::Io(source) if source.to_string().contains(SLED_LOCKED) => {
            OpenError::Busy { path }
        }
        // A file that ends too early or is not there although the log names it is damage, not a failing disk.
        sled::Error::Io(source)
            if matches!(
                source.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound | io::ErrorKind::InvalidData
            ) =>
        {
            OpenError::Corrupt { path, source: sled::Error::Io(source) }
        }
        sled::Error::Io(source) => OpenError::Io { path, attempt: "be opened", source },
        source @ (sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => OpenError::Corrupt { path, source },
    }
}
