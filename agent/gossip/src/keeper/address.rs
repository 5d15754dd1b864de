//! The task that keeps the book of where members are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use mesh_coordinator::id::NodeId;
use mesh_ports::directory::Peer;
use tracing::{debug, warn};

use crate::addresses::Addresses;
use crate::config::{INTERVAL_MIN, Ports};
use crate::handle::Shared;

/// How often the directory is asked for changes. A member that joins is reached at once by its own first datagram, so this only
/// matters for those that wait to be called.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many names are looked up at a time.
const LOOKUPS: usize = 16;

type Book = Vec<(NodeId, SocketAddr)>;

/// Takes over the saved book and the directory's literal addresses. Returns what is saved.
pub(crate) async fn load(ports: &Ports, addresses: &Addresses) -> Book {
    let book = Arc::clone(&ports.book);
    let saved = tokio::task::spawn_blocking(move || book.load()).await.unwrap_or_default();
    let members = saved.iter().filter(|(node, _)| ports.directory.peer(*node).is_some());
    for (node, address) in members {
        addresses.list(*node, *address);
    }
    drop(list_literals(&ports.directory.peers(), addresses));
    saved
}

/// Follows the directory and saves the book when it changed.
pub(crate) async fn keep(ports: Ports, shared: Arc<Shared>, mut saved: Book, every: Duration) {
    let mut peers: Option<Arc<Vec<Peer>>> = None;
    let mut due = tokio::time::Instant::now();
    let pause = LOOK_INTERVAL.min(every).max(INTERVAL_MIN);
    loop {
        let now = ports.directory.peers();
        if tokio::time::Instant::now() >= due || peers.as_ref() != Some(&now) {
            due = tokio::time::Instant::now() + every;
            let names = list_literals(&now, &shared.addresses);
            resolve(&ports, names, &shared.addresses).await;
            shared.addresses.retain(|node| ports.directory.peer(node).is_some());
            peers = Some(now);
            save(&ports, &shared.addresses, &mut saved).await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Lists the addresses that need no lookup; returns the nodes whose address has a name.
fn list_literals(peers: &[Peer], addresses: &Addresses) -> Vec<(NodeId, String)> {
    let mut names = Vec::new();
    for peer in peers.iter().filter(|peer| !peer.gossip.is_empty()) {
        match peer.gossip.parse() {
            Ok(address) => addresses.list(peer.node, address),
            Err(_) => names.push((peer.node, peer.gossip.clone())),
        }
    }
    names
}

async fn resolve(ports: &Ports, names: Vec<(NodeId, String)>, addresses: &Addresses) {
    let lookups = names.into_iter().map(|(node, name)| {
        let lookup = (ports.resolve)(name.clone());
        async move {
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await.unwrap_or_default();
            (node, name, found.first().copied())
        }
    });
    let mut lookups = futures_util::stream::iter(lookups).buffer_unordered(LOOKUPS);
    while let Some((node, name, found)) = lookups.next().await {
        match found {
            Some(address) => addresses.list(node, address),
            None => debug!(peer = %node, name, "a name does not resolve"),
        }
    }
}

async fn save(ports: &Ports, addresses: &Addresses, saved: &mut Book) {
    let book = addresses.book();
    if book == *saved {
        return;
    }
    saved.clone_from(&book);
    let port = Arc::clone(&ports.book);
    if let Err(error) = tokio::task::spawn_blocking(move || port.save(&book)).await {
        warn!(%error, "the address book was not saved");
    }
}
