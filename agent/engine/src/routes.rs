//! What is published at the moment, from the catalogue and the claims.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use mesh_coordinator::catalogue::App;
use mesh_coordinator::fact::{Claim, Phase};
use mesh_coordinator::id::{AppUid, NodeId, SlotId};
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::node::Node;
use mesh_coordinator::spec::{Protocol, PublishMode};
use mesh_coordinator::view::NodeStatus;
use mesh_ports::network::{Backend, Route};

/// Addresses of containers on this node, by slot and revision.
pub(crate) type Addresses = BTreeMap<(SlotId, u64), Ipv4Addr>;

/// Every published port with its ready replicas.
///
/// Replicas of any revision serve as long as they are ready: during a replacement both do. What was released still answers for
/// a moment but gets no new connections.
pub(crate) fn routes(node: &Node, addresses: &Addresses) -> Vec<(Route, Vec<Backend>)> {
    let mut routes = Vec::new();
    for (uid, app) in &node.state().apps {
        for route in published(*uid, app) {
            let backends = backends(node, addresses, &route);
            routes.push((route, backends));
        }
    }
    routes
}

fn published(uid: AppUid, app: &App) -> Vec<Route> {
    let services = app.release.spec.services.iter().filter(|_| app.running);
    let ports = services.flat_map(|(name, spec)| spec.ports.iter().map(move |port| (name, port)));
    ports
        .filter(|(_, port)| port.mode == PublishMode::Mesh && port.protocol == Protocol::Tcp)
        .map(|(name, port)| route(uid, name, port.published, port.target))
        .collect()
}

fn route(app: AppUid, service: &ServiceName, published: u16, target: u16) -> Route {
    Route { published, app, service: service.clone(), target }
}

fn backends(node: &Node, addresses: &Addresses, route: &Route) -> Vec<Backend> {
    let serves = |claim: &Claim| {
        claim.slot.app == route.app
            && claim.slot.service == route.service
            && claim.phase == Phase::Ready
    };
    let local = node.claims().filter(|claim| serves(claim)).filter_map(|claim| {
        let address = local_address(addresses, claim)?;
        Some(Backend::Local {
            slot: claim.slot.clone(),
            address: SocketAddr::from((address, route.target)),
        })
    });
    let remote = node
        .known_claims()
        .filter(|(holder, claim)| serves(claim) && is_alive(node, *holder))
        .map(|(holder, claim)| Backend::Remote { slot: claim.slot.clone(), node: holder });
    local.chain(remote).collect()
}

/// The way to a port of a ready replica of `slot` on this node.
pub(crate) fn local_backend(
    node: &Node,
    addresses: &Addresses,
    slot: &SlotId,
    target: u16,
) -> Option<SocketAddr> {
    // A connection that another agent opened may arrive a moment after the release: the drain answers it.
    let usable = |claim: &&Claim| {
        claim.slot == *slot && matches!(claim.phase, Phase::Ready | Phase::Released)
    };
    let ready_first = |claim: &&Claim| claim.phase != Phase::Ready;
    let mut claims: Vec<&Claim> = node.claims().filter(usable).collect();
    claims.sort_by_key(ready_first);
    let address = claims.into_iter().find_map(|claim| local_address(addresses, claim))?;
    Some(SocketAddr::from((address, target)))
}

fn local_address(addresses: &Addresses, claim: &Claim) -> Option<Ipv4Addr> {
    addresses.get(&(claim.slot.clone(), claim.revision.id)).copied()
}

fn is_alive(node: &Node, holder: NodeId) -> bool {
    node.status(holder) == Some(NodeStatus::Alive)
}
