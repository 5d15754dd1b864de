//! A terminal for a command in a container: a pair of the container's own devpts, so that its programs find it by its name. The
//! agent keeps the master; the other end becomes the command's three streams and its controlling terminal.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use mesh_ports::runtime::Window;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, major, minor};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::net::unix::pipe;

use crate::shim::Root;

/// The numbers of the device that makes pairs.
const PTMX: (u64, u64) = (5, 2);

/// The agent's end of a terminal.
pub(super) struct Master {
    pub(super) output: pipe::Receiver,
    pub(super) input: pipe::Sender,
    pub(super) size: Size,
}

/// Gives a terminal another size.
pub(super) struct Size(OwnedFd);

/// Opens a terminal in the container whose first process is `init`; also returns the command's end of it.
pub(super) fn open(init: u32, size: Window) -> io::Result<(OwnedFd, OwnedFd)> {
    let root = Root::open(&Path::new("/proc").join(init.to_string()).join("root"))?;
    let ptmx = root.device("/dev/pts/ptmx")?;
    // A program in the container may have put anything there.
    let stat = fstat(&ptmx)?;
    let is_device = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    if !is_device || (major(stat.st_rdev), minor(stat.st_rdev)) != PTMX {
        return Err(io::Error::other("/dev/pts/ptmx in the container makes no terminals"));
    }
    // An agent that leads a session must not get the terminal as its own.
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let master = File::options()
        .read(true)
        .write(true)
        .custom_flags(flags.bits())
        .open(format!("/proc/self/fd/{}", ptmx.as_raw_fd()))?;
    unlockpt(&master)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, peer)?;
    let mut modes = tcgetattr(&slave)?;
    // Backspace deletes a whole character of UTF-8.
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    resize(&master, size)?;
    Ok((master.into(), slave))
}

fn resize(master: impl AsFd, Window { columns, rows }: Window) -> io::Result<()> {
    Ok(tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

impl Master {
    /// The ends of a pipe serve: what is read and written here behaves as a pipe does, but for an end that is called `EIO`.
    pub(super) fn of(master: OwnedFd) -> io::Result<Self> {
        let (output, input) = (master.try_clone()?, master.try_clone()?);
        Ok(Self {
            output: pipe::Receiver::from_owned_fd_unchecked(output)?,
            input: pipe::Sender::from_owned_fd_unchecked(input)?,
            size: Size(master),
        })
    }
}

impl Size {
    /// The foreground processes get SIGWINCH from the kernel.
    pub(super) fn set(&self, size: Window) -> io::Result<()> {
        resize(&self.0, size)
    }
}
