//! The listeners behind published ports.
//!
//! Every agent listens on every published port of the mesh, so that a client may talk to any host. The engine says what is
//! published and which replicas are ready ([`Proxy::update`]); each connection then goes to a replica on this node if there is a
//! ready one, else through the agent of another node. A backend that does not answer is passed over; when none answers, the
//! connection is held for a moment, because the usual reason is a failover under way and a replica about to be ready.
//!
//! A connection once made is left alone: it is not cut for being idle, nor because its replica is no longer ready (a draining
//! replica finishes its work), nor because its port is published no more. The one exception is [`Proxy::node_down`]: behind a
//! dead host nobody will ever close, so its connections are closed here and clients can connect again. A restart of the agent
//! closes all of them.

mod connection;
mod listener;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_coordinator::id::{NodeId, SlotId};
use mesh_ports::network::{Backend, PUBLISH_ADDRESS, Route, Tunnels};
use mesh_telemetry::Tasks;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::connection::{DialError, dial_local, relay};

/// Connections that one published port carries at once.
///
/// Each takes two file descriptors and two buffers of 16 KiB: 4096 of them fit in a common limit of 65 536 descriptors beside
/// several other ports, and bound a port's memory at 128 MiB. What comes above it waits in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4096;

/// A published port with the replicas that could serve it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The published port and whose it is.
    pub route: Route,
    /// The ready replicas, in any order.
    pub backends: Vec<Backend>,
}

/// What keeps a published port from being served on this node. The other ports are not affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Another route has the same port and comes first. The loser is not served until the winner is gone.
    Contested {
        /// The route that is not served.
        route: Route,
        /// The route that has the port.
        winner: Route,
    },
    /// The port cannot be listened on, most often because another program does. It is tried again until it works.
    Unbound {
        /// The route that is not served at this address.
        route: Route,
        /// Where the agent wanted to listen.
        address: SocketAddr,
        /// What the kernel said.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contested { route, winner } => write!(
                f,
                "port {} is published by the services {} and {}: only {} gets it",
                route.published, route.service, winner.service, winner.service
            ),
            Self::Unbound { route, address, reason } => {
                write!(f, "port {} is not served at {address}: {reason}", route.published)
            }
        }
    }
}

/// What a route has carried since it was first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// Those for which no replica answered in time.
    pub failures: u64,
    /// Those that are open now.
    pub open: u64,
}

/// The published ports of this node. Dropping it closes the listeners, not the connections.
#[derive(Debug)]
pub struct Proxy<T> {
    tasks: Tasks,
    tunnels: Arc<T>,
    nodes: Arc<Nodes>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ports: BTreeMap<u16, Listening>,
    contested: Vec<Problem>,
    counters: BTreeMap<Route, Arc<Counter>>,
}

/// A published port and the guard that ends its listeners.
#[derive(Debug)]
struct Listening {
    port: Arc<Port>,
    _stop: DropGuard,
}

/// What listeners and connections of one port share.
#[derive(Debug)]
struct Port {
    target: watch::Sender<Arc<Target>>,
    permits: Arc<Semaphore>,
    turn: AtomicUsize,
    unbound: Mutex<BTreeMap<SocketAddr, String>>,
}

/// Where connections of a port go now.
#[derive(Debug, Clone)]
struct Target {
    route: Route,
    local: Vec<SocketAddr>,
    remote: Vec<(NodeId, SlotId)>,
    counter: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Counter {
    connections: AtomicU64,
    failures: AtomicU64,
    open: AtomicU64,
}

/// By which connections to a node are told that it is down. Bounded by the number of nodes ever seen as a backend.
#[derive(Debug, Default)]
struct Nodes(Mutex<BTreeMap<NodeId, CancellationToken>>);

impl<T: Tunnels> Proxy<T> {
    /// A proxy that serves nothing yet. Its listeners and connections run in `tasks`.
    #[must_use]
    pub fn new(tasks: Tasks, tunnels: Arc<T>) -> Self {
        Self { tasks, tunnels, nodes: Arc::default(), state: Mutex::default() }
    }

