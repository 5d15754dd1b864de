//! Containers and images.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use mesh_coordinator::id::{Revision, SlotId};
use mesh_coordinator::lease::exclusive::{Fence, Token};
use mesh_coordinator::spec::{HealthTest, Reservation, StopSignal, Template};
use mesh_coordinator::time::WallTime;
use tokio::sync::mpsc;

use crate::network::HostPort;

/// The name of a container on its node: letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// A container to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name; starting the same name again starts the same container again, on the same file system.
    pub id: ContainerId,
    /// Whose replica it is; stored with the container and found again by [`Runtime::list`].
    pub tag: Tag,
    /// What defines it.
    pub template: Template,
    /// More environment variables (`MESH_APP`, `PORT`, …), which win over the template's.
    pub environment: BTreeMap<String, String>,
    /// The host name in the container.
    pub hostname: String,
    /// Ports of the host that lead straight to it.
    pub ports: Vec<HostPort>,
    /// When it ends, if [`Runtime::extend`] says nothing later; `None` runs without a lease.
    pub fence: Option<Fence>,
}

/// Whose replica a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Which slot.
    pub slot: SlotId,
    /// Which definition.
    pub revision: Revision,
    /// The slot as people write it, `app/service/index`.
    pub name: String,
}

/// A running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The process id of its first process, as the host sees it.
    pub pid: u32,
    /// Its address on the host's bridge.
    pub address: Ipv4Addr,
    /// When it was started.
    pub started: WallTime,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 plus the signal's number when a signal ended it, as shells say it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<u8>,
    /// True when the kernel killed a process of it for want of memory.
    pub oom: bool,
    /// When it ended.
    pub ended: WallTime,
}

/// What the runtime knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running(Running),
    /// It ended; its files are still there. `None` when how it ended is unknown (the shim was killed, or the host restarted).
    Ended(Option<Exit>),
}

/// A container found on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub id: ContainerId,
    /// Whose replica it is.
    pub tag: Tag,
    /// Whether it runs.
    pub state: State,
    /// What its guard was told last; `None` when it has none, or when that was in another boot of the host.
    pub fence: Option<Fence>,
}

/// The end of a container that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which container.
    pub id: ContainerId,
    /// How; `None` when that is unknown.
    pub exit: Option<Exit>,
}

/// What happened to a container without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It ended. Of what runs by a lease nothing is left.
    Ended(Ended),
    /// It runs by a lease and was killed, but some of it is still there; [`Event::Ended`] follows when nothing is.
    Stuck {
        /// Which container.
        id: ContainerId,
        /// What is left of it, for people.
        reason: String,
    },
}

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The image is not on this node. *Nothing was made.*
    #[error("the image {0} is not on this node")]
    ImageMissing(String),
    /// The specification asks for what the image or the host does not have: no such user, program or directory. *Nothing runs.*
    #[error("the container cannot be made: {reason}")]
    Invalid {
        /// What is wrong, for people.
        reason: String,
    },
    /// Its fence has passed, so there is no time left to run in. *The program was not run.*
    #[error("the lease {token} of the container {id} has ended")]
    Lapsed {
        /// Which container.
        id: ContainerId,
        /// By which lease.
        token: Token,
    },
    /// It runs already, without a lease or by another one. *It goes on as it did.*
    #[error("the container {id} runs already, and not by the lease {token}")]
    OtherLease {
        /// Which container.
        id: ContainerId,
        /// By which lease it was to be started.
        token: Token,
    },
    /// The host could not do it now. *Nothing runs; what was made is removed.*
    #[error("cannot {attempt}")]
    Host {
        /// What was attempted.
        attempt: String,
        /// What the host said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StartError {
    /// Whether trying again can help without anybody doing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            // Not with the same fence: with the next one.
            Self::Host { .. } | Self::Lapsed { .. } | Self::OtherLease { .. } => true,
            Self::ImageMissing(_) | Self::Invalid { .. } => false,
        }
    }
}

