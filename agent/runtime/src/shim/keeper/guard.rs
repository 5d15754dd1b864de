//! The shim as the guard of its own container.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::fence::{self, Due, FENCES_LEN, Held, PAGE_LEN, Told};
use super::{group, lease, sys};

/// Where the kernel tells which boot this is.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A guard of one run.
#[derive(Debug)]
pub(crate) struct Guard {
    file: File,
    signal: i32,
    groups: Vec<PathBuf>,
    /// The directory of what the workload is told.
    lease: PathBuf,
    held: Held,
    /// What it was told last, and whether that it ends.
    said: Option<(Told, bool)>,
}

/// A run's file, as a guard reads it first.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) groups: Vec<PathBuf>,
    pub(crate) held: Held,
}

impl Record {
    /// Reads it whole.
    ///
    /// # Errors
    /// When it is damaged, or of another boot.
    pub(crate) fn read(file: &File, boot: u128) -> io::Result<Self> {
        let mut page = [0; PAGE_LEN];
        file.read_exact_at(&mut page, 0)?;
        let groups = fence::groups(&page).zip(Held::begin(fence::fences(&page), boot));
        let (groups, held) = groups.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { groups: groups.lines().map(PathBuf::from).collect(), held })
    }
}

/// Takes what the file says by now; what cannot be read changes nothing.
pub(crate) fn refresh(held: &mut Held, file: &File) {
    let mut fences = [0; FENCES_LEN];
    if file.read_exact_at(&mut fences, 0).is_ok() {
        held.take(fence::fences(&fences));
    }
}

/// The number of this boot.
pub(crate) fn boot() -> io::Result<u128> {
    let text = fs::read_to_string(BOOT_ID)?;
    fence::parse_boot(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

impl Guard {
    /// Begins to guard by a file, with the signal that asks to stop.
    ///
    /// # Errors
    /// When the file is damaged, or of another boot.
    pub(crate) fn open(file: File, signal: i32, lease: PathBuf) -> io::Result<Self> {
        let Record { groups, held } = Record::read(&file, boot()?)?;
        Ok(Self { file, signal, groups, lease, held, said: None })
    }

    /// Whether there is time left to run in.
    pub(crate) fn is_open(&mut self) -> bool {
        refresh(&mut self.held, &self.file);
        self.held.due(sys::now()) == Due::Nothing && !self.held.is_ending()
    }

    /// Does what is due, and returns in how many milliseconds to call again.
    pub(crate) fn watch(&mut self, init: &OwnedFd) -> i32 {
        refresh(&mut self.held, &self.file);
        match self.held.due(sys::now()) {
            Due::Nothing => {}
            // One that has just ended cannot be asked any more.
            Due::Stop => {
                let (Ok(()) | Err(_)) = sys::pidfd_signal(init.as_fd(), self.signal);
            }
            Due::Kill => {
                sys::pidfd_kill(init.as_fd());
                group::kill(&self.groups);
            }
        }
        // Last: a file system that stands still must not keep what is due from being done.
        self.tell();
        let wake = self.held.wake_ms(sys::now());
        i32::try_from(wake).unwrap_or(i32::MAX)
    }

    /// Tells the workload what is new.
    pub(crate) fn tell(&mut self) {
        let news = (self.held.told(), self.held.is_ending());
        if self.said != Some(news) && lease::tell(&self.lease, &news.0, news.1, sys::now()).is_ok()
        {
            self.said = Some(news);
        }
    }

    /// What goes on by this guard in another program of the same process: the file and the signal.
    pub(crate) const fn parts(&self) -> (&File, i32) {
        (&self.file, self.signal)
    }

    /// The directory of what the workload is told.
    pub(crate) const fn lease(&self) -> &PathBuf {
        &self.lease
    }
}
