//! The program in which shims wait, on disk: it comes with the agent's own.
//!
//! A file, and not memory with a name: those who watch over hosts take a program without a file for an intruder.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::sys;

/// What the build script made of `keeper.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keeper"));

/// The beginning of the file's name; the digest of its content follows.
const NAME: &str = "agent-shim-";

/// Writes the program to `dir` if it is not there, removes others', and returns where it is.
pub(crate) fn install(dir: &Path) -> io::Result<PathBuf> {
    let name = format!("{NAME}{}", env!("KEEPER_DIGEST"));
    let path = dir.join(&name);
    let len = fs::metadata(&path).map(|file| file.len()).ok();
    if len != u64::try_from(PROGRAM.len()).ok() {
        let temporary = tempfile::Builder::new().prefix(".agent-shim-").tempfile_in(dir)?;
        fs::write(temporary.path(), PROGRAM)?;
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o700))?;
        temporary.as_file().sync_all()?;
        temporary.persist(&path).map_err(|error| error.error)?;
        // A megabyte that is needed once.
        sys::put_away(PROGRAM);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let other = entry.file_name();
        // Shims of former agents go on with what they have open.
        if other.to_string_lossy().starts_with(NAME) && other != name.as_str() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(path)
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
}