/// Why something could not be done with a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// There is no container of that name here.
    #[error("there is no container {0} here")]
    Unknown(ContainerId),
    /// It does not run.
    #[error("the container {0} does not run")]
    NotRunning(ContainerId),
    /// Its guard does not take this fence: it has none, or one of another lease, or its time has passed. *It ends when it would have.*
    #[error("the fence of the container {id} is not of the lease {token}, or has passed")]
    Fence {
        /// Which container.
        id: ContainerId,
        /// Of which lease the fence was.
        token: Token,
    },
    /// The host could not do it. *What was done is unknown.*
    #[error("cannot {attempt}")]
    Host {
        /// What was attempted.
        attempt: String,
        /// What the host said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It runs by a lease and was killed, but some of it waits in the kernel, where no signal reaches. *It ends when that wait is over;
    /// until then its files stay, and its lease is not to be released.*
    #[error("{left} survives SIGKILL; {network}")]
    Stuck {
        /// Which container.
        id: ContainerId,
        /// Which processes, in which state, and what they wait in, for people.
        left: String,
        /// Whether its network was taken away, for people.
        network: String,
    },
}

/// Which of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub written: WallTime,
    /// To which stream.
    pub output: Output,
    /// The line without its end.
    pub text: Bytes,
}

/// Which lines of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogQuery {
    /// Only the last so many lines; `None` is all that is kept.
    pub tail: Option<usize>,
    /// Only lines written at or after this moment; `None` is from the beginning.
    pub since: Option<WallTime>,
    /// Whether to go on with new lines until the container is removed or the receiver is dropped.
    pub follow: bool,
}

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments; not empty.
    pub args: Vec<String>,
    /// More environment variables.
    pub environment: BTreeMap<String, String>,
    /// Who runs it, `user[:group]`; `None` is the container's user.
    pub user: Option<String>,
    /// Where it starts; `None` is the container's working directory.
    pub working_dir: Option<String>,
    /// The size of the terminal that it gets; `None` is pipes and no terminal.
    pub terminal: Option<Window>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many fit side by side.
    pub columns: u16,
    /// How many lines there are.
    pub rows: u16,
}

/// What goes to a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecInput {
    /// A piece of its standard input.
    Data(Bytes),
    /// Its terminal has another size; without a terminal it means nothing.
    Resize(Window),
}

/// The two ends of a running command.
#[derive(Debug)]
pub struct ExecStreams {
    /// What goes to it. When this is dropped its standard input is closed; a terminal stays open.
    pub input: mpsc::Sender<ExecInput>,
    /// What comes out, and in the end how it ended; a terminal has but one output. Dropping the receiver kills the command.
    pub output: mpsc::Receiver<ExecOutput>,
}

/// What comes out of a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    /// A piece of output.
    Data(Output, Bytes),
    /// It ended with this code; the last message.
    Exited(i32),
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time since it was started.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// How a health check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Exit code 0.
    Passed,
    /// Another exit code, or it could not be run: which, and the last line that it wrote.
    Failed(String),
    /// It took too long and was killed.
    TimedOut,
}

