//! The driver that needs nothing installed: a shim per container, and the files that it keeps.
//!
//! The driver holds no truth of its own. Whether a container runs is asked of its files and its shim each time, so a new driver
//! (after a crash, a restart or an upgrade of the agent) sees what the old one saw. In memory there is only which operation
//! holds which container, and whether an end was asked for.
//!
//! * **start** writes the plan, starts the shim ([`crate::shim`]) and waits for its one line.
//! * **an end** is seen by the shim's pidfd. A shim that ended without saying how was killed; whatever it left is killed too.
//! * **stop** signals the first process, waits, and kills the cgroup. What runs by a lease and survives that is cut off, see
//!   [`clear`].
//! * **extend** writes into a file that the shim and the host guard read; both go by it whether the agent is there or not.
//! * **exec** and **probe** are another process each, held on a leash.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_coordinator::lease::exclusive::Fence;
use mesh_coordinator::spec::{HealthTest, Reservation, StopSignal};
use mesh_ports::clock::LeaseClock as _;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{
    Container, ContainerError, ContainerId, Event, Events, Exec, ExecStreams, Found, Health,
    ImageError, LogLine, LogQuery, Running, Runtime, StartError, Usage,
};
use mesh_telemetry::{Chain, Tasks};
use tokio::sync::{RwLock, mpsc};
use tracing::warn;

use self::place::{Place, Status};
use crate::capacity;
use crate::cgroup::{Group, Tree};
use crate::clock::SteadyClock;
use crate::image::{Rootfs, Store};
use crate::process::boot_id;
use crate::record::LogLimits;

mod adopt;
mod clear;
mod end;
mod exec;
mod fence;
mod guard;
mod logs;
mod place;
mod pty;
mod start;

/// Ends that the engine has not taken yet. One for every container of a large node; then the watchers wait.
const EVENTS_LEN: usize = 256;

/// Settings of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Durable directories of containers: their files and logs. On a file system that overlayfs can write to. The program in
    /// which shims wait is put beside it.
    pub root: PathBuf,
    /// Directories of this boot (mounts, namespaces); best below `/run`.
    pub run: PathBuf,
    /// The cgroup for all containers of this node, absolute, such as `/mesh/<node>`; made and removed by the driver.
    pub cgroup_parent: String,
    /// The program and first arguments that lead to [`crate::shim_main`], such as `/proc/self/exe shim`; not empty.
    pub shim: Vec<OsString>,
    /// What the node has for containers; `None` measures the host and keeps a share for it.
    pub capacity: Option<Reservation>,
    /// How much output of each container is kept.
    pub log: LogLimits,
    /// How long a shim may take to start a container. What it has started by then is ended; [`Config::START_MAX`] is enough everywhere.
    pub start_max: Duration,
    /// Resolvers for containers; empty gives them the host's that they can reach.
    pub nameservers: Vec<IpAddr>,
}

impl Config {
    /// A hundred times what a start takes on a loaded host.
    pub const START_MAX: Duration = Duration::from_secs(60);
}

impl LogLimits {
    /// Three files of 10 MiB: hours of a talkative program, and a bounded share of the disk.
    pub const DEFAULT: Self = Self { bytes_max: 10 << 20, files_max: 3 };
}

/// Where root file systems come from: the image store, or what a test has made by hand.
pub trait Images: fmt::Debug + Send + Sync + 'static {
    /// The layers and the configuration of the image with this digest. Blocks.
    ///
    /// # Errors
    /// [`ImageError::Missing`] when it is not on this node; others when it cannot be used.
    fn rootfs_of(&self, digest: &str) -> Result<Rootfs, ImageError>;
}

impl Images for Store {
    fn rootfs_of(&self, digest: &str) -> Result<Rootfs, ImageError> {
        self.rootfs(digest)
    }
}

