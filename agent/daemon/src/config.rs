//! The agent's settings: a file, environment variables above it, and defaults, each with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use mesh_coordinator::spec::{Bytes, Cpu, Reservation};
use serde::Deserialize;

/// The port of the API (TCP) and of gossip (UDP).
pub(crate) const PORT: u16 = 7420;

/// The settings as a file and the environment give them. All are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Where everything durable is kept: key, catalogue, images, containers. `/var/lib/agentmesh`.
    data_dir: Option<PathBuf>,
    /// Where everything of this boot is kept: sockets, mounts. `/run/agentmesh`.
    run_dir: Option<PathBuf>,
    /// The address and port of the API (TCP) and of gossip (UDP). `0.0.0.0:7420`.
    listen: Option<SocketAddr>,
    /// Where the other servers reach this one, HOST:PORT or HOST. What `init` or `join` was told, else the address of the
    /// interface of the default route.
    advertise: Option<String>,
    /// The bridge of the containers. `mesh0`.
    bridge: Option<String>,
    /// The addresses of the containers on this host. The same on every host: none leaves its host. `10.210.0.0/16`.
    container_range: Option<String>,
    /// Resolvers for containers. Those of the host that containers can reach.
    nameservers: Option<Vec<IpAddr>>,
    /// Cores for containers, such as 3.5. What the host has, less a share for itself.
    cpu: Option<f64>,
    /// Bytes of memory for containers. What the host has, less a share for itself.
    memory: Option<u64>,
    /// Whether this node holds no replicas, and only votes and witnesses. What `join` was told, else `false`.
    witness_only: Option<bool>,
    /// Which log lines are written: a level, or directives such as `info,mesh_gossip=debug`. `info`, and
    /// chitchat only its errors.
    log: Option<String>,
    /// Log lines as JSON. `false`.
    log_json: Option<bool>,
    /// Seconds that are added to the host's wall clock: for tests only. `0`.
    wall_clock_offset: Option<i64>,
}

/// The settings, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: Option<String>,
    pub(crate) bridge: String,
    pub(crate) container_range: String,
    pub(crate) nameservers: Vec<IpAddr>,
    pub(crate) capacity: Option<Reservation>,
    pub(crate) witness_only: Option<bool>,
    pub(crate) log: String,
    pub(crate) log_json: bool,
    pub(crate) wall_clock_offset_ms: i64,
}

/// Settings that make no sense, all of them.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct ConfigError(Vec<String>);

impl File {
    /// The file, if it is there, with the environment above it.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mut file: Self = toml::from_str(&text)
            .with_context(|| format!("{} is not understood", path.display()))?;
        file.merge_environment()?;
        Ok(file)
    }

    fn merge_environment(&mut self) -> anyhow::Result<()> {
        take(&mut self.data_dir, "MESH_DATA_DIR")?;
        take(&mut self.run_dir, "MESH_RUN_DIR")?;
        take(&mut self.listen, "MESH_LISTEN")?;
        take(&mut self.advertise, "MESH_ADVERTISE")?;
        take(&mut self.bridge, "MESH_BRIDGE")?;
        take(&mut self.container_range, "MESH_CONTAINER_RANGE")?;
        take(&mut self.cpu, "MESH_CPU")?;
        take(&mut self.memory, "MESH_MEMORY")?;
        take(&mut self.witness_only, "MESH_WITNESS_ONLY")?;
        take(&mut self.log, "MESH_LOG")?;
        take(&mut self.log_json, "MESH_LOG_JSON")?;
        take(&mut self.wall_clock_offset, "MESH_WALL_CLOCK_OFFSET")
    }
}

fn take<T: std::str::FromStr>(setting: &mut Option<T>, variable: &str) -> anyhow::Result<()>
where
    T::Err: std::fmt::Display,
{
    let Some(text) = std::env::var_os(variable) else { return Ok(()) };
    let text =
        text.into_string().map_err(|_not_text| anyhow::anyhow!("{variable} is not UTF-8"))?;
    let value = text.parse().map_err(|error| anyhow::anyhow!("{variable}={text:?}: {error}"))?;
    *setting = Some(value);
    Ok(())
}

impl TryFrom<File> for Config {
    type Error = ConfigError;

    fn try_from(file: File) -> Result<Self, Self::Error> {
        let mut problems = Vec::new();
        let listen = file.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)));
        if listen.port() == 0 {
            problems.push("listen: a fixed port is needed, such as 0.0.0.0:7420".to_owned());
        }
        let capacity = capacity(file.cpu, file.memory, &mut problems);
        let config = Self {
            data_dir: file.data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/agentmesh")),
            run_dir: file.run_dir.unwrap_or_else(|| PathBuf::from("/run/agentmesh")),
            listen,
            advertise: file.advertise,
            bridge: file.bridge.unwrap_or_else(|| "mesh0".to_owned()),
            container_range: file.container_range.unwrap_or_else(|| "10.210.0.0/16".to_owned()),
            nameservers: file.nameservers.unwrap_or_default(),
            capacity,
            witness_only: file.witness_only,
            log: file.log.unwrap_or_else(|| "info,chitchat=error".to_owned()),
            log_json: file.log_json.unwrap_or(false),
            wall_clock_offset_ms: file.wall_clock_offset.unwrap_or(0).saturating_mul(1_000),
        };
        for (name, dir) in [("data_dir", &config.data_dir), ("run_dir", &config.run_dir)] {
            if !dir.is_absolute() {
                problems.push(format!("{name}: {} is not an absolute path", dir.display()));
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

/// What the node has, when somebody said so: both amounts or none, since half a measurement would surprise.
fn capacity(
    cpu: Option<f64>,
    memory: Option<u64>,
    problems: &mut Vec<String>,
) -> Option<Reservation> {
    match (cpu, memory) {
        (None, None) => None,
        (Some(cores), Some(bytes)) => {
            let millis =
                std::time::Duration::try_from_secs_f64(cores).map(|cores| cores.as_millis());
            let Some(millis) = millis.ok().and_then(|millis| u64::try_from(millis).ok()) else {
                problems.push(format!("cpu: {cores} is not a number of cores"));
                return None;
            };
            Some(Reservation { cpu: Cpu { millis }, memory: Bytes(bytes) })
        }
        _ => {
            problems.push("cpu and memory: give both, or none to measure the host".to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests;
