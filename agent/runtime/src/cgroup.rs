//! Control groups, version 1 and 2: where ours are, what a container uses, and how all of it ends.
//!
//! libcontainer makes a container's group and sets its limits; this module knows the same places, because killing, measuring
//! and removing must work without libcontainer's own state and when the shim is dead.
//!
//! Version is decided as libcontainer does: a cgroup2 file system at `/sys/fs/cgroup` is version 2, anything else there
//! (also "hybrid": version 1 with a nearly empty version 2 beside it) is version 1.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use mesh_ports::runtime::Usage;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use crate::sys;

mod bound;
mod mounts;

pub(crate) use self::bound::Ceiling;
pub(crate) use self::mounts::Mount;

/// Where the kernel's control groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that limits and statistics need.
pub(crate) const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Groups of shims are called this; no container may be.
pub(crate) const SHIMS: &str = "shims";

/// What is added to the name of the group above containers to name that of their guard, which stands beside it: what limits or
/// freezes containers does not reach it.
pub(crate) const GUARD: &str = "-guard";

/// How long a group may take to be empty: more than the kernel ever needs to end processes that are not stuck in it.
pub(crate) const KILL_MAX: Duration = Duration::from_secs(10);

/// The pause between two looks at it.
const KILL_PAUSE: Duration = Duration::from_millis(10);

/// The hierarchies of this host.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    unified: bool,
    mounts: Vec<Mount>,
}

impl Tree {
    /// Looks at the host.
    pub(crate) fn discover() -> io::Result<Self> {
        let unified = statfs(ROOT)?.filesystem_type() == CGROUP2_SUPER_MAGIC;
        let mounts =
            mounts::read()?.into_iter().filter(|mount| mount.path.starts_with(ROOT)).collect();
        Ok(Self { unified, mounts })
    }

    /// Whether this host has version 2 only.
    pub(crate) const fn is_unified(&self) -> bool {
        self.unified
    }

    /// The group `path` of every hierarchy.
    pub(crate) fn group(&self, path: &str) -> Group {
        let below = path.trim_start_matches('/');
        let places = self
            .mounts
            .iter()
            .map(|mount| Mount { path: mount.path.join(below), ..mount.clone() })
            .collect();
        Group { unified: self.unified, places }
    }

    /// Whether all that is in a group can be killed at once on this host: there is version 2, of a kernel that does it. Makes a
    /// group beside `parent` to see it, and removes it.
    pub(crate) fn kills_at_once(&self, parent: &str) -> bool {
        let Some(mount) = self.mounts.iter().find(|mount| mount.v2) else { return false };
        // The root of a hierarchy has no such file.
        let name = parent.trim_matches('/').replace('/', "-");
        let tried = mount.path.join(format!("{name}-doctor"));
        let made = fs::create_dir(&tried);
        let kills = tried.join("cgroup.kill").exists();
        if made.is_ok() {
            // Nobody is in it.
            let (Ok(()) | Err(_)) = fs::remove_dir(&tried);
        }
        kills
    }

