//! Files that only their owner may read, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::text;

/// The largest file that is read: far more than any of ours has.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Read and write for the owner.
const OWNER_ONLY: u32 = 0o600;
/// The permissions of the group and of everybody.
const OTHERS: u32 = 0o077;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// There is already such a file. *It is unchanged.*
    #[error("{path} exists already and is not overwritten")]
    Exists {
        /// Which file.
        path: String,
    },
    /// The file or its directory cannot be read or written. *A file that was there is unchanged.*
    #[error("cannot {attempt} {path}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Which file or directory.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody other than the owner may read or write it. *It is unchanged, and was not used.*
    #[error(
        "{path} holds a secret but has mode {mode:04o}, so others can read or change it: run chmod 600 {path}"
    )]
    Open {
        /// Which file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
}

fn failed<'a>(
    attempt: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> SecretFileError + 'a {
    move |source| SecretFileError::Io { attempt, path: path.display().to_string(), source }
}

/// The content of a file that nobody else may read.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let file = File::open(path).map_err(failed("open", path))?;
    // Asked of the open file, so that it cannot be exchanged in between.
    let mode = file.metadata().map_err(failed("read", path))?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(SecretFileError::Open { path: path.display().to_string(), mode });
    }
    read_all(file).map_err(failed("read", path))
}

/// All that there is to read, within the bound.
pub(crate) fn read_all(from: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut content = Zeroizing::new(String::new());
    from.take(FILE_LEN_MAX).read_to_string(&mut content)?;
    Ok(content)
}

/// Makes the file with this content, unless there is one.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), SecretFileError> {
    let draft = Draft::write(path, content)?;
    // A link, unlike a rename, fails when the name is taken.
    fs::hard_link(&draft.path, path).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            SecretFileError::Exists { path: path.display().to_string() }
        } else {
            failed("create", path)(source)
        }
    })?;
    drop(draft);
    sync_directory(path)
}

/// Puts this content in the place of what was there, if anything.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), SecretFileError> {
    let draft = Draft::write(path, content)?;
    fs::rename(&draft.path, path).map_err(failed("replace", path))?;
    sync_directory(path)
}

/// A complete file beside the real one, removed when it goes out of scope under its own name.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(path: &Path, content: &[u8]) -> Result<Self, SecretFileError> {
        let mut tag = [0_u8; 8];
        getrandom::fill(&mut tag)
            .map_err(io::Error::from)
            .map_err(failed("name a draft of", path))?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", text::to_hex(&tag)));
        let draft = Self { path: PathBuf::from(name) };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(OWNER_ONLY);
        let mut file = options.open(&draft.path).map_err(failed("create", &draft.path))?;
        file.write_all(content).map_err(failed("write", &draft.path))?;
        file.sync_all().map_err(failed("sync", &draft.path))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; a draft that stays does no harm.
        drop(fs::remove_file(&self.path));
    }
}

fn sync_directory(path: &Path) -> Result<(), SecretFileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new("."));
    let opened = File::open(directory).map_err(failed("open", directory))?;
    opened.sync_all().map_err(failed("sync", directory))
}

#[cfg(test)]
mod tests;
