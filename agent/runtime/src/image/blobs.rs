//! Blobs on disk, named by their digest.
//!
//! A blob is written to a temporary file of the same file system and hashed on the way; it gets its name only when its bytes are
//! right and synced.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mesh_ports::runtime::ImageError;
use mesh_telemetry::Chain;
use tempfile::{NamedTempFile, TempPath};
use tracing::warn;

use super::digest::{BUFFER_LEN, Digest, Hashing, drain};
use super::fault::{host, invalid, reading};
use super::manifest::DOCUMENT_LEN_MAX;

/// The largest blob: four times the largest layer that was ever seen.
pub(super) const BLOB_LEN_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// The blobs of a store.
#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
    /// Held while blobs get their names, so that taking them back after a failure takes nobody else's.
    naming: Mutex<()>,
    /// What was found damaged and nobody has been told of.
    damaged: Mutex<BTreeSet<Digest>>,
}

/// Blobs that were found damaged and nobody asked about; more are told of in the log only.
const DAMAGED_MAX: usize = 64;

/// A blob that is written and does not have its name yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged {
    /// The digest of its bytes.
    pub(super) digest: Digest,
    /// How many they are.
    pub(super) size: u64,
    path: TempPath,
}

impl Staged {
    /// Where it lies until it is complete.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Blobs {
    /// The blobs in `dir`, with temporary files in `tmp`; both are there and in one file system.
    pub(super) fn new(dir: PathBuf, tmp: PathBuf) -> Self {
        Self { dir, tmp, naming: Mutex::new(()), damaged: Mutex::default() }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Writes what `from` gives, called `what` in messages, to a temporary file.
    pub(super) fn stage(&self, from: impl Read, what: &str) -> Result<Staged, ImageError> {
        let attempt = || format!("write {what} below {}", self.tmp.display());
        let mut file = NamedTempFile::new_in(&self.tmp).map_err(|error| host(attempt(), error))?;
        let mut from = Hashing::new(from, BLOB_LEN_MAX);
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(what, error)),
            };
            let piece = buffer.get(..n).unwrap_or_default();
            file.write_all(piece).map_err(|error| host(attempt(), error))?;
        }
        let (digest, size) = from.finish();
        // The file is closed: an archive may have more files than a process may have open.
        Ok(Staged { digest, size, path: file.into_temp_path() })
    }

    /// Gives all of `staged` their names and then does `and_then`; if any of it fails, none of them is stored.
    pub(super) fn commit(
        &self,
        staged: Vec<Staged>,
        and_then: impl FnOnce() -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        for blob in &staged {
            File::open(blob.path())
                .and_then(|file| file.sync_all())
                .map_err(|error| host(format!("sync {}", blob.digest), error))?;
        }
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut added = Vec::new();
        let outcome = self.name(staged, &mut added).and_then(|()| and_then());
        if outcome.is_err() {
            for path in added {
                // The first failure is what matters; a blob that stays behind is whole and only takes space.
                drop(fs::remove_file(path));
            }
        }
        outcome
    }

    fn name(&self, staged: Vec<Staged>, added: &mut Vec<PathBuf>) -> Result<(), ImageError> {
        for blob in staged {
            let to = self.path(&blob.digest);
            let new = !to.exists();
            // A blob that is there already is replaced by the same bytes, which heals one that was damaged.
            let attempt = || format!("store {}", blob.digest);
            blob.path.persist(&to).map_err(|error| host(attempt(), error.error))?;
            if new {
                added.push(to);
            }
        }
        sync_dir(&self.dir)
    }

    /// Opens a blob with its size.
    pub(super) fn open(&self, digest: &Digest) -> Result<(File, u64), ImageError> {
        let opened = File::open(self.path(digest)).and_then(|file| {
            let size = file.metadata()?.len();
            Ok((file, size))
        });
        opened.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ImageError::Missing(digest.to_string())
            } else {
                host(format!("open {digest}"), error)
            }
        })
    }

    /// The size of a blob, or `None` when it is not here.
    pub(super) fn size(&self, digest: &Digest) -> Result<Option<u64>, ImageError> {
        match fs::metadata(self.path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(host(format!("look for {digest}"), error)),
        }
    }

    /// The bytes of a manifest, an index or a configuration. A damaged one is removed and missing from then on.
    pub(super) fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let (file, size) = self.open(digest)?;
        if size > DOCUMENT_LEN_MAX {
            return Err(invalid(format!(
                "{digest} is too large for a manifest or a configuration"
            )));
        }
        let mut bytes = Vec::new();
        (&file)
            .take(DOCUMENT_LEN_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| host(format!("read {digest}"), error))?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        self.remove_damaged(digest, &file)?;
        Err(ImageError::Missing(digest.to_string()))
    }

    /// Whether the blob begins with these bytes.
    pub(super) fn begins_with(&self, digest: &Digest, head: &[u8]) -> Result<bool, ImageError> {
        let (file, _) = self.open(digest)?;
        let mut begin = Vec::new();
        file.take(u64::try_from(head.len()).unwrap_or(u64::MAX))
            .read_to_end(&mut begin)
            .map_err(|error| host(format!("read {digest}"), error))?;
        Ok(begin == head)
    }

    /// Reads a whole blob and removes it if it is damaged. Returns whether it is right.
    pub(super) fn check(&self, digest: &Digest) -> Result<bool, ImageError> {
        let (file, _) = self.open(digest)?;
        let mut bytes = Hashing::new(BufReader::new(&file), u64::MAX);
        drain(&mut bytes).map_err(|error| host(format!("read {digest}"), error))?;
        let is_right = bytes.finish().0 == *digest;
        if !is_right {
            self.remove_damaged(digest, &file)?;
        }
        Ok(is_right)
    }

    /// Removes a blob whose bytes, as read from `file`, turned out to be those of `found`, if that is another one.
    pub(super) fn judge(&self, digest: &Digest, file: &File, found: &Digest) {
        if digest != found
            && let Err(error) = self.remove_damaged(digest, file)
        {
            warn!(error = %Chain(&error), "a damaged blob stays");
        }
    }

    /// The blobs that were found damaged and removed since this was asked last.
    pub(super) fn take_damaged(&self) -> BTreeSet<Digest> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes a blob that was found damaged in `file`; what is missing is fetched again when it is needed. Another file that
    /// has got its name meanwhile is a good copy, and stays.
    pub(super) fn remove_damaged(&self, digest: &Digest, file: &File) -> Result<(), ImageError> {
        let attempt = || format!("remove the damaged {digest}");
        let path = self.path(digest);
        // So that nothing gets the name between the look and the removal.
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let there = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            looked => Some(looked.map_err(|error| host(attempt(), error))?),
        };
        let read = file.metadata().map_err(|error| host(attempt(), error))?;
        if there.as_ref().is_some_and(|there| !is_same(there, &read)) {
            return Ok(());
        }
        warn!(%digest, "a blob was damaged on this node's disk, and is removed");
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(digest.clone());
        }
        drop(damaged);
        match there {
            Some(_) => fs::remove_file(path).map_err(|error| host(attempt(), error)),
            None => Ok(()),
        }
    }

    /// All blobs with their sizes, in the order of their digests.
    pub(super) fn list(&self) -> io::Result<Vec<(Digest, u64)>> {
        let mut all = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let file = file?;
            let digest = file.file_name().to_str().and_then(Digest::from_hex);
            // A blob may be removed between the two calls.
            if let (Some(digest), Ok(metadata)) = (digest, file.metadata()) {
                all.push((digest, metadata.len()));
            }
        }
        all.sort();
        Ok(all)
    }
}

/// Whether both are of one file.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Makes the names in a directory survive a crash.
pub(super) fn sync_dir(dir: &Path) -> Result<(), ImageError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| host(format!("sync {}", dir.display()), error))
}
