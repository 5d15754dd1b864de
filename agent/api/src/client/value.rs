//! What an operator's client is asked with, and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::event::Event;
use mesh_coordinator::id::{MeshId, NodeId, PublicKey, SlotId};
use mesh_coordinator::name::{MeshName, NodeName};
use mesh_coordinator::view::LeaseView;
use mesh_ports::request::RequestSigner;
use mesh_ports::runtime::{Exec, Image, LogQuery};

use super::pool::TlsFor;

/// Where an agent is, and by which key it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAddress {
    /// The key that it must prove to have.
    pub key: PublicKey,
    /// `host:port` of its API; an IPv6 address is in brackets.
    pub address: String,
}

/// How an operator proves who it is.
#[derive(Clone)]
pub struct Access {
    /// The mesh.
    pub mesh: MeshId,
    /// The TLS configuration with the operator's key that accepts only an agent with this key.
    pub tls_for: TlsFor,
    /// Signs what concerns one replica.
    pub signer: Arc<dyn RequestSigner>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("operator", &self.signer.key()).finish_non_exhaustive()
    }
}

/// Who answers, and as whom it knows the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The mesh.
    pub mesh: MeshId,
    /// What people call it.
    pub mesh_name: MeshName,
    /// The agent's node.
    pub node: NodeId,
    /// Its name.
    pub node_name: NodeName,
    /// The version of the agent.
    pub version: String,
    /// What the caller may do.
    pub role: Role,
    /// What the agent refused since its start: reasons, and how often. Empty also when the agent is too old to say.
    pub refused: BTreeMap<String, u64>,
}

/// What became of an archive of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The images in it.
    pub images: Vec<Image>,
    /// The nodes that have all of them, the asked one first.
    pub stored_on: Vec<NodeId>,
    /// How many other members were believed to live; zero when the node is alone.
    pub n_peers: u32,
}

/// A node whose part of an answer is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Which.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Why.
    pub reason: String,
}

/// A piece of the answer to [`OperatorClient::events`](super::OperatorClient::events).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsItem {
    /// What happened.
    Event(Event),
    /// A node that could not be asked.
    Silent(Silent),
}

/// What one node knows of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which node.
    pub node: NodeId,
    /// What it knows.
    pub lease: LeaseView,
}

/// A piece of the answer to [`OperatorClient::leases`](super::OperatorClient::leases).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasesItem {
    /// What a node knows.
    Told(Box<Lease>),
    /// A node that could not be asked, or that did not tell everything.
    Silent(Silent),
}

/// Which log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsRequest {
    /// The node that runs the replica, as the overview says it.
    pub node: NodeId,
    /// The replica.
    pub slot: SlotId,
    /// Which lines.
    pub query: LogQuery,
}

/// Which command is to run where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The node that runs the replica, as the overview says it.
    pub node: NodeId,
    /// The replica.
    pub slot: SlotId,
    /// The command.
    pub exec: Exec,
}
