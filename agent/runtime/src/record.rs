//! What is on disk for each container, and the only interface between an agent and its shims.
//!
//! ```text
//! <root>/<id>/record.json   whose container it is                written by the driver before anything else is made
//! <root>/<id>/plan.json     what the next run is made from       written by the driver, read by the shim and by exec
//! <root>/<id>/state.json    which processes the run consists of  written by the shim before the program starts
//! <root>/<id>/exit.json     how the run ended                    written by the shim as its last act
//! <root>/<id>/shim.log      what the shim could not do
//! <root>/<id>/{upper,work}  the container's own files, kept from run to run
//! <root>/<id>/log/          its output
//! <root>/../agent-shim-*    the program in which shims wait, see `shim/keeper.rs`
//! <run>/<id>/               mounts, the network namespace, sockets and commands of this boot
//! <run>/.fences/            of runs by a lease: what their guards are told, and the host guard's heartbeat, lock and log
//! ```
//!
//! An agent of another version than the shim's reads `record`, `state` and `exit`, so these only ever gain fields; [`VERSION`]
//! rises when a reader must not trust what it knows. There is no socket between the two: the end of a shim is seen by its
//! pidfd, and everything else is done to the container's cgroup, so a new agent needs nothing from an old shim but these files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use mesh_coordinator::id::{AppUid, NodeId, Revision, SlotId, SlotIndex};
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::time::WallTime;
use mesh_ports::runtime::{Exit, Running, Tag};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// The version of these files.
pub(crate) const VERSION: u32 = 1;

/// Whose container it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) tag: StoredTag,
}

/// A [`Tag`] in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredTag {
    app: String,
    service: String,
    index: StoredIndex,
    revision_number: u64,
    revision_id: u64,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredIndex {
    Number(u32),
    Node(String),
}

impl StoredTag {
    /// Puts it into words.
    pub(crate) fn of(tag: &Tag) -> Self {
        Self {
            app: tag.slot.app.to_string(),
            service: tag.slot.service.to_string(),
            index: match tag.slot.index {
                SlotIndex::Number(number) => StoredIndex::Number(number),
                SlotIndex::Node(node) => StoredIndex::Node(node.to_string()),
            },
            revision_number: tag.revision.number,
            revision_id: tag.revision.id,
            name: tag.name.clone(),
        }
    }

    /// What the words mean; `None` when they mean nothing.
    pub(crate) fn read(&self) -> Option<Tag> {
        let app: AppUid = self.app.parse().ok()?;
        let service: ServiceName = self.service.parse().ok()?;
        let index = match &self.index {
            StoredIndex::Number(number) => SlotIndex::Number(*number),
            StoredIndex::Node(node) => SlotIndex::Node(node.parse::<NodeId>().ok()?),
        };
        Some(Tag {
            slot: SlotId { app, service, index },
            revision: Revision { number: self.revision_number, id: self.revision_id },
            name: self.name.clone(),
        })
    }
}

/// What a run is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) version: u32,
    /// The directory of this boot.
    pub(crate) run: PathBuf,
    /// The network namespace, bound to this file.
    pub(crate) network: PathBuf,
    pub(crate) address: Ipv4Addr,
    /// The image, topmost first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) program: Program,
    pub(crate) hostname: String,
    /// Resolvers to write into `resolv.conf`; empty takes the host's.
    pub(crate) nameservers: Vec<IpAddr>,
    /// The cgroup above the container's, as seen in every hierarchy.
    pub(crate) cgroup_parent: String,
    /// The container's cgroup.
    pub(crate) cgroup: String,
    pub(crate) limits: StoredLimits,
    pub(crate) log: LogLimits,
    /// The program in which the shim waits; `None` when there is none, and it waits as it is.
    #[serde(default)]
    pub(crate) keeper: Option<PathBuf>,
    /// By what the shim guards the run; `None` runs without a lease.
    #[serde(default)]
    pub(crate) fence: Option<Fenced>,
}

/// What a shim needs to be the guard of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fenced {
    /// The run's file, see `shim/keeper/fence.rs`.
    pub(crate) file: PathBuf,
    /// The directory of what the workload is told, which it sees as `/run/mesh`.
    pub(crate) lease: PathBuf,
    /// The signal that asks it to stop.
    pub(crate) signal: u8,
}

/// What to run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) args: Vec<String>,
    /// Each `NAME=value`, no name twice.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    /// `user[:group]`; empty is root.
    pub(crate) user: String,
}

/// Limits; `None` is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLimits {
    pub(crate) cpu_millis: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) pids: Option<u32>,
}

/// How much of a container's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// The largest size of one file, in bytes.
    pub bytes_max: u64,
    /// The most files; at least 1.
    pub files_max: u32,
}

/// Which processes a run consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u32,
    /// The boot of the host in which these processes run.
    pub(crate) boot: String,
    pub(crate) shim: Process,
    pub(crate) init: Process,
    pub(crate) started_ms: u64,
    pub(crate) address: Ipv4Addr,
    pub(crate) cgroup: String,
}

