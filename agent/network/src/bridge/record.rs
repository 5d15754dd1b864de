//! What the bridge attached, one small file for each container, for the agent's next life.
//!
//! The kernel knows the interfaces and the rules, but not where the namespace is mounted and which ports were asked for. A record
//! is written before the first thing that it describes is made, and removed after the last one is gone.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mesh_coordinator::spec::Protocol;
use mesh_ports::network::HostPort;
use serde::{Deserialize, Serialize};

use super::step::StepError;

/// One attached container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The container.
    pub(super) container: String,
    /// Its address.
    pub(super) address: Ipv4Addr,
    /// Where its namespace is mounted. None for a container that was adopted without a record.
    pub(super) namespace: Option<PathBuf>,
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    host: u16,
    container: u16,
    protocol: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transport {
    Tcp,
    Udp,
}

impl Record {
    /// The record of a container.
    pub(super) fn new(
        container: String,
        address: Ipv4Addr,
        namespace: Option<PathBuf>,
        ports: &[HostPort],
    ) -> Self {
        let ports = ports.iter().map(|port| Port {
            host: port.host,
            container: port.container,
            protocol: match port.protocol {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
            },
        });
        Self { container, address, namespace, ports: ports.collect() }
    }

    /// The host ports that lead to it.
    pub(super) fn ports(&self) -> Vec<HostPort> {
        let port = |port: &Port| HostPort {
            host: port.host,
            container: port.container,
            protocol: match port.protocol {
                Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
            },
        };
        self.ports.iter().map(port).collect()
    }
}

/// Where the record of the container behind the interface `port` is.
fn file(dir: &Path, port: &str) -> PathBuf {
    dir.join(format!("{port}.json"))
}

/// Writes the record of the container behind the interface `port`.
pub(super) fn store(dir: &Path, port: &str, record: &Record) -> Result<(), StepError> {
    let path = file(dir, port);
    let attempt = || format!("write {}", path.display());
    let text = serde_json::to_vec(record).map_err(|error| StepError::refused(attempt(), error))?;
    let draft = dir.join(format!("{port}.draft"));
    // Not synced: a power cut takes away what the record describes, too.
    let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
    written.map_err(|error| StepError::refused(attempt(), error))
}

/// Removes a record; fine when there is none.
pub(super) fn forget(dir: &Path, port: &str) -> Result<(), StepError> {
    let path = file(dir, port);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StepError::refused(format!("remove {}", path.display()), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// All records, each with the name of the interface. One that cannot be read (a full disk, another version) is removed: what it
/// described is then found by the sweep.
pub(super) fn load(dir: &Path) -> Result<Vec<(String, Record)>, StepError> {
    let refused = |error: io::Error| StepError::refused(format!("read {}", dir.display()), error);
    fs::create_dir_all(dir).map_err(refused)?;
    let mut records = Vec::new();
    for entry in fs::read_dir(dir).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let text = fs::read(&path).map_err(refused)?;
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(record) if path.extension().is_some_and(|kind| kind == "json") => {
                records.push((name.to_owned(), record));
            }
            Ok(_) | Err(_) => {
                tracing::warn!(path = %path.display(), "removed an unreadable record of the bridge");
                fs::remove_file(&path).map_err(refused)?;
            }
        }
    }
    Ok(records)
}