/// Why the driver cannot work. *Containers that run are left alone.*
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be made or read.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// There are no cgroups to use.
    #[error("cannot make the cgroup {path}")]
    Cgroup {
        /// Which one.
        path: String,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The settings make no sense.
    #[error("{0}")]
    Config(&'static str),
}

/// Containers by an embedded runtime. Cheap to clone; clones are the same driver.
#[derive(Debug)]
pub struct Driver<N> {
    inner: Arc<Inner<N>>,
}

impl<N> Clone for Driver<N> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
struct Inner<N> {
    config: Config,
    network: N,
    images: Arc<dyn Images>,
    tasks: Tasks,
    events: mpsc::Sender<Event>,
    tree: Tree,
    /// `config.cgroup_parent` below the place where we may make groups.
    cgroup_parent: String,
    boot: String,
    clock: SteadyClock,
    /// The program in which shims wait; `None` when it cannot be written.
    keeper: Option<PathBuf>,
    slots: Mutex<HashMap<ContainerId, Arc<Slot>>>,
    /// Written while empty groups above the containers' are removed, read while a shim makes them.
    cgroups: RwLock<()>,
    commands: AtomicU64,
}

/// What is held of a container in memory.
#[derive(Debug, Default)]
struct Slot {
    /// One operation at a time changes a container.
    operation: tokio::sync::Mutex<()>,
    /// Whether the end of the present run was asked for; each run has its own flag, held by its watcher too.
    asked: Mutex<Arc<AtomicBool>>,
}

impl Slot {
    fn ask(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).store(true, Ordering::SeqCst);
    }

    fn next_run(&self) -> Arc<AtomicBool> {
        let asked = Arc::new(AtomicBool::new(false));
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&asked);
        asked
    }
}

impl<N: ContainerNetwork> Driver<N> {
    /// Opens the driver and takes over the containers that an earlier life of the agent started. Its tasks run in `tasks`;
    /// stopping them leaves the containers alone.
    ///
    /// # Errors
    /// When the directories or the cgroups cannot be used; [`crate::doctor::examine`] says what to do.
    pub async fn open(
        config: Config,
        network: N,
        images: Arc<dyn Images>,
        tasks: Tasks,
    ) -> Result<(Self, Events), OpenError> {
        let (events, receiver) = mpsc::channel(EVENTS_LEN);
        let config = prepare(config)?;
        let cgroup = |source| OpenError::Cgroup { path: config.cgroup_parent.clone(), source };
        let tree = Tree::discover().map_err(cgroup)?;
        let base = tree.base(&config.cgroup_parent).map_err(cgroup)?;
        let boot = boot_id().map_err(cgroup)?;
        let clock = SteadyClock::of_this_boot().map_err(cgroup)?;
        let cgroup_parent = format!("{base}{}", config.cgroup_parent);
        let keeper = keeper(&config);
        let inner = Inner {
            config,
            network,
            images,
            tasks,
            events,
            tree,
            cgroup_parent,
            boot,
            clock,
            keeper,
            slots: Mutex::default(),
            cgroups: RwLock::default(),
            commands: AtomicU64::new(0),
        };
        let driver = Self { inner: Arc::new(inner) };
        adopt::all(&driver).await?;
        Ok((driver, receiver))
    }

    fn place(&self, id: &ContainerId) -> Place {
        Place::new(&self.inner.config, id)
    }

    fn slot(&self, id: &ContainerId) -> Arc<Slot> {
        let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id.clone()).or_default())
    }

    fn group(&self, id: &ContainerId) -> Group {
        self.inner.tree.group(&self.cgroup(id))
    }

    fn cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.inner.cgroup_parent)
    }

    /// That a container has as many processes as it may have, which explains much; `None` when it has not.
    async fn crowd(&self, id: &ContainerId) -> Option<String> {
        let group = self.group(id);
        let crowd = blocking(move || Ok(group.crowd())).await.ok()?;
        crowd.map(|limit| format!("it has reached its limit of {limit} processes"))
    }

    /// The number of this boot, as guards know it.
    fn boot(&self) -> u128 {
        self.inner.clock.boot().0
    }

    async fn status(&self, id: &ContainerId) -> io::Result<Status> {
        let (place, boot) = (self.place(id), self.inner.boot.clone());
        blocking(move || place.status(&boot)).await
    }
}

