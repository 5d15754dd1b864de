//! One life of chitchat: an instance that runs until it is stopped or ends by itself.

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

/// A running instance.
pub(crate) struct Chat {
    handle: ChitchatHandle,
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
        let handle = spawn_chitchat(config, facts, transport).await?;
        let watcher = handle.termination_watcher();
        let ended = Box::pin(async move {
            watcher
                .await
                .map_or_else(|error| format!("{error:#}"), |()| "it was stopped".to_owned())
        });
        Ok(Self { handle, ended, began: Instant::now() })
    }

    pub(crate) async fn live(&self) -> Live {
        self.handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await
    }

    /// Publishes `value` under `key`. Both must be ASCII: see [`keys`](crate::keys).
    pub(crate) async fn set(&self, key: &str, value: &str) {
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(key, value)).await;
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().delete(key)).await;
    }

    /// Starts a handshake with whoever is at `address`.
    pub(crate) fn contact(&self, address: SocketAddr) -> bool {
        self.handle.gossip(address).is_ok()
    }

    pub(crate) async fn survey(&self) -> Survey {
        self.handle.with_chitchat(survey).await
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

fn survey(chitchat: &mut Chitchat) -> Survey {
    let lives = chitchat.node_states().keys().filter_map(|id| {
        let (node, life) = read_id(id)?;
        Some((node, life, id.gossip_advertise_addr))
    });
    Survey {
        lives: lives.collect(),
        alive: chitchat.live_nodes().filter_map(read_id).collect(),
        heartbeat: chitchat.self_node_state().heartbeat().into(),
    }
}