    /// Which of [`CONTROLLERS`] this host does not have.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let available = if self.unified {
            fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default()
        } else {
            self.mounts
                .iter()
                .flat_map(|mount| mount.controllers.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let available: Vec<&str> = available.split_whitespace().collect();
        CONTROLLERS.into_iter().filter(|controller| !available.contains(controller)).collect()
    }

    /// The path below which our groups can be made: the root where we may, else the group that we are in ourselves (of memory,
    /// on version 1; all hierarchies then use that path, since libcontainer knows one path for all). Leaves nothing behind.
    ///
    /// # Errors
    /// When neither place lets us make a group with all controllers that it has.
    pub(crate) fn base(&self, parent: &str) -> io::Result<String> {
        let tried = self.prepare(parent);
        self.remove_empty(parent, parent);
        match tried {
            Ok(()) => return Ok(String::new()),
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        let own = mounts::own(if self.unified { "" } else { "memory" })?;
        let path = format!("{own}{parent}");
        let tried = self.prepare(&path);
        self.remove_empty(&path, parent);
        tried.map(|()| own)
    }

    /// Makes the group above containers, ready to limit them.
    ///
    /// # Errors
    /// When it cannot be made; on version 2 also when the controllers cannot be handed down to it, which is so in a group that
    /// is not the root and has processes.
    pub(crate) fn prepare(&self, parent: &str) -> io::Result<()> {
        let group = self.group(parent);
        let places = CONTROLLERS.iter().filter_map(|controller| group.place(controller));
        places.clone().try_for_each(fs::create_dir_all)?;
        if !self.unified {
            return Ok(());
        }
        let Some(place) = group.place("") else { return Ok(()) };
        let mut above: Vec<&Path> =
            place.ancestors().take_while(|dir| dir.starts_with(ROOT)).collect();
        above.reverse();
        for dir in above {
            let offered = fs::read_to_string(dir.join("cgroup.controllers"))?;
            let on = fs::read_to_string(dir.join("cgroup.subtree_control"))?;
            let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
            for controller in CONTROLLERS {
                if has(&offered, controller) && !has(&on, controller) {
                    fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))?;
                }
            }
        }
        Ok(())
    }

    /// Removes the group `path` with the one of its shims and as many groups above it as `parent` has parts, as far as they
    /// are empty.
    pub(crate) fn remove_empty(&self, path: &str, parent: &str) {
        // Where the guard is still there, so is the group.
        let (Ok(()) | Err(_)) = self.group(&format!("{path}{GUARD}")).remove();
        let depth = parent.trim_matches('/').split('/').count();
        let shims = self.group(&format!("{path}/{SHIMS}")).remove();
        let mut removed = shims.is_ok();
        for above in Path::new(path).ancestors().take(depth) {
            // Another node's containers may be beside ours, or a shim has not quite ended.
            removed = removed && self.group(&above.to_string_lossy()).remove().is_ok();
        }
    }

    /// Moves this process out of whatever group it is in, into `path`, so that stopping the agent's service leaves it alone.
    /// Where a hierarchy refuses, the process stays where it is in that one.
    pub(crate) fn enter(&self, path: &str) -> io::Result<()> {
        let mut entered = Ok(());
        for place in self.group(path).places {
            // A group of cpusets has no processors until some are given to it, and nobody limits shims by it.
            if place.controllers.iter().any(|controller| controller == "cpuset") {
                continue;
            }
            let moved = fs::create_dir_all(&place.path)
                .and_then(|()| fs::write(place.path.join("cgroup.procs"), "0"));
            entered = entered.and(moved);
        }
        entered
    }
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};

    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}

/// One group, in every hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    unified: bool,
    places: Vec<Mount>,
}

impl Group {
    fn place(&self, controller: &str) -> Option<&Path> {
        let has = |place: &&Mount| {
            if self.unified {
                place.v2
            } else {
                place.controllers.iter().any(|name| name == controller)
            }
        };
        self.places.iter().find(has).map(|place| place.path.as_path())
    }