/// Containers. Everything may be called again: `start`, `stop` and `remove` are idempotent by the container's name.
pub trait Runtime: Send + Sync + 'static {
    /// What this node can set aside for containers.
    fn capacity(&self) -> Reservation;
    /// All containers of this mesh on this node, running or ended, whoever started them.
    fn list(&self) -> impl Future<Output = Vec<Found>> + Send;
    /// Makes the container if it is not there, and starts it if it does not run.
    fn start(
        &self,
        container: &Container,
    ) -> impl Future<Output = Result<Running, StartError>> + Send;
    /// Tells the guard of a running container that it may run for longer. A fence that is not later than the last one changes nothing.
    ///
    /// # Errors
    /// [`ContainerError::Fence`] when its guard goes by another lease or by none, or when its end has come; and when it does not
    /// run, or the guard cannot be told. Whatever it is, the container ends when its guard was told last.
    fn extend(
        &self,
        id: &ContainerId,
        fence: Fence,
    ) -> impl Future<Output = Result<(), ContainerError>> + Send;
    /// Asks it to stop, kills it after `grace`, and returns when no process of it is left.
    ///
    /// # Errors
    /// [`ContainerError::Stuck`] when it runs by a lease and survives being killed; whenever there may be anything left of it, an error.
    fn stop(
        &self,
        id: &ContainerId,
        signal: StopSignal,
        grace: Duration,
    ) -> impl Future<Output = Result<(), ContainerError>> + Send;
    /// Removes an ended container with all its files; stops it first if it runs. Fine when it is not there.
    fn remove(&self, id: &ContainerId) -> impl Future<Output = Result<(), ContainerError>> + Send;
    /// Runs a health check in the container.
    fn probe(
        &self,
        id: &ContainerId,
        test: &HealthTest,
        timeout: Duration,
    ) -> impl Future<Output = Health> + Send;
    /// Runs a command in the container.
    fn exec(
        &self,
        id: &ContainerId,
        exec: Exec,
    ) -> impl Future<Output = Result<ExecStreams, ContainerError>> + Send;
    /// Lines of its log, oldest first.
    fn logs(
        &self,
        id: &ContainerId,
        query: LogQuery,
    ) -> impl Future<Output = Result<mpsc::Receiver<LogLine>, ContainerError>> + Send;
    /// What it uses now.
    fn usage(&self, id: &ContainerId)
    -> impl Future<Output = Result<Usage, ContainerError>> + Send;
}

/// Where ends of containers arrive. One receiver: the engine.
pub type Events = mpsc::Receiver<Event>;

/// An image on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The names under which it came; empty when it came by digest.
    pub names: Vec<String>,
    /// The size of all its blobs.
    pub bytes: u64,
}

/// Why an image was not stored. *The store is as it was before.*
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The archive or blob is not what it should be.
    #[error("the image cannot be used: {reason}")]
    Invalid {
        /// What is wrong, for people.
        reason: String,
    },
    /// The bytes do not have the digest that names them.
    #[error("expected {expected}, and the bytes are {found}")]
    Digest {
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// The blob is not here.
    #[error("{0} is not on this node")]
    Missing(String),
    /// The disk failed or is full.
    #[error("cannot {attempt}")]
    Host {
        /// What was attempted.
        attempt: String,
        /// What the host said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Images on disk, by digest.
pub trait Images: Send + Sync + 'static {
    /// All images that are complete here.
    fn images(&self) -> impl Future<Output = Vec<Image>> + Send;
    /// The blobs that are still needed before the image can be used, as far as known now: first the manifest, then what it
    /// names. Empty when the image is complete.
    fn missing(&self, digest: &str)
    -> impl Future<Output = Result<Vec<String>, ImageError>> + Send;
    /// Stores an archive (an OCI layout as a tar, or what `docker save` writes) whose pieces arrive on `archive`, and returns
    /// the images in it.
    fn import(
        &self,
        archive: mpsc::Receiver<Bytes>,
    ) -> impl Future<Output = Result<Vec<Image>, ImageError>> + Send;
    /// Stores a blob whose pieces arrive on `pieces`, if its digest is right. A receiver that ends early is a wrong digest.
    fn put_blob(
        &self,
        digest: &str,
        pieces: mpsc::Receiver<Bytes>,
    ) -> impl Future<Output = Result<(), ImageError>> + Send;
    /// The pieces of a blob.
    fn read_blob(
        &self,
        digest: &str,
    ) -> impl Future<Output = Result<mpsc::Receiver<Bytes>, ImageError>> + Send;
    /// The blobs that were found damaged here and removed, each told once: they are missing now.
    fn damaged(&self) -> Vec<String> {
        Vec::new()
    }
    /// Unpacks a complete image, so that a start does not wait for it. Damaged blobs are found and removed.
    fn unpack(&self, digest: &str) -> impl Future<Output = Result<(), ImageError>> + Send;
}
