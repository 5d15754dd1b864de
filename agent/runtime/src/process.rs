//! Which process a number meant: process ids are used again, so a process is its id, its start time and the boot.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::sys;

/// A process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since the boot (`starttime` of `/proc/<pid>/stat`).
    pub(crate) ticks: u64,
}

impl Process {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self { pid, ticks: stat.ticks })
    }

    /// A descriptor of this very process; `None` when it has ended.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pidfd = sys::pidfd_open(self.pid).ok()?;
        // Looked at after the open: from here on the descriptor cannot mean another process.
        let stat = Stat::read(self.pid).ok()?;
        (stat.ticks == self.ticks && !stat.ended).then_some(pidfd)
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| stat.ticks == self.ticks && !stat.ended)
    }
}

/// What is needed of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// True for a process that has ended and was not waited for.
    pub(crate) ended: bool,
    /// The session it belongs to.
    pub(crate) session: u32,
    ticks: u64,
}

impl Stat {
    /// Reads it.
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may hold spaces and parentheses itself.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let session = fields.nth(2)?.parse().ok()?;
        let ticks = fields.nth(15)?.parse().ok()?;
        Some(Self { ended: matches!(state, "Z" | "X"), session, ticks })
    }
}

/// The id of this boot of the host.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    //! Reading `stat`, and knowing a process again.

    use super::{Process, Stat};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 7 9 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 12345 100 1 18446744073709551615";
        let stat = Stat::parse(text).expect("well formed");
        assert_eq!(stat, Stat { ended: false, session: 9, ticks: 12345 });
    }

    #[test]
    fn another_start_time_is_another_process() {
        let own = Process::of(std::process::id()).expect("this process is there");
        assert!(own.is_alive() && own.open().is_some());
        let former = Process { ticks: own.ticks - 1, ..own };
        assert!(!former.is_alive() && former.open().is_none());
    }
}