    /// Every process in it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for controller in ["pids", "memory", "freezer"] {
            let Some(place) = self.place(controller) else { continue };
            let text = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Its directories for whoever guards it: all that list its processes, and those by which they are killed and thawed.
    pub(crate) fn guarded(&self) -> Vec<&Path> {
        let controllers =
            ["freezer", "pids", "memory"].into_iter().filter_map(|name| self.place(name));
        let mut places: Vec<&Path> = controllers.chain(self.v2()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Whether what is frozen in it survives being killed until it is thawed: that is so in version 1.
    pub(crate) fn can_freeze_for_good(&self) -> bool {
        !self.unified && self.place("freezer").is_some()
    }

    fn v2(&self) -> Option<&Path> {
        self.places.iter().find(|place| place.v2).map(|place| place.path.as_path())
    }

    /// Puts a process into the group of version 2 on hosts of version 1 that have that beside it, so that all of it can be killed
    /// at once; nothing where there is none, or nothing else.
    pub(crate) fn join_unified(&self, pid: u32) -> io::Result<()> {
        let Some(place) = self.v2().filter(|_| !self.unified) else { return Ok(()) };
        fs::create_dir_all(place)?;
        fs::write(place.join("cgroup.procs"), pid.to_string())
    }

    /// Kills every process in it and returns when none is left. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when some are left after `max`.
    pub(crate) fn kill(&self, max: Duration) -> io::Result<()> {
        let rounds = max.as_millis() / KILL_PAUSE.as_millis();
        for round in 0..rounds {
            let pids = self.processes();
            if pids.is_empty() {
                return Ok(());
            }
            // Every tenth round: processes may have forked in between, and a signal twice does no harm.
            if round % 10 == 0 {
                self.kill_once(&pids);
            }
            sys::pause(KILL_PAUSE);
        }
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }

    fn kill_once(&self, pids: &[u32]) {
        let at_once = self.unified
            && self
                .place("")
                .is_some_and(|place| fs::write(place.join("cgroup.kill"), "1").is_ok());
        if at_once {
            return;
        }
        // Frozen, so that a fork bomb cannot outrun the list; the signals arrive when it thaws.
        self.freeze(true);
        let frozen = self.processes();
        for pid in pids.iter().chain(&frozen) {
            if let Ok(pid) = i32::try_from(*pid) {
                // Gone already is what is wanted.
                let (Ok(()) | Err(_)) = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        self.freeze(false);
    }

    fn freeze(&self, frozen: bool) {
        let Some(place) = self.place("freezer") else { return };
        let (file, word) = match (self.unified, frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        // Killing works without it, only slower.
        let (Ok(()) | Err(_)) = fs::write(place.join(file), word);
    }

    /// Removes it from every hierarchy; fine where it is not there.
    ///
    /// # Errors
    /// When processes or other groups are in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut removed = Ok(());
        for place in &self.places {
            let gone = remove_patiently(&place.path);
            removed = removed.and(gone);
        }
        removed
    }

    /// Whether the kernel killed a process of it for want of memory.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        self.keyed("memory", file, "oom_kill").is_some_and(|count| count > 0)
    }

    /// What its processes use now. `memory` leaves out what the kernel could drop at once (inactive pages of files), as
    /// `docker stats` does.
    pub(crate) fn usage(&self) -> Usage {
        let pids = self.number("pids", "pids.current").unwrap_or(0);
        if self.unified {
            let micros = self.keyed("cpu", "cpu.stat", "usage_usec").unwrap_or(0);
            let used = self.number("memory", "memory.current").unwrap_or(0);
            let inactive = self.keyed("memory", "memory.stat", "inactive_file").unwrap_or(0);
            let memory = used.saturating_sub(inactive);
            return Usage { cpu: Duration::from_micros(micros), memory, pids };
        }
        let nanos = self.number("cpuacct", "cpuacct.usage").unwrap_or(0);
        let used = self.number("memory", "memory.usage_in_bytes").unwrap_or(0);
        let inactive = self.keyed("memory", "memory.stat", "total_inactive_file").unwrap_or(0);
        Usage { cpu: Duration::from_nanos(nanos), memory: used.saturating_sub(inactive), pids }
    }

    /// The most memory it may use by the limits of the groups above it; `None` when nothing limits it.
    pub(crate) fn memory_limit_above(&self) -> Option<u64> {
        let file = if self.unified { "memory.max" } else { "memory.limit_in_bytes" };
        let place = self.place("memory")?;
        place
            .ancestors()
            .skip(1)
            .take_while(|dir| dir.starts_with(ROOT))
            .filter_map(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok())
            .min()
    }

    /// Whether memory and swap together can be limited here.
    pub(crate) fn limits_swap(&self) -> bool {
        let file = if self.unified { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        self.place("memory").is_some_and(|place| place.join(file).exists())
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.place(controller)?.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn keyed(&self, controller: &str, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.place(controller)?.join(file)).ok()?;
        keyed(&text, key)
    }
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A group can be busy for a moment after its last process was seen to end.
fn remove_patiently(dir: &Path) -> io::Result<()> {
    for _round in 0..100_u32 {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && looks_empty(dir) => {
                sys::pause(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(Errno::EBUSY))
}

fn looks_empty(dir: &Path) -> bool {
    let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let has_groups =
        fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()));
    processes.is_empty() && !has_groups
}

#[cfg(test)]
mod tests {
    //! Reading the kernel's files.

    use super::{KILL_MAX, Tree, keyed};

    #[test]
    fn a_key_is_not_found_inside_a_longer_one() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
    }

    #[test]
    fn an_absent_group_is_empty_and_uses_nothing() {
        let Ok(tree) = Tree::discover() else { return };
        let group = tree.group("/no-such-group-here");
        assert!(group.processes().is_empty());
        assert!(!group.was_out_of_memory());
        assert!(group.kill(KILL_MAX).is_ok() && group.remove().is_ok());
    }
}
