//! What one node believes of the whole mesh, in a form to show: the source of `ps`, `nodes`, `status` and `why`.

mod lease;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::lease::{Grant, LeaseQuery, LeaseView, Pursuit, Testimony};

use crate::fact::Phase;
use crate::id::{AppUid, MeshId, NodeId, PublicKey, Revision, SlotId};
use crate::lease::exclusive::{StoreId, Token};
use crate::name::{AppName, MeshName, NodeName, ServiceName};
use crate::spec::{Guarantee, Labels, Mode, PublishedPort, Reservation};
use crate::time::WallTime;

/// The whole mesh as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// The mesh.
    pub mesh: MeshId,
    /// What people call it.
    pub mesh_name: MeshName,
    /// Who looks.
    pub seen_by: NodeId,
    /// All members, by name.
    pub nodes: Vec<NodeView>,
    /// All apps, by name.
    pub apps: Vec<AppView>,
    /// Apps that do not run because another one has their name, by name.
    pub parked: Vec<ParkedView>,
    /// Slots of apps and services that are no more, and that somebody still claims or stops.
    pub leaving: Vec<SlotView>,
    /// How often an app of each name was removed, for names that were: the next app of that name is
    /// [`AppUid::of`] this number.
    pub removals: BTreeMap<AppName, u64>,
    /// What is wrong with the mesh as a whole, one line each.
    pub problems: Vec<String>,
}

/// Whether a node serves, as one node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeStatus {
    /// It is heard.
    Alive,
    /// Its host answers and its agent does not: probably back in a moment.
    Restarting,
    /// It is not heard, and those who watch it agree.
    Down,
    /// Admitted, and not heard since this agent started.
    Unknown,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether it serves.
    pub status: NodeStatus,
    /// Whether it is drained.
    pub drained: bool,
    /// Its labels.
    pub labels: Labels,
    /// Its weight, in percent.
    pub weight: u32,
    /// What it can set aside; `None` until it said so.
    pub capacity: Option<Reservation>,
    /// What the replicas that it claims set aside.
    pub reserved: Reservation,
    /// How many replicas it claims.
    pub n_claims: u32,
    /// The version of its agent; `None` until it said so.
    pub version: Option<String>,
    /// `host:port` of its API, best first.
    pub addresses: Vec<String>,
    /// How long ago it was heard; `None` when never since this agent started.
    pub heard_ago: Option<Duration>,
    /// The store in which it keeps its word as a witness; `None` until it said so.
    pub store: Option<StoreId>,
    /// Whether it only witnesses and votes, and never holds a replica. False until it said so.
    pub witness_only: bool,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppView {
    /// Which life of the name.
    pub uid: AppUid,
    /// Its name.
    pub name: AppName,
    /// The current release.
    pub version: u64,
    /// False after `stop`.
    pub running: bool,
    /// Who wrote the current release.
    pub author: PublicKey,
    /// When, by the author's clock.
    pub written: WallTime,
    /// Its services, by name.
    pub services: Vec<ServiceView>,
}

/// An app that was made on one side of a split while another of its name was made on the other, and that does not run since they met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedView {
    /// Which life of the name.
    pub uid: AppUid,
    /// Its name.
    pub name: AppName,
    /// Its release.
    pub version: u64,
    /// Who wrote that.
    pub author: PublicKey,
    /// When, by the author's clock.
    pub written: WallTime,
    /// Its services.
    pub services: Vec<ServiceName>,
    /// The app of its name that runs.
    pub runs: AppUid,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// The image as the manifest wrote it.
    pub image: String,
    /// The digest that runs.
    pub digest: String,
    /// The current definition.
    pub revision: Revision,
    /// What is promised of its replicas.
    pub guarantee: Guarantee,
    /// How many replicas are wanted, after `scale`.
    pub mode: Mode,
    /// How many slots there are now; for a global service one for each suitable node.
    pub n_wanted: u32,
    /// How many slots have a ready replica of the current revision.
    pub n_ready: u32,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
    /// After the death of a node, its slots are claimed elsewhere within this time; the start of the container comes on top.
    pub failover_bound: Duration,
    /// Its slots, and slots that are being given up.
    pub slots: Vec<SlotView>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Which.
    pub slot: SlotId,
    /// As people write it: `app/service/index`.
    pub name: String,
    /// Whether the current specification has it.
    pub wanted: bool,
    /// Who claims it, the best first.
    pub claims: Vec<ClaimView>,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// Whose.
    pub node: NodeId,
    /// The node's name.
    pub node_name: NodeName,
    /// Whether that node is believed to live.
    pub node_status: NodeStatus,
    /// For which definition.
    pub revision: Revision,
    /// Whether that is the current one.
    pub current: bool,
    /// How far it has come.
    pub phase: Phase,
    /// Whether it waits to be relieved.
    pub yielding: bool,
    /// How often the container was started again.
    pub restarts: u32,
    /// Milliseconds from the last sign of life of the node that it replaced to readiness; `None` when it replaced none.
    pub failover_ms: Option<u32>,
    /// By which lease it is held; `None` when the slot is not exclusive.
    pub token: Option<Token>,
    /// What the claimant says of it: the last error, or how the container ended. Empty when there is nothing to say.
    pub detail: String,
}

/// Why a slot is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Which slot.
    pub slot: SlotView,
    /// Every node in the order in which it would get the slot if it were free now; those that cannot hold it at the end.
    pub candidates: Vec<Candidate>,
    /// What this node decided about the slot, newest last.
    pub decisions: Vec<Decision>,
}

/// A node as a place for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub node_name: NodeName,
    /// Its rank, from zero; `None` when it cannot hold the slot.
    pub rank: Option<u32>,
    /// How many other slots of the service it holds.
    pub crowding: u32,
    /// Its rendezvous score for the slot; the higher, the better.
    pub score: u64,
    /// Why it cannot hold the slot; empty when it can.
    pub refusals: Vec<String>,
}

/// Something that this node decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How long ago.
    pub ago: Duration,
    /// What and why, one line.
    pub text: String,
}
