//! What the API asks of the agent behind it.

use std::future::Future;

use mesh_coordinator::catalogue::{Entry, RecordKey};
use mesh_coordinator::event::Event;
use mesh_coordinator::id::{Hash, NodeId, PublicKey, Signature, SlotId};
use mesh_coordinator::name::NodeName;
use mesh_coordinator::view::{LeaseQuery, LeaseView, Overview, Why};
use tokio::sync::mpsc;

use crate::runtime::ContainerId;

/// What became of submitted records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The nodes on whose disks all of them are, this one first.
    pub stored_on: Vec<NodeId>,
    /// How many other members were believed to live when they were submitted; zero when this node is alone.
    pub n_peers: u32,
    /// Records that were refused, and why. Nothing of a submission is stored when one of it is refused.
    pub refused: Vec<(Hash, String)>,
}

/// Why a submission was not accepted. *Nothing was stored.*
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The disk is full or broken.
    #[error("the records cannot be stored on this node")]
    Store(#[source] crate::store::StoreError),
    /// Too much is waiting already.
    #[error("this agent is busy; try again")]
    Busy,
    /// The agent is stopping.
    #[error("this agent is stopping")]
    Stopping,
}

/// A replica of a slot on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReplica {
    /// The container.
    pub container: ContainerId,
    /// The slot as people write it.
    pub name: String,
}

/// The agent, as its API uses it. Reads are answered from the last published view and are cheap.
pub trait Control: Send + Sync + 'static {
    /// Stores records, sends them to peers, and answers when another node has stored them too, or after a bound of a few
    /// seconds when none has (promise P1).
    fn submit(
        &self,
        entries: Vec<Entry>,
    ) -> impl Future<Output = Result<Submitted, SubmitError>> + Send;
    /// The record that holds under a key; `None` when there is none.
    fn record(&self, key: RecordKey) -> impl Future<Output = Option<Entry>> + Send;
    /// All records, for a node that has just joined.
    fn records(&self) -> impl Future<Output = Vec<Entry>> + Send;
    /// The mesh as this node sees it; `None` when the agent is stopping.
    fn overview(&self) -> impl Future<Output = Option<Overview>> + Send;
    /// Why a slot is where it is; `None` for a slot of which nothing is known.
    fn why(&self, slot: SlotId) -> impl Future<Output = Option<Why>> + Send;
    /// What this node knows of the leases of exclusive slots, in the order of slots: a part of what is asked for, empty when there is
    /// nothing more behind [`LeaseQuery::after`].
    fn leases(&self, query: LeaseQuery) -> impl Future<Output = Vec<LeaseView>> + Send;
    /// The last `tail` events that this node saw, oldest first, and then new ones as they come if `follow` is set.
    fn events(
        &self,
        tail: usize,
        follow: bool,
    ) -> impl Future<Output = mpsc::Receiver<Event>> + Send;
    /// The container that serves a slot on this node; the last one that did when none runs; `None` when none ever did.
    fn replica(&self, slot: &SlotId) -> impl Future<Output = Option<LocalReplica>> + Send;
    /// The way to a port of a ready replica on this node; `None` when there is none.
    fn backend(
        &self,
        slot: &SlotId,
        target: u16,
    ) -> impl Future<Output = Option<std::net::SocketAddr>> + Send;
}

/// What a node says that wants to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Its key, proved by the connection.
    pub key: PublicKey,
    /// The name it wants.
    pub name: NodeName,
    /// The invitation that it holds.
    pub invitation: PublicKey,
    /// The invitation's signature over (mesh, key, name).
    pub invited: Signature,
    /// Its address record, not yet known to be a member's.
    pub address: Entry,
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The catalogue, the new member's record included, the genesis record first.
    pub records: Vec<Entry>,
}

/// Why a node was not admitted. *No use of the invitation was counted.*
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The invitation is not in the catalogue, or its author had no right to write it.
    #[error("this invitation is not known here")]
    Unknown,
    /// Only the node that the token names may redeem it.
    #[error("this invitation can be redeemed only at node {0}")]
    OtherNode(NodeId),
    /// The signature does not belong to the invitation.
    #[error("the token does not fit its invitation")]
    Forged,
    /// The time of the mesh is past the expiry.
    #[error(
        "the token expired at {expired} (Unix milliseconds), and it is {now} here: create a new one"
    )]
    Expired {
        /// When it expired.
        expired: u64,
        /// What time it is here.
        now: u64,
    },
    /// It was used as often as it may be.
    #[error("the token was used {0} times, as often as it may be: create a new one")]
    UsedUp(u32),
    /// The node was removed from this mesh before; its key stays refused.
    #[error(
        "this node was removed from the mesh: remove its data directory and join with a new key"
    )]
    Removed,
    /// Another member has that name.
    #[error("the name {0} is taken by another node: join with --name")]
    NameTaken(NodeName),
    /// The redeemer cannot store the use or the member.
    #[error("this node cannot store the new member: {0}")]
    Store(String),
}

/// Admits nodes that hold an invitation for this node.
pub trait Admission: Send + Sync + 'static {
    /// Redeems an invitation: counts the use durably, then signs the member record and submits it.
    fn redeem(
        &self,
        request: JoinRequest,
    ) -> impl Future<Output = Result<Admitted, JoinError>> + Send;
}
