//! What would end a container here when its lease does, and how surely.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::cgroup::Tree;
use crate::embedded::Config;
use crate::sys::{self, Haste};

/// How surely a container ends with its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing would end one that hangs on to life: no service that is exclusive may run here.
    None,
    /// By its shim and the guard of the host, which kill its processes one by one.
    Guards,
    /// By both, and the kernel ends all its processes at once.
    Kernel,
}

/// What would end a container by a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceReport {
    /// In one word.
    pub grade: Grade,
    /// What makes it surer or less sure, for people.
    pub notes: Vec<&'static str>,
}

/// Looks at the host. Blocks.
#[must_use]
pub fn fence(config: &Config) -> FenceReport {
    let tree = Tree::discover().ok();
    let thaws = tree.as_ref().is_some_and(|tree| tree.group("/").can_freeze_for_good());
    let grade = match (sys::pidfd_open(std::process::id()), tree) {
        (Ok(_), Some(tree)) if tree.kills_at_once(&config.cgroup_parent) => Grade::Kernel,
        (Ok(_), Some(_)) => Grade::Guards,
        (Err(_), _) | (Ok(_), None) => Grade::None,
    };
    let haste = match haste() {
        Haste::RealTime => "the guard of the host runs in real time",
        Haste::Nice => {
            "the guard of the host runs before others, but not in real time (no CAP_SYS_NICE, or a cgroup without real time)"
        }
        Haste::None => {
            "the guard of the host runs like any process (no CAP_SYS_NICE), so on a busy host it may be late"
        }
    };
    let thaws = thaws.then_some("what is frozen is thawed to die");
    let spared = (!is_spared()).then_some("the kernel may kill the guard of the host for want of memory (no CAP_SYS_RESOURCE); then the shims are left");
    let memory = (!in_memory(&config.run)).then_some(
        "the run directory is not a tmpfs, so a disk that hangs can keep renewals from the guards",
    );
    let notes = std::iter::once(haste).chain(thaws).chain(spared).chain(memory).collect();
    FenceReport { grade, notes }
}

/// In a thread of its own, which ends at once: the priority is the thread's.
fn haste() -> Haste {
    let tried = thread::Builder::new().name("doctor".to_owned()).spawn(sys::hurry);
    tried.map_or(Haste::None, |thread| thread.join().unwrap_or(Haste::None))
}

/// Whether `CAP_SYS_RESOURCE` (24) is there, which takes a process from the kernel's list when memory is short.
fn is_spared() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set & (1 << 24) != 0)
}

fn in_memory(run: &Path) -> bool {
    let there = run.ancestors().find(|dir| dir.exists());
    there.is_some_and(|dir| statfs(dir).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC))
}

impl fmt::Display for FenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.grade {
            Grade::None => "nothing ends a container when its lease does: no pidfds, or no cgroups",
            Grade::Guards => "a container ends with its lease by its shim and by the guard of the host, which kill its processes",
            Grade::Kernel => "a container ends with its lease by its shim and by the guard of the host, and the kernel kills all its processes at once (cgroup.kill)",
        })?;
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

#[cfg(test)]
mod tests {
    //! What is missing is said.

    use super::{FenceReport, Grade};

    #[test]
    fn the_words_say_the_grade_and_what_is_missing() {
        let words = |grade, notes| FenceReport { grade, notes }.to_string();
        assert!(words(Grade::Kernel, vec!["one", "two"]).ends_with("(cgroup.kill); one; two"));
        assert!(words(Grade::None, vec![]).starts_with("nothing ends"));
        assert!(Grade::None < Grade::Guards && Grade::Guards < Grade::Kernel);
    }
}