    /// Serves exactly `routes` from now on: opens and closes listeners where needed, and leaves the rest alone. Cheap when
    /// nothing changed; to be called in a runtime.
    pub fn update(&self, mut routes: Vec<Served>) {
        routes.sort_by(|a, b| a.route.cmp(&b.route));
        let mut state = lock(&self.state);
        let mut wanted: BTreeMap<u16, Served> = BTreeMap::new();
        state.contested.clear();
        for served in routes {
            if let Some(winner) = wanted.get(&served.route.published) {
                let winner = winner.route.clone();
                state.contested.push(Problem::Contested { route: served.route, winner });
            } else {
                wanted.insert(served.route.published, served);
            }
        }
        state.ports.retain(|published, _| wanted.contains_key(published));
        let counted =
            |route: &Route| wanted.get(&route.published).is_some_and(|w| w.route == *route);
        state.counters.retain(|route, _| counted(route));
        for (published, served) in wanted {
            let counter = state.counters.entry(served.route.clone()).or_default();
            let target = Target::new(served, Arc::clone(counter));
            if let Some(listening) = state.ports.get(&published) {
                listening.port.aim(target);
            } else {
                let listening = self.listen(published, target);
                state.ports.insert(published, listening);
            }
        }
    }

    /// Closes the connections that lead to `node`, which was declared down, so that their clients do not wait for it.
    pub fn node_down(&self, node: NodeId) {
        if let Some(alive) = lock(&self.nodes.0).remove(&node) {
            alive.cancel();
        }
    }

    /// What keeps published ports from being served here, as of now.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let state = lock(&self.state);
        let mut problems = state.contested.clone();
        for listening in state.ports.values() {
            let route = listening.port.target.borrow().route.clone();
            for (address, reason) in lock(&listening.port.unbound).iter() {
                let (route, reason) = (route.clone(), reason.clone());
                problems.push(Problem::Unbound { route, address: *address, reason });
            }
        }
        problems
    }

    /// What each served route has carried.
    #[must_use]
    pub fn counts(&self) -> Vec<(Route, Counts)> {
        let state = lock(&self.state);
        state.counters.iter().map(|(route, counter)| (route.clone(), counter.read())).collect()
    }

    fn listen(&self, published: u16, target: Target) -> Listening {
        let port = Arc::new(Port {
            target: watch::Sender::new(Arc::new(target)),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            turn: AtomicUsize::new(0),
            unbound: Mutex::default(),
        });
        let stop = CancellationToken::new();
        for address in [PUBLISH_ADDRESS, Ipv6Addr::UNSPECIFIED.into()] {
            let listener = listener::Listener {
                address: SocketAddr::new(address, published),
                port: Arc::clone(&port),
                tasks: self.tasks.clone(),
                tunnels: Arc::clone(&self.tunnels),
                nodes: Arc::clone(&self.nodes),
            };
            let stopped = stop.clone();
            self.tasks.spawn("listener", async move {
                stopped.run_until_cancelled(listener.run()).await;
            });
        }
        Listening { port, _stop: stop.drop_guard() }
    }
}

impl Port {
    /// Sends new connections to `target`, and those that wait for a backend.
    fn aim(&self, target: Target) {
        self.target.send_if_modified(|current| {
            let changed = current.route != target.route
                || current.local != target.local
                || current.remote != target.remote;
            if changed {
                *current = Arc::new(target);
            }
            changed
        });
    }
}

impl Target {
    fn new(served: Served, counter: Arc<Counter>) -> Self {
        let (mut local, mut remote) = (Vec::new(), Vec::new());
        for backend in served.backends {
            match backend {
                Backend::Local { slot: _, address } => local.push(address),
                Backend::Remote { slot, node } => remote.push((node, slot)),
            }
        }
        // Sorted, so that the same backends in another order are no change.
        local.sort_unstable();
        remote.sort_unstable();
        Self { route: served.route, local, remote, counter }
    }
}

impl Counter {
    fn read(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
        }
    }
}

impl Nodes {
    /// Cancelled when `node` is declared down.
    fn alive(&self, node: NodeId) -> CancellationToken {
        lock(&self.0).entry(node).or_default().clone()
    }
}

/// The guarded value, also after a panic elsewhere: every change under these locks is complete in itself.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
