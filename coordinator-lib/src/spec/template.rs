//! What defines a container.

use std::collections::BTreeMap;
use std::time::Duration;

use super::resource::{Bytes, Cpu};

/// The image that a container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// The name as the manifest wrote it, for people.
    pub name: String,
    /// The digest of the image's manifest, `sha256:` and 64 hexadecimal digits: what really runs.
    pub digest: String,
}

/// What defines a container. Any change makes a new revision of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The image.
    pub image: ImageRef,
    /// Replaces the image's entry point; `None` keeps it, an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; `None` keeps it unless `entrypoint` is given, which clears it.
    pub command: Option<Vec<String>>,
    /// Environment variables, added to the image's.
    pub environment: BTreeMap<String, String>,
    /// Where the process starts; `None` is the image's choice.
    pub working_dir: Option<String>,
    /// Who runs the process, `user[:group]` by name or number; `None` is the image's choice.
    pub user: Option<String>,
    /// The container's host name; `None` is `<service>-<index>`.
    pub hostname: Option<String>,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// When to start the process again after it ended.
    pub restart: RestartPolicy,
    /// How to know that the replica is ready; `None` is as soon as it runs.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that asks the process to stop.
    pub stop_signal: StopSignal,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
    /// The most it may use.
    pub limits: Limits,
}

/// A signal by its Linux number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopSignal(u8);

impl StopSignal {
    /// SIGTERM, the default.
    pub const TERM: Self = Self(15);

    /// The signal of this number, if Linux has one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if number >= 1 && number <= 64 { Some(Self(number)) } else { None }
    }

    /// The number of the signal.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// When to start a process again after it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always: the default of a mesh, whose job is to keep things running.
    Always,
    /// Never; a replica that ended stays ended.
    Never,
    /// After a failure (an exit code other than zero, or a signal), at most so many times; `None` is without end.
    OnFailure {
        /// The most restarts in a row.
        attempts_max: Option<u32>,
    },
}

/// What a health check runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthTest {
    /// A program with its arguments, run in the container.
    Exec(Vec<String>),
    /// A line for the container's `/bin/sh`.
    Shell(String),
}

/// How to know whether a replica works: Compose's `healthcheck`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What to run; success is exit code 0.
    pub test: HealthTest,
    /// The pause between two runs.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
    /// So many failures in a row make the replica unhealthy; at least 1.
    pub retries: u32,
    /// Failures this early do not count.
    pub start_period: Duration,
    /// The pause between two runs during `start_period`.
    pub start_interval: Duration,
}

/// The most that a container may use; `None` is no limit of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory; beyond it the kernel kills a process of the container.
    pub memory: Option<Bytes>,
    /// Processes and threads.
    pub pids: Option<u32>,
}
