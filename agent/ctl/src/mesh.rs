//! The mesh as the commands see it: what they may ask of any agent, in the core's own types.
//!
//! [`crate::remote`] asks real agents; the tests of the commands use a fake. Records go out unsigned through this trait: the
//! signature is the adapter's work, so that no command ever touches a key.

#[cfg(test)]
pub(crate) mod fake;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use mesh_coordinator::catalogue::{Entry, Record, RecordKey, Role};
use mesh_coordinator::event::Event;
use mesh_coordinator::id::{AppUid, MeshId, NodeId, PublicKey, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{LeaseView, Overview, Why};
use mesh_ports::control::Submitted;
use mesh_ports::runtime::{Exec, ExecInput, ExecOutput, Image, LogLine, LogQuery};
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// Items that arrive one after the other, until an error or the end.
pub(crate) type Items<T> = Pin<Box<dyn Stream<Item = Result<T, CallError>> + Send>>;

/// An agent that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried {
    /// `host:port`.
    pub(crate) address: String,
    /// Why it did not answer.
    pub(crate) why: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  {}: {}", self.address, self.why)
    }
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No agent could be reached. *What was asked for did not happen.*
    #[error("no agent of the mesh answers:{}", .0.iter().map(ToString::to_string).collect::<String>())]
    Unreachable(Vec<Tried>),
    /// An agent answered that it will not. *What was asked for did not happen.*
    #[error("{reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// What was sent makes no sense to the agent. *What was asked for did not happen.*
    #[error("{reason}")]
    Invalid {
        /// What it said.
        reason: String,
    },
    /// The operator's role is too low. *What was asked for did not happen.*
    #[error("your key may not do this: {reason}")]
    Role {
        /// What the agent said.
        reason: String,
    },
    /// Nobody in the mesh knows the operator's key. *What was asked for did not happen.*
    #[error("the mesh does not know your key: {reason}")]
    Stranger {
        /// What the agent said.
        reason: String,
        /// What an admin has to type.
        admission: String,
    },
    /// The operator's key was removed from the mesh. *What was asked for did not happen.*
    #[error("your key was removed from the mesh, for good")]
    Removed,
    /// The node that runs the replica does not answer the agent that was asked. *What was asked for did not happen.*
    #[error("its node does not answer: {reason}")]
    NodeSilent {
        /// What the agent says.
        reason: String,
    },
    /// The connection ended before the answer did. *Whether what was asked for happened is unknown.*
    #[error("the agent broke off: {reason}")]
    BrokenOff {
        /// What is known of it.
        reason: String,
    },
}

impl CallError {
    /// Whether it is about who asks, so that asking again or elsewhere does not help.
    pub(crate) const fn is_about_me(&self) -> bool {
        match self {
            Self::Role { .. } | Self::Stranger { .. } | Self::Removed => true,
            Self::Unreachable(_)
            | Self::Refused { .. }
            | Self::Invalid { .. }
            | Self::NodeSilent { .. }
            | Self::BrokenOff { .. } => false,
        }
    }

    /// What to type next, if there is something.
    pub(crate) fn next(&self) -> Option<String> {
        match self {
            Self::Unreachable(_) => Some(
                "on a server of the mesh: systemctl status agentmesh-agent; or name another agent: \
                 agentctl --agent HOST:PORT …"
                    .to_owned(),
            ),
            Self::Role { .. } => {
                Some("agentctl status shows your role; an admin can give you another".to_owned())
            }
            Self::Stranger { admission, .. } => Some(format!("an admin types: {admission}")),
            Self::Removed => Some(
                "whoever is to come back needs a new key, which an admin lets in: agentctl login"
                    .to_owned(),
            ),
            Self::BrokenOff { .. } | Self::NodeSilent { .. } => Some("agentctl status".to_owned()),
            // What agentctl sends was checked here: an agent of another version may want it otherwise.
            Self::Invalid { .. } => Some("agentctl version compares the versions".to_owned()),
            Self::Refused { .. } => None,
        }
    }
}

/// What agents say when the role of a key is too low, somewhere in the reason.
pub(crate) const NEEDS_ROLE: &str = "needs the role";