impl State {
    /// The same for the port.
    pub(crate) const fn running(&self) -> Running {
        Running { pid: self.init.pid, address: self.address, started: WallTime(self.started_ms) }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredExit {
    pub(crate) version: u32,
    pub(crate) code: i32,
    pub(crate) signal: Option<u8>,
    pub(crate) oom: bool,
    pub(crate) ended_ms: u64,
}

impl StoredExit {
    /// The same for the port.
    pub(crate) const fn exit(&self) -> Exit {
        Exit { code: self.code, signal: self.signal, oom: self.oom, ended: WallTime(self.ended_ms) }
    }
}

/// What a shim answers on its standard output, once, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The program runs.
    Started(State),
    /// The image or the host does not have what the plan asks for.
    Invalid(String),
    /// The host could not do it now.
    Host(String),
    /// Its lease ended before its program was run.
    Lapsed,
}

/// A command to run in a container, in `exec.json` of a directory of its own below the container's directory of this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) version: u32,
    /// The container's durable directory.
    pub(crate) container: PathBuf,
    pub(crate) args: Vec<String>,
    /// Each `NAME=value`; these win over the container's.
    pub(crate) env: Vec<String>,
    /// `None` is the container's.
    pub(crate) user: Option<String>,
    /// `None` is the container's.
    pub(crate) working_dir: Option<String>,
    /// Whether its streams are a terminal.
    #[serde(default)]
    pub(crate) terminal: bool,
}

/// The names of the files.
pub(crate) mod file {
    pub(crate) const RECORD: &str = "record.json";
    pub(crate) const PLAN: &str = "plan.json";
    pub(crate) const STATE: &str = "state.json";
    pub(crate) const EXIT: &str = "exit.json";
    pub(crate) const SHIM_LOG: &str = "shim.log";
    pub(crate) const LOCK: &str = "lock";
    pub(crate) const UPPER: &str = "upper";
    pub(crate) const WORK: &str = "work";
    pub(crate) const LOGS: &str = "log";
    pub(crate) const MERGED: &str = "rootfs";
    pub(crate) const BUNDLE: &str = "bundle";
    pub(crate) const OCI: &str = "oci";
    pub(crate) const NETWORK: &str = "network";
    pub(crate) const EXEC: &str = "exec.json";
    /// The prefix of directories of commands.
    pub(crate) const EXEC_DIR: &str = "exec-";
    pub(crate) const LEASH: &str = "leash";
    pub(crate) const LEASE: &str = "lease";
}

/// The name under which libcontainer knows every container, each in a directory of its own.
pub(crate) const OCI_ID: &str = "container";

/// Writes a file so that even after a power cut it is there whole or not at all.
pub(crate) fn write_durably<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    write_as(dir, name, value, true)
}

/// Writes a file that is of use to this boot only: whoever reads it sees it whole or not at all, and a power cut may empty it.
pub(crate) fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    write_as(dir, name, value, false)
}

fn write_as<T: Serialize>(dir: &Path, name: &str, value: &T, durably: bool) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    if durably {
        file.sync_all()?;
    }
    fs::rename(&temporary, dir.join(name))?;
    if durably { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Reads a file; `None` when it is not there, or empty after a power cut.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; fine when it is not there.
pub(crate) fn forget(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Milliseconds since the Unix epoch, for records that people read.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    //! The files keep what was put into them.

    use mesh_coordinator::id::{AppUid, PublicKey};
    use mesh_coordinator::id::{NodeId, Revision, SlotId, SlotIndex};
    use mesh_ports::runtime::Tag;

    use super::{Record, StoredTag, VERSION, file};

    #[test]
    fn a_tag_comes_back_as_it_was() {
        let indices = [SlotIndex::Number(3), SlotIndex::Node(NodeId::of(&PublicKey([7; 32])))];
        for index in indices {
            let slot =
                SlotId { app: AppUid([9; 16]), service: "web".parse().expect("a name"), index };
            let revision = Revision { number: 4, id: u64::MAX };
            let tag = Tag { slot, revision, name: "shop/web/3".to_owned() };
            let dir = tempfile::tempdir().expect("a directory");
            let record = Record { version: VERSION, tag: StoredTag::of(&tag) };
            super::write_durably(dir.path(), file::RECORD, &record).expect("written");
            let found: Record =
                super::read(dir.path(), file::RECORD).expect("read").expect("there");
            assert_eq!(found.tag.read(), Some(tag));
        }
    }

    #[test]
    fn a_field_of_a_later_version_does_not_hide_a_run() {
        let text =
            r#"{"version":1,"code":3,"signal":null,"oom":false,"ended_ms":5,"later":{"x":1}}"#;
        let exit: super::StoredExit = serde_json::from_str(text).expect("read");
        assert_eq!(exit.exit().code, 3);
    }
}
