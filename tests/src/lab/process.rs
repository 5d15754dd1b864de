//! Processes as the kernel knows them: what runs is asked of it and not of the agents.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::{Deadline, pause};

/// A container's first process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// The container's id.
    pub id: String,
    /// Its process.
    pub pid: i32,
    /// When that began, in the kernel's ticks: with the pid it is this process and no other.
    pub started: u64,
}

/// What tells a process that is neither an agent nor agentctl that it works below a directory of a lab.
pub(crate) const DIR_VARIABLE: &str = "MESH_LAB_DIR";

/// Where the groups of containers are listed: the first is there on version 1 only.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
/// The group of the shims, beside those of the containers.
const SHIMS: &str = "shims";

/// All processes that there are.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(crate) fn read(pid: i32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Processes in control groups whose path holds a text.
pub(crate) fn in_group(path: &str) -> Vec<i32> {
    all().filter(|pid| read(*pid, "cgroup").contains(path)).collect()
}

/// Processes in the control groups of a node.
pub(crate) fn of_node(node: &str) -> Vec<i32> {
    in_group(&format!("/agentmesh/{node}/"))
}

/// Agents, shims, agentctls, and whatever else is told so in its environment, that work in a lab's directory; not whoever looks at its files.
pub(crate) fn working_in(dir: &Path) -> Vec<i32> {
    let dir = format!("{}/", dir.display());
    let told = ["MESH_DATA_DIR", "AGENTCTL_CONFIG", DIR_VARIABLE]
        .map(|variable| format!("{variable}={dir}"));
    let works = |pid: &i32| {
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        let is_ours = program.is_ok_and(|program| program.starts_with(&dir));
        let environment = read(*pid, "environ");
        is_ours || environment.split('\0').any(|one| told.iter().any(|told| one.starts_with(told)))
    };
    all().filter(works).collect()
}

/// The containers of a node.
pub(crate) fn containers(node: &str) -> Vec<Container> {
    let mut found: Vec<Container> =
        contained(node).filter_map(|pid| container(node, pid)).collect();
    found.sort();
    found
}

/// The processes in the groups of a node's containers, as one hierarchy lists its members: many labs that look all the time have no
/// time to ask every process of the machine. On version 1 every container is in that of memory, whatever limits it has.
fn contained(node: &str) -> impl Iterator<Item = i32> {
    let below = format!("agentmesh/{node}");
    let mut places = HIERARCHIES.iter().map(|hierarchy| Path::new(hierarchy).join(&below));
    let place = places.find(|place| place.is_dir()).unwrap_or_default();
    let groups = fs::read_dir(place).into_iter().flatten().flatten();
    let groups = groups.filter(|group| group.file_name() != SHIMS);
    groups.flat_map(|group| {
        let members = fs::read_to_string(group.path().join("cgroup.procs")).unwrap_or_default();
        members.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>()
    })
}

fn container(node: &str, pid: i32) -> Option<Container> {
    let group = format!("/agentmesh/{node}/");
    let groups = read(pid, "cgroup");
    let mut ids = groups.lines().filter_map(|line| line.split_once(&group)).map(|(_, id)| id);
    // On version 1 the hierarchies without limits have it among the shims.
    let id = ids.find(|id| *id != SHIMS)?.to_owned();
    let started = started_as_first(pid)?;
    Some(Container { id, pid, started })
}

/// When a process began, in the kernel's ticks since boot, if it is the first one of a process namespace just below ours.
pub(crate) fn started_as_first(pid: i32) -> Option<u64> {
    let status = read(pid, "status");
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    if inner.split_whitespace().nth(1) != Some("1") || status.contains("State:\tZ") {
        return None;
    }
    let stat = read(pid, "stat");
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Kills processes until there are none; `list` finds them anew each time, since one may have begun another.
pub(crate) fn kill_until_none(list: impl Fn() -> Vec<i32>) -> Result<()> {
    let deadline = Deadline::after(std::time::Duration::from_secs(10));
    loop {
        let alive: Vec<i32> =
            list().into_iter().filter(|pid| !read(*pid, "status").contains("State:\tZ")).collect();
        if alive.is_empty() {
            return Ok(());
        }
        ensure!(!deadline.is_over(), "processes do not die: {alive:?}");
        for pid in alive {
            let (Ok(()) | Err(_)) = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        pause(std::time::Duration::from_millis(5));
    }
}
