//! Who is who, from the catalogue, for all adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use mesh_coordinator::catalogue::{Role, State};
use mesh_coordinator::id::{MeshId, NodeId, PublicKey};
use mesh_ports::directory::{Directory, Peer, Standing};
use tokio::sync::watch;

/// The members and operators as of the last change of the catalogue.
#[derive(Debug)]
pub struct Live {
    mesh: MeshId,
    me: NodeId,
    snapshot: RwLock<Arc<Snapshot>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Snapshot {
    peers: Arc<Vec<Peer>>,
    members: BTreeMap<NodeId, Peer>,
    operators: BTreeMap<PublicKey, Role>,
    recovery: Option<PublicKey>,
    removed: BTreeSet<PublicKey>,
    removed_nodes: BTreeSet<NodeId>,
    gossip_interval: Duration,
}

impl Live {
    /// The directory of `mesh` as `me` knows it from `state`.
    #[must_use]
    pub fn new(mesh: MeshId, me: NodeId, state: &State) -> Self {
        let live = Self { mesh, me, snapshot: RwLock::default(), changed: watch::Sender::new(0) };
        live.update(state);
        live
    }

    /// Takes over what the catalogue says now.
    pub fn update(&self, state: &State) {
        let members: BTreeMap<NodeId, Peer> = state
            .nodes
            .iter()
            .map(|(node, member)| {
                let address = member.address.as_ref();
                let peer = Peer {
                    node: *node,
                    key: member.key,
                    name: member.name.clone(),
                    api: address.map(|address| address.api.clone()).unwrap_or_default(),
                    gossip: address.map(|address| address.gossip.clone()).unwrap_or_default(),
                };
                (*node, peer)
            })
            .collect();
        let snapshot = Snapshot {
            // A node that was removed has nobody to turn to. Should its removal turn out to be void, the others turn to it.
            peers: if state.removed_nodes.contains(&self.me) {
                Arc::default()
            } else {
                Arc::new(members.values().filter(|peer| peer.node != self.me).cloned().collect())
            },
            members,
            operators: state
                .operators
                .iter()
                .map(|(key, operator)| (*key, operator.role))
                .collect(),
            recovery: state.recovery,
            removed: state.removed_operators.clone(),
            removed_nodes: state.removed_nodes.clone(),
            gossip_interval: state.gossip_interval(),
        };
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The pause between two rounds of gossip that the mesh wants.
    #[must_use]
    pub fn gossip_interval(&self) -> Duration {
        self.snapshot().gossip_interval
    }

    /// Tells of every change: the value counts them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Directory for Live {
    fn mesh(&self) -> MeshId {
        self.mesh
    }

    fn peers(&self) -> Arc<Vec<Peer>> {
        Arc::clone(&self.snapshot().peers)
    }

    fn peer(&self, node: NodeId) -> Option<Peer> {
        self.snapshot().members.get(&node).cloned()
    }

    fn standing(&self, key: &PublicKey) -> Standing {
        let snapshot = self.snapshot();
        let node = NodeId::of(key);
        if snapshot.removed.contains(key) {
            return Standing::Removed;
        }
        if snapshot.removed_nodes.contains(&node) {
            return Standing::Parted(node);
        }
        if let Some(role) = snapshot.operators.get(key) {
            return Standing::Operator(*role);
        }
        if snapshot.recovery.as_ref() == Some(key) {
            return Standing::Recovery;
        }
        match snapshot.members.get(&node) {
            Some(peer) if peer.key == *key => Standing::Member(node),
            _ => Standing::Unknown,
        }
    }
}
