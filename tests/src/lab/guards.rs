//! What stands between a host's containers and their leases' ends, as targets: shims, the guard of the host, a container's freezer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, process};

/// Where the kernel's control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

impl Host {
    /// The shim of a container; `None` when it has none that lives.
    #[must_use]
    pub fn shim(&self, container: &str) -> Option<i32> {
        let dir = self.data().join("containers").join(container);
        let state = fs::read_to_string(dir.join("state.json")).ok()?;
        let (_, rest) = state.split_once("\"shim\":{\"pid\":")?;
        let pid = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        // The number may be another process's by now.
        is_of(pid, &dir).then_some(pid)
    }

    /// All shims of this host.
    #[must_use]
    pub fn shims(&self) -> Vec<i32> {
        let entries = fs::read_dir(self.data().join("containers")).into_iter().flatten().flatten();
        entries.filter_map(|entry| self.shim(entry.file_name().to_str()?)).collect()
    }

    /// The guard of the host; `None` when there is none.
    #[must_use]
    pub fn guard(&self) -> Option<i32> {
        let dir = self.data().with_file_name("run/containers/.fences");
        process::all().find(|pid| is_of(*pid, &dir))
    }

    /// Freezes a container, or thaws it.
    ///
    /// # Errors
    /// When it has no control group any more.
    pub fn freeze(&self, container: &str, is_frozen: bool) -> Result<()> {
        let node = self.node().context("a host without a node has no containers")?;
        let below = PathBuf::from("agentmesh").join(node).join(container);
        let (file, words) = if Path::new(GROUPS).join("cgroup.controllers").exists() {
            (Path::new(GROUPS).join(below).join("cgroup.freeze"), ["0", "1"])
        } else {
            (
                Path::new(GROUPS).join("freezer").join(below).join("freezer.state"),
                ["THAWED", "FROZEN"],
            )
        };
        let [thawed, frozen] = words;
        fs::write(&file, if is_frozen { frozen } else { thawed })
            .with_context(|| format!("cannot write to {}", file.display()))
    }
}

/// Whether the process was started for this directory.
fn is_of(pid: i32, dir: &Path) -> bool {
    let dir = dir.to_string_lossy();
    let is_stopped_or_runs = !process::read(pid, "status").contains("State:\tZ");
    is_stopped_or_runs && process::read(pid, "cmdline").split('\0').any(|word| word == dir)
}

/// Sends a signal to processes that may have ended by now; whether it reached one.
pub(crate) fn signal_all(pids: impl IntoIterator<Item = i32>, signal: Signal) -> bool {
    pids.into_iter().fold(false, |hit, pid| kill(Pid::from_raw(pid), signal).is_ok() | hit)
}
