//! What is published at the moment, from the catalogue and the claims.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_coordinator::catalogue::App;
use mesh_coordinator::fact::{Claim, Phase};
use mesh_coordinator::id::{AppUid, NodeId, SlotId};
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::node::Node;
use mesh_coordinator::spec::{Protocol, PublishMode};
use mesh_ports::network::{Backend, Route};

use crate::replicas::Replicas;

/// The ready claims of each service, those of this node first, where the holder is `None`.
type Ready<'a> = BTreeMap<(AppUid, &'a ServiceName), Vec<(Option<NodeId>, &'a Claim)>>;

/// Every published port with its ready replicas.
///
/// Replicas of any revision serve as long as they are ready: during a replacement both do. What was released still answers for
/// a moment but gets no new connections.
pub(crate) fn routes(node: &Node, replicas: &Replicas) -> Vec<(Route, Vec<Backend>)> {
    let ready = ready(node);
    let mut routes = Vec::new();
    for (uid, app) in &node.state().apps {
        for route in published(*uid, app) {
            let backends = backends(&ready, replicas, &route);
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

fn ready(node: &Node) -> Ready<'_> {
    let mut ready = Ready::new();
    for (holder, claim) in node.serving() {
        let service = (claim.slot.app, &claim.slot.service);
        let other = (holder != node.id()).then_some(holder);
        ready.entry(service).or_default().push((other, claim));
    }
    ready
}

fn backends(ready: &Ready<'_>, replicas: &Replicas, route: &Route) -> Vec<Backend> {
    let claims = ready.get(&(route.app, &route.service)).into_iter().flatten();
    let backend = |(holder, claim): &(Option<NodeId>, &Claim)| {
        let slot = claim.slot.clone();
        if let Some(node) = *holder {
            return Some(Backend::Remote { slot, node });
        }
        let address = replicas.address(&slot, claim.revision)?;
        Some(Backend::Local { slot, address: SocketAddr::from((address, route.target)) })
    };
    claims.filter_map(backend).collect()
}

/// The way to a port of a ready replica of `slot` on this node.
pub(crate) fn local_backend(
    node: &Node,
    replicas: &Replicas,
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
    let address = claims.into_iter().find_map(|claim| replicas.address(slot, claim.revision))?;
    Some(SocketAddr::from((address, target)))
}
