//! One life of chitchat: an instance that runs until it is stopped or ends by itself.
//!
//! What a node says stands in its own part of what all keep, and only the node itself should write there. But chitchat takes from
//! anybody what is said to be newer, even about this node itself: any member can put words there, take words back, and raise the
//! version to the last number that there is, behind which the next word would overflow. So the version after the last own word is
//! remembered, and whatever finds another one does not write ([`Tampered`]): this node begins a new life, whose part is its own again.
//! It does the same when its life is said to be at another address too: to those who heard of that first it would be the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use chitchat::transport::Transport;
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState,
    ProtocolVersion, spawn_chitchat,
};
use mesh_coordinator::id::{Incarnation, MeshId, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::INTERVAL_MAX;

/// A silent node is dead after this many mean intervals between its heartbeats.
const PHI: f64 = 8.0;

/// How many intervals between heartbeats are remembered.
const SAMPLING_WINDOW: usize = 200;

/// The longest pause that still counts as an interval between heartbeats.
const PAUSE_MAX: Duration = INTERVAL_MAX.saturating_mul(10);

/// How long an instance may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Snapshots of the nodes that live.
pub(crate) type Live = watch::Receiver<BTreeMap<ChitchatId, NodeState>>;

/// How one life is to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mesh: MeshId,
    pub(crate) node: NodeId,
    pub(crate) life: Incarnation,
    pub(crate) bind: SocketAddr,
    pub(crate) advertise: SocketAddr,
    pub(crate) interval: Duration,
    pub(crate) grace: Duration,
}

/// Somebody else wrote into what this node says. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tampered;

/// A running instance.
pub(crate) struct Chat {
    handle: ChitchatHandle,
    /// The version of what this node says, after its own last word.
    version: u64,
    /// Becomes ready with the reason when the instance ends.
    pub(crate) ended: Pin<Box<dyn Future<Output = String> + Send + Sync>>,
    pub(crate) began: Instant,
}

/// A look at what chitchat knows.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// All lives of all nodes, and where they say they are.
    pub(crate) lives: Vec<(NodeId, Incarnation, SocketAddr)>,
    /// The lives that the failure detector takes for alive, this one included.
    pub(crate) alive: BTreeSet<(NodeId, Incarnation)>,
    /// This node's own heartbeat.
    pub(crate) heartbeat: u64,
    /// Somebody else wrote into what this node says, or says that this life of it is somewhere else too.
    pub(crate) is_tampered: bool,
}

impl Chat {
    /// Starts an instance that begins with `facts`.
    pub(crate) async fn start(
        plan: &Plan,
        facts: Vec<(String, String)>,
        transport: &dyn Transport,
    ) -> anyhow::Result<Self> {
        let id = ChitchatId::new(plan.node.to_string(), plan.life.0, plan.advertise);
        let detector =
            FailureDetectorConfig::new(PHI, SAMPLING_WINDOW, PAUSE_MAX, plan.interval, plan.grace);
        let config = ChitchatConfig {
            chitchat_id: id,
            cluster_id: plan.mesh.to_string(),
            gossip_interval: plan.interval,
            listen_addr: plan.bind,
            // The keeper contacts members itself: chitchat's seeds never change, members do.
            seed_nodes: Vec::new(),
            failure_detector_config: detector,
            marked_for_deletion_grace_period: plan.grace,
            catchup_callback: None,
            extra_liveness_predicate: None,
            // A node that speaks V1 answers V0 with messages that may be too long, so V0 must never exist in a mesh.
            protocol_version: ProtocolVersion::V1,
        };
        // Each fact has a key of its own, and raises the version by one.
        let version = u64::try_from(facts.len())?;
        let handle = spawn_chitchat(config, facts, transport).await?;
        let watcher = handle.termination_watcher();
        let ended = Box::pin(async move {
            watcher
                .await
                .map_or_else(|error| format!("{error:#}"), |()| "it was stopped".to_owned())
        });
        Ok(Self { handle, version, ended, began: Instant::now() })
    }

    pub(crate) async fn live(&self) -> Live {
        self.handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await
    }

    /// Publishes `value` under `key`. Both must be ASCII: see [`keys`](crate::keys).
    pub(crate) async fn set(&mut self, key: &str, value: &str) -> Result<(), Tampered> {
        self.write(|own| own.set(key, value)).await
    }

    pub(crate) async fn delete(&mut self, key: &str) -> Result<(), Tampered> {
        self.write(|own| own.delete(key)).await
    }

    async fn write(&mut self, act: impl Fn(&mut NodeState)) -> Result<(), Tampered> {
        let expected = self.version;
        let write = |chitchat: &mut Chitchat| {
            let own = chitchat.self_node_state();
            (!is_tampered(own, expected)).then(|| {
                act(own);
                own.max_version()
            })
        };
        self.version = self.handle.with_chitchat(write).await.ok_or(Tampered)?;
        Ok(())
    }

    /// Starts a handshake with whoever is at `address`.
    pub(crate) fn contact(&self, address: SocketAddr) -> bool {
        self.handle.gossip(address).is_ok()
    }

    pub(crate) async fn survey(&self) -> Survey {
        let expected = self.version;
        self.handle.with_chitchat(|chitchat| survey(chitchat, expected)).await
    }

    /// Ends the instance without waiting for it.
    pub(crate) fn abandon(self) -> Instant {
        self.handle.abort();
        self.began
    }

    /// Stops the instance and gives its socket back.
    pub(crate) async fn stop(self) {
        if self.handle.initiate_shutdown().is_err()
            || tokio::time::timeout(STOP_GRACE, self.ended).await.is_err()
        {
            self.handle.abort();
        }
    }
}

/// Which life of which node `id` names; `None` when the name is none of a node.
pub(crate) fn read_id(id: &ChitchatId) -> Option<(NodeId, Incarnation)> {
    Some((id.node_id.parse().ok()?, Incarnation(id.generation_id)))
}

/// Whether `own` is not what it was after this node's own last word: whoever changes it raises one of the two numbers.
fn is_tampered(own: &NodeState, expected: u64) -> bool {
    own.max_version() != expected || own.last_gc_version() > expected
}

fn survey(chitchat: &mut Chitchat, expected: u64) -> Survey {
    let me = chitchat.self_chitchat_id().clone();
    let is_same_life = |id: &ChitchatId| {
        id.node_id == me.node_id && id.generation_id == me.generation_id && *id != me
    };
    let lives = chitchat.node_states().keys().filter_map(|id| {
        let (node, life) = read_id(id)?;
        Some((node, life, id.gossip_advertise_addr))
    });
    Survey {
        lives: lives.collect(),
        alive: chitchat.live_nodes().filter_map(read_id).collect(),
        is_tampered: chitchat.node_states().keys().any(is_same_life)
            || is_tampered(chitchat.self_node_state(), expected),
        heartbeat: chitchat.self_node_state().heartbeat().into(),
    }
}
