//! A host's disk that can be full, or stand still.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Host, shell};

/// What takes all room.
const FILLER: &str = "filler";

/// What the agent calls the directory of its containers.
const CONTAINERS: &str = "containers";

/// How large a disk for containers is: a few small ones write to it.
const CONTAINERS_BYTES: u64 = 64 << 20;

/// A disk of its own for a host's containers. Whoever writes to it while it stands still waits in the kernel, where no signal reaches.
/// When this is dropped it goes on, and is removed.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Lets it stand still.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self) -> Result<()> {
        shell::run("fsfreeze", &[Path::new("--freeze"), &self.mount]).map(drop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it did.
    pub fn thaw(&self) -> Result<()> {
        shell::run("fsfreeze", &[Path::new("--unfreeze"), &self.mount]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.thaw();
        // Its device goes with whoever has it last.
        let (Ok(()) | Err(_)) = umount2(&self.mount, MntFlags::MNT_DETACH);
    }
}

/// Lets all disks for containers below a lab's directory go on: what waits for them could not be ended.
pub(super) fn thaw_below(dir: &Path) {
    for point in super::clean::mounts_below(dir).unwrap_or_default() {
        if point.ends_with(CONTAINERS) {
            shell::attempt("fsfreeze", &["--unfreeze", &point]);
        }
    }
}

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
        let (from, to) = (self.containers_dir(true), self.data().join(CONTAINERS));
        fs::create_dir_all(&from)?;
        fs::create_dir_all(&to)?;
        let none = None::<&str>;
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none).context("cannot bind a directory")
    }

    /// Gives the containers, of which there are none yet, a disk of their own.
    ///
    /// # Errors
    /// When there are no loop devices, or no program makes a file system.
    pub fn disk_for_containers(&self) -> Result<Disk> {
        let (image, mount) = (self.data().with_file_name("disk"), self.data().join(CONTAINERS));
        File::create(&image)?.set_len(CONTAINERS_BYTES)?;
        fs::create_dir_all(&mount)?;
        shell::run("mkfs.ext4", &[Path::new("-qF"), &image])?;
        shell::run("mount", &[Path::new("-oloop"), &image, &mount])?;
        let disk = Disk { mount };
        fs::remove_file(image)?;
        // The agent looks for containers there.
        fs::remove_dir(disk.mount.join("lost+found"))?;
        Ok(disk)
    }

    /// Where the containers' files are, by a path on the disk of the lab.
    #[must_use]
    pub fn containers_dir(&self, is_elsewhere: bool) -> PathBuf {
        if is_elsewhere {
            self.data().with_file_name(CONTAINERS)
        } else {
            self.data().join(CONTAINERS)
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
