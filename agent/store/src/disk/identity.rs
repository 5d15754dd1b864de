//! The number of a store, on which its promises hang.
//!
//! It stands twice, in the log and in a file beside it, and counts only where both say the same. Whoever repairs the store removes
//! the file first, so that a repair which is cut off in the middle is none that nobody knows of; and a log that was put back without
//! its file, or with another one, is found out too. A whole directory that is put back to an earlier state is not: nothing in it can know.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tracing::warn;

use super::handle::Handle;

/// The file with the number, as hexadecimal digits.
const FILE: &str = "id";
/// What is written before it takes the file's place.
const DRAFT: &str = "id.new";

/// The number of the store; a new one, and no registers, where the old one does not hold.
pub(super) fn settle(path: &Path, handle: &Handle) -> sled::Result<u128> {
    let stored = handle.id()?;
    match noted(path)? {
        Some(id) if stored == Some(id) => Ok(id),
        _ if stored.is_none() => renew(path, handle),
        _ => {
            warn!(path = %path.display(), "the store may have lost what it vouched for, and is a new one");
            renew(path, handle)
        }
    }
}

/// Whether the store still has this number.
pub(super) fn holds(path: &Path, handle: &Handle, id: u128) -> bool {
    let has = |found: Option<u128>| found == Some(id);
    handle.id().is_ok_and(has) && noted(path).is_ok_and(has)
}

/// Gives the store a new number, and forgets what it vouched for. Cut off at any point, the next opening does it again.
pub(super) fn renew(path: &Path, handle: &Handle) -> sled::Result<u128> {
    forget(path)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let id = u128::from_be_bytes(id);
    handle.begin(id)?;
    note(path, id)?;
    Ok(id)
}

/// Takes the number from the store, before anything is done to it after which it may not be what it was.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path.join(FILE)) {
        Ok(()) => File::open(path)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the file says; `None` when there is none, or nothing that makes sense in it.
fn noted(path: &Path) -> io::Result<Option<u128>> {
    match fs::read(path.join(FILE)) {
        Ok(text) if text.len() == 32 => {
            let text = str::from_utf8(&text).unwrap_or_default();
            Ok(u128::from_str_radix(text, 16).ok())
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn note(path: &Path, id: u128) -> io::Result<()> {
    let draft = path.join(DRAFT);
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&draft)?;
    file.write_all(format!("{id:032x}").as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path.join(FILE))?;
    File::open(path)?.sync_all()
}