/// Who answers, and whom it takes the caller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The node that answers.
    pub(crate) node_name: String,
    /// The version of its agent.
    pub(crate) version: String,
    /// The caller's role.
    pub(crate) role: Role,
    /// What its agent refused since its start: reasons, and how often.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// Something that happened, or a node whose events are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// An event.
    Event(Event),
    /// A node that could not be asked: its events are missing.
    Silent {
        /// Its name.
        node: String,
        /// Why it could not be asked.
        reason: String,
    },
}

/// What a node knows of a lease, or a node that did not tell all that it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// What it knows of one.
    Lease {
        /// Which node.
        node: NodeId,
        /// What it knows.
        lease: Box<LeaseView>,
    },
    /// A node that could not be asked.
    Silent {
        /// Which.
        node: NodeId,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// What became of a pushed archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The images in it.
    pub(crate) images: Vec<Image>,
    /// The nodes that have all of them, the entry agent first.
    pub(crate) stored_on: Vec<NodeId>,
    /// How many other members were believed to live.
    pub(crate) n_peers: u32,
}

/// The two ends of a command that runs in a container.
pub(crate) struct Session {
    /// What goes to it; its standard input is closed when this is dropped.
    pub(crate) input: mpsc::Sender<ExecInput>,
    /// What comes out, and in the end how it ended.
    pub(crate) output: Items<ExecOutput>,
}

/// An invitation made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invited {
    /// The invitation's public key.
    pub(crate) key: PublicKey,
    /// `host:port` of the agent that redeems it.
    pub(crate) address: String,
    /// The secret to hand to the new server.
    pub(crate) token: String,
}

/// A replica and the node that runs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The node.
    pub(crate) node: NodeId,
    /// The slot.
    pub(crate) slot: SlotId,
}

/// Any agent of the mesh: the first one that answers.
pub(crate) trait Mesh {
    /// Which mesh.
    fn mesh(&self) -> MeshId;
    /// The key with which records are signed.
    fn operator(&self) -> PublicKey;
    /// The time of the mesh, as the agent that answers tells it: nothing depends on the clock of the operator's own machine.
    async fn now(&self) -> Result<WallTime, CallError>;
    /// Who answers.
    async fn who(&self) -> Result<Who, CallError>;
    /// The mesh as that agent sees it.
    async fn overview(&self) -> Result<Overview, CallError>;
    /// Why a slot is where it is; `None` for a slot of which nothing is known.
    async fn why(&self, slot: &SlotId) -> Result<Option<Why>, CallError>;
    /// The record that holds under a key; `None` when there is none.
    async fn record(&self, key: &RecordKey) -> Result<Option<Entry>, CallError>;
    /// All records that the operator may read; for a viewer, all but releases.
    async fn catalogue(&self) -> Result<Vec<Entry>, CallError>;
    /// Signs records and hands them over.
    async fn submit(&self, records: Vec<Record>) -> Result<Submitted, CallError>;
    /// What every node knows of the leases of an app's exclusive slots; of those of all apps when none is named.
    async fn leases(&self, app: Option<AppUid>) -> Result<Vec<Known>, CallError>;
    /// The last `tail` events, and new ones if `follow` is set.
    async fn events(&self, tail: usize, follow: bool) -> Result<Items<Happened>, CallError>;
    /// Lines of the log of a replica's container.
    async fn logs(&self, place: &Place, query: LogQuery) -> Result<Items<LogLine>, CallError>;
    /// Runs a command in a replica's container.
    async fn exec(&self, place: &Place, exec: Exec) -> Result<Session, CallError>;
    /// Stores the images of an archive on the mesh.
    async fn push_image(&self, archive: tokio::fs::File) -> Result<Pushed, CallError>;
    /// The images on the agent that answers.
    async fn images(&self) -> Result<Vec<Image>, CallError>;
    /// Makes the keys of an invitation that the agent with the key `redeemer`, reachable at `address`, will redeem.
    fn invite(&self, redeemer: PublicKey, address: String) -> Result<Invited, CallError>;
}
