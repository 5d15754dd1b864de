//! Removing a lab by its name, and looking for what is left of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, umount2};

use super::{process, shell};

/// Where namespaces have names.
const NAMESPACES: &str = "/run/netns";
/// Where the kernel's control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where a lab of this name keeps its files.
pub(crate) fn dir_of(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("mesh-lab-{name}"))
}

/// Removes a lab, whoever made it: processes, mounts, control groups, namespaces, files.
pub fn clean(name: &str) {
    let dir = dir_of(name);
    super::clock::restore_of(&dir);
    super::disk::thaw_below(&dir);
    let nodes = nodes_of(&dir);
    let (Ok(()) | Err(_)) = process::kill_until_none(|| {
        let mut pids = process::working_in(&dir);
        pids.extend(nodes.iter().flat_map(|node| process::of_node(node)));
        pids.extend(process::in_group(&format!("/{name}/")));
        pids
    });
    let (Ok(()) | Err(_)) = unmount_below(&dir);
    remove_groups_below(name);
    for node in &nodes {
        remove_groups(node);
    }
    for namespace in namespaces(name) {
        shell::attempt("ip", &["netns", "del", &namespace]);
    }
    let (Ok(()) | Err(_)) = fs::remove_dir_all(&dir);
}

/// Labs whose makers are dead and could not clean up: their names.
#[must_use]
pub fn of_dead_makers() -> Vec<String> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().to_str()?.strip_prefix("mesh-lab-mt")?.to_owned();
        let (pid, _) = name.split_once('x')?;
        let is_dead = !Path::new("/proc").join(pid).exists();
        is_dead.then(|| format!("mt{name}"))
    });
    names.collect()
}

/// What is left of a lab on this machine.
///
/// # Errors
/// When the machine cannot be looked at.
pub fn left_behind(name: &str) -> Result<Vec<String>> {
    let dir = dir_of(name);
    let mut left: Vec<String> =
        namespaces(name).into_iter().map(|name| format!("namespace {name}")).collect();
    left.extend(mounts_below(&dir)?.into_iter().map(|at| format!("mount {at}")));
    left.extend(process::working_in(&dir).into_iter().map(|pid| format!("process {pid}")));
    let groups = groups_below(name);
    left.extend(groups.iter().map(|group| format!("control group {}", group.display())));
    if dir.exists() {
        left.push(format!("directory {}", dir.display()));
    }
    Ok(left)
}

fn namespaces(lab: &str) -> Vec<String> {
    let prefix = format!("{lab}-");
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

/// The nodes whose agents wrote their logs below a lab's directory.
pub(super) fn nodes_of(dir: &Path) -> Vec<String> {
    let hosts = fs::read_dir(dir).into_iter().flatten().flatten();
    hosts.filter_map(|host| node_of(&host.path())).collect()
}

/// The node that a host has been last.
pub(super) fn node_of(host: &Path) -> Option<String> {
    let log = fs::read_to_string(host.join("agent.log")).ok()?;
    let line = log.lines().rev().find(|line| line.contains("starting node="))?;
    let id = line.split_once("node=")?.1.split_whitespace().next()?;
    Some(id.to_owned())
}

/// Where something is mounted below a directory, the last one first.
pub(super) fn mounts_below(dir: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot list mounts")?;
    let below = format!("{}/", dir.display());
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<String> =
        points.filter(|point| point.starts_with(&below)).map(str::to_owned).collect();
    points.reverse();
    Ok(points)
}

pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    for point in mounts_below(dir)? {
        umount2(point.as_str(), MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {point}"))?;
    }
    Ok(())
}

/// The control groups of a node, in every hierarchy, the inner ones first.
pub(super) fn groups(node: &str) -> Vec<PathBuf> {
    groups_below(&format!("agentmesh/{node}"))
}

/// The control groups at a place and below it, in every hierarchy, the inner ones first. What is not an agent has its
/// control groups below the lab's name.
fn groups_below(place: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        let top = hierarchy.join(place);
        if top.is_dir() {
            walk(&top, &mut found);
        }
    }
    found
}

/// Version 1 has one below for each controller, version 2 is the one.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let below = fs::read_dir(GROUPS).into_iter().flatten().flatten().map(|one| one.path());
    below.chain([PathBuf::from(GROUPS)])
}

fn walk(group: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
    found.push(group.to_owned());
}

fn remove_groups_below(place: &str) {
    // A group of version 1 may be in use for a moment after its last process has ended.
    for _ in 0..100 {
        let left = groups_below(place);
        if left.is_empty() {
            break;
        }
        for group in left {
            let (Ok(()) | Err(_)) = fs::remove_dir(&group);
        }
        super::pause(std::time::Duration::from_millis(5));
    }
}

pub(super) fn remove_groups(node: &str) {
    remove_groups_below(&format!("agentmesh/{node}"));
    // The last node takes the group of all nodes along; for the others the kernel refuses.
    for hierarchy in hierarchies() {
        let (Ok(()) | Err(_)) = fs::remove_dir(hierarchy.join("agentmesh"));
    }
}
