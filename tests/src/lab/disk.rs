//! A host's disk that can be full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

use super::Host;

/// What takes all room.
const FILLER: &str = "filler";

impl Host {
    /// Gives the agent a disk of its own that holds so many bytes and is empty.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn small_disk(&self, bytes: u64) -> Result<()> {
        fs::create_dir_all(self.data())?;
        let options = format!("size={bytes},mode=700");
        let (none, flags) = (None::<&str>, MsFlags::empty());
        mount(none, &self.data(), Some("tmpfs"), flags, Some(options.as_str()))
            .context("cannot mount a disk")
    }

    /// Takes the containers' own files from that disk, so that what they write has room when it is full.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn containers_elsewhere(&self) -> Result<()> {
        let (from, to) = (self.containers_dir(true), self.data().join("containers"));
        fs::create_dir_all(&from)?;
        fs::create_dir_all(&to)?;
        let none = None::<&str>;
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none).context("cannot bind a directory")
    }

    /// Where the containers' files are, by a path on the disk of the lab.
    #[must_use]
    pub fn containers_dir(&self, is_elsewhere: bool) -> PathBuf {
        if is_elsewhere {
            self.data().with_file_name("containers")
        } else {
            self.data().join("containers")
        }
    }

    /// Leaves not a byte on the disk.
    ///
    /// # Errors
    /// When nothing can be made on it at all.
    pub fn fill_disk(&self) -> Result<()> {
        let mut file = File::create(self.data().join(FILLER))?;
        let mut piece = vec![0; 1 << 20];
        while !piece.is_empty() {
            while file.write_all(&piece).is_ok() {}
            piece.truncate(piece.len() / 2);
        }
        Ok(())
    }

    /// There is room again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty_disk(&self) -> Result<()> {
        fs::remove_file(self.data().join(FILLER)).context("the disk was not filled")
    }
}
