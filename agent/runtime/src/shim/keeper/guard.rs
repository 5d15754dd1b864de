//! The shim as the guard of its own container.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::cut::{Cut, Place};
use super::fence::{self, Due, FENCES_LEN, Held, PAGE_LEN, Told};
use super::lease::{Line, State};
use super::{answer, group, lease, sys};

/// Where the kernel tells which boot this is.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A guard of one run.
#[derive(Debug)]
pub(crate) struct Guard {
    file: File,
    signal: i32,
    place: Place,
    /// What becomes of it if it survives being killed.
    cut: Cut,
    /// The directory of what the workload is told.
    lease: PathBuf,
    /// Where the workload asks, until somebody answers there.
    socket: Option<UnixListener>,
    held: Held,
    /// What it was told last.
    said: Option<(Told, State)>,
}

/// A run's file, as a guard reads it first.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) place: Place,
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
        let groups = groups.lines().map(PathBuf::from).collect();
        let network = fence::network(&page).map(PathBuf::from);
        Ok(Self { place: Place { groups, network }, held })
    }
}

/// Takes what the file says by now; what cannot be read changes nothing.
pub(crate) fn refresh(held: &mut Held, file: &File) {
    let mut fences = [0; FENCES_LEN];
    if file.read_exact_at(&mut fences, 0).is_ok() {
        held.take(&fences);
    }
}

/// The number of this boot.
pub(crate) fn boot() -> io::Result<u128> {
    let text = fs::read_to_string(BOOT_ID)?;
    fence::parse_boot(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

impl Guard {
    /// Begins to guard by a file, with the signal that asks to stop, the directory of what the workload is told, and the socket at
    /// which it asks.
    ///
    /// # Errors
    /// When the file is damaged, or of another boot.
    pub(crate) fn open(
        file: File,
        signal: i32,
        lease: PathBuf,
        socket: UnixListener,
    ) -> io::Result<Self> {
        let Record { place, held } = Record::read(&file, boot()?)?;
        let (cut, socket) = (Cut::default(), Some(socket));
        Ok(Self { file, signal, place, cut, lease, socket, held, said: None })
    }

    /// Lets the workload's questions be answered from now on.
    ///
    /// # Errors
    /// When they cannot be; then the workload finds that nobody listens.
    pub(crate) fn answer(&mut self) -> io::Result<()> {
        let Some(socket) = self.socket.take() else { return Ok(()) };
        answer::spawn(socket, self.file.try_clone()?, self.held.twin())
    }

    /// Whether there is time left to run in.
    pub(crate) fn is_open(&mut self) -> bool {
        refresh(&mut self.held, &self.file);
        let now = sys::now();
        self.held.due(now) == Due::Nothing && self.held.state(now) == State::Held
    }

    /// Does what is due, and returns in how many milliseconds to call again.
    pub(crate) fn watch(&mut self, init: &OwnedFd) -> i32 {
        refresh(&mut self.held, &self.file);
        let now = sys::now();
        match self.held.due(now) {
            Due::Nothing => {}
            // One that has just ended cannot be asked any more.
            Due::Stop => {
                let (Ok(()) | Err(_)) = sys::pidfd_signal(init.as_fd(), self.signal);
            }
            Due::Kill => {
                sys::pidfd_kill(init.as_fd());
                group::kill(&self.place.groups);
                // The guard of the host tells of it: this one's own log may be on the disk that stands still.
                self.cut.killed(&self.place, now);
            }
        }
        // Last: a file system that stands still must not keep what is due from being done.
        self.tell();
        let wake = self.held.wake_ms(sys::now());
        i32::try_from(wake).unwrap_or(i32::MAX)
    }

    /// Tells the workload what is new.
    pub(crate) fn tell(&mut self) {
        let now = sys::now();
        let (told, state) = (self.held.told(), self.held.state(now));
        let is_news = self.said != Some((told, state));
        if is_news && lease::tell(&self.lease, &Line { told, state, now }).is_ok() {
            self.said = Some((told, state));
        }
    }

    /// What goes on by this guard in another program of the same process: the file, the socket and the signal.
    pub(crate) const fn parts(&self) -> (&File, Option<&UnixListener>, i32) {
        (&self.file, self.socket.as_ref(), self.signal)
    }

    /// The directory of what the workload is told.
    pub(crate) const fn lease(&self) -> &PathBuf {
        &self.lease
    }
}
