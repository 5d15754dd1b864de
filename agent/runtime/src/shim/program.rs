//! The program in which shims wait, on disk: it comes with the agent's own.
//!
//! A file, and not memory with a name: those who watch over hosts take a program without a file for an intruder.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mesh_telemetry::Chain;
use tracing::warn;

use crate::sys;

/// What the build script made of `keeper.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keeper"));

/// The beginning of the file's name; the digest of its content follows.
const NAME: &str = "agent-shim-";

/// Whether a program of this name is the one that came with this build.
pub(super) fn is_own(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == format!("{NAME}{}", env!("KEEPER_DIGEST")).as_str())
}

/// Writes the program to `dir` if it is not there as it should be, removes others', and returns where it is.
pub(crate) fn install(dir: &Path) -> io::Result<PathBuf> {
    let name = format!("{NAME}{}", env!("KEEPER_DIGEST"));
    let path = dir.join(&name);
    // Every byte: the disk may have lost some, and each shim would run what is left.
    if !fs::read(&path).is_ok_and(|bytes| bytes == PROGRAM) {
        let temporary = tempfile::Builder::new().prefix(".agent-shim-").tempfile_in(dir)?;
        fs::write(temporary.path(), PROGRAM)?;
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o700))?;
        temporary.as_file().sync_all()?;
        temporary.persist(&path).map_err(|error| error.error)?;
    }
    // A megabyte that is needed once.
    sys::put_away(PROGRAM);
    if let Err(error) = remove_others(dir, &name) {
        warn!(error = %Chain(&error), "a former program of shims stays");
    }
    Ok(path)
}

fn remove_others(dir: &Path, name: &str) -> io::Result<()> {
    let mut removed = Ok(());
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let other = entry.file_name();
        // Shims of former agents go on with what they have open.
        if other.to_string_lossy().starts_with(NAME) && other != name {
            let gone = fs::remove_file(entry.path());
            removed = removed.and(gone);
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    //! The file is what it should be.

    use std::fs;

    use super::{PROGRAM, install};

    #[test]
    fn a_program_that_is_cut_off_is_written_again_and_former_ones_go() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("agent-shim-0"), "former").expect("written");
        fs::write(dir.path().join("other"), "").expect("written");
        let path = install(dir.path()).expect("installed");
        assert_eq!(fs::read(&path).expect("read"), PROGRAM);
        fs::write(&path, "cut off").expect("written");
        assert_eq!(install(dir.path()).expect("installed"), path);
        assert_eq!(fs::read(&path).expect("read"), PROGRAM);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
    }

    #[test]
    fn a_program_that_rots_is_written_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = install(dir.path()).expect("installed");
        let mut bytes = PROGRAM.to_vec();
        bytes[PROGRAM.len() / 2] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert_eq!(install(dir.path()).expect("installed"), path);
        assert_eq!(fs::read(&path).expect("read"), PROGRAM);
    }

    #[test]
    fn a_former_program_that_cannot_go_does_not_matter() {
        let dir = tempfile::tempdir().expect("a directory");
        // A directory is not removed as a file is, not even by root.
        fs::create_dir(dir.path().join("agent-shim-0")).expect("made");
        let path = install(dir.path()).expect("installed");
        assert_eq!(fs::read(path).expect("read"), PROGRAM);
    }
}