fn prepare(mut config: Config) -> Result<Config, OpenError> {
    if config.shim.is_empty() {
        return Err(OpenError::Config("the command that starts a shim is empty"));
    }
    if !config.cgroup_parent.starts_with('/') || config.cgroup_parent.len() < 2 {
        return Err(OpenError::Config("the cgroup for containers must be an absolute path"));
    }
    config.root = usable(&config.root)?;
    config.run = usable(&config.run)?;
    Ok(config)
}

/// Puts the program in which shims wait beside the containers.
fn keeper(config: &Config) -> Option<PathBuf> {
    let dir = config.root.parent()?;
    let installed = crate::shim::install(dir);
    installed
        .map_err(|error| {
            // A full disk, say: shims are larger without it, and do the same.
            warn!(error = %Chain(&error), "the program of shims cannot be written");
        })
        .ok()
}

/// Makes a directory that only root can look into, and returns its path without links.
fn usable(path: &Path) -> Result<PathBuf, OpenError> {
    use std::os::unix::fs::DirBuilderExt as _;

    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| path.canonicalize())
        .map_err(|source| OpenError::Directory { path: path.to_path_buf(), source })
}

/// Runs blocking work off the workers; a panic in it is an error like others.
async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn host(
    attempt: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ContainerError {
    ContainerError::Host { attempt, source: source.into() }
}

impl<N: ContainerNetwork> Runtime for Driver<N> {
    fn capacity(&self) -> Reservation {
        let measured = || capacity::measure(&self.inner.tree.group(&self.inner.cgroup_parent));
        self.inner.config.capacity.unwrap_or_else(measured)
    }

    async fn list(&self) -> Vec<Found> {
        adopt::list(self).await
    }

    async fn start(&self, container: &Container) -> Result<Running, StartError> {
        start::start(self, container).await
    }

    async fn extend(&self, id: &ContainerId, fence: Fence) -> Result<(), ContainerError> {
        fence::extend(self, id, fence).await
    }

    async fn stop(
        &self,
        id: &ContainerId,
        signal: StopSignal,
        grace: Duration,
    ) -> Result<(), ContainerError> {
        end::stop(self, id, signal, grace).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        end::remove(self, id).await
    }

    async fn probe(&self, id: &ContainerId, test: &HealthTest, timeout: Duration) -> Health {
        let health = exec::probe(self, id, test, timeout).await;
        let crowd = if health == Health::Passed { None } else { self.crowd(id).await };
        match (health, crowd) {
            (Health::Failed(why), Some(crowd)) => Health::Failed(format!("{crowd}: {why}")),
            (Health::TimedOut, Some(crowd)) => Health::Failed(format!("{crowd}: no answer")),
            (health, _) => health,
        }
    }

    async fn exec(&self, id: &ContainerId, exec: Exec) -> Result<ExecStreams, ContainerError> {
        exec::exec(self, id, exec).await
    }

    async fn logs(
        &self,
        id: &ContainerId,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ContainerError> {
        logs::read(self, id, query).await
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage, ContainerError> {
        let status = self.status(id).await;
        match status.map_err(|error| host(format!("look at the container {id}"), error))? {
            Status::Running(_) => {}
            Status::Absent => return Err(ContainerError::Unknown(id.clone())),
            Status::Ended(_) | Status::Lost => {
                return Err(ContainerError::NotRunning(id.clone()));
            }
        }
        let group = self.group(id);
        blocking(move || Ok(group.usage()))
            .await
            .map_err(|error| host(format!("measure the container {id}"), error))
    }
}
