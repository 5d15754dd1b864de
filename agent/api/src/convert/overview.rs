//! The mesh as one node sees it.

use std::time::Duration;

use mesh_coordinator::spec::{Guarantee, Mode};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{
    AppView, ClaimView, NodeStatus, NodeView, Overview, ParkedView, ServiceView, SlotView,
};
use mesh_proto::v1;

use super::value::{
    app, key, labels, labels_to_wire, mesh, nanos, node, node_to_wire, phase, phase_to_wire, port,
    port_to_wire, reservation, reservation_to_wire, revision, revision_to_wire, slot, slot_to_wire,
    text, unknown,
};
use super::{Malformed, lease, required};

pub(crate) fn to_wire(view: &Overview) -> v1::OverviewAnswer {
    v1::OverviewAnswer {
        mesh: view.mesh.0.0.to_vec(),
        mesh_name: view.mesh_name.to_string(),
        seen_by: node_to_wire(view.seen_by),
        nodes: view.nodes.iter().map(node_view_to_wire).collect(),
        apps: view.apps.iter().map(app_to_wire).collect(),
        problems: view.problems.clone(),
        leaving: view.leaving.iter().map(slot_view_to_wire).collect(),
        removals: view.removals.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
        parked: view.parked.iter().map(parked_to_wire).collect(),
    }
}

pub(crate) fn from_wire(view: v1::OverviewAnswer) -> Result<Overview, Malformed> {
    Ok(Overview {
        mesh: mesh("mesh", &view.mesh)?,
        mesh_name: text("mesh_name", &view.mesh_name)?,
        seen_by: node("seen_by", &view.seen_by)?,
        nodes: view.nodes.into_iter().map(node_view).collect::<Result<_, _>>()?,
        apps: view.apps.into_iter().map(app_view).collect::<Result<_, _>>()?,
        leaving: view.leaving.into_iter().map(slot_view).collect::<Result<_, _>>()?,
        removals: view
            .removals
            .into_iter()
            .map(|(name, n)| Ok((text("removals", &name)?, n)))
            .collect::<Result<_, _>>()?,
        parked: view.parked.into_iter().map(parked).collect::<Result<_, _>>()?,
        problems: view.problems,
    })
}

fn parked_to_wire(view: &ParkedView) -> v1::ParkedItem {
    v1::ParkedItem {
        uid: view.uid.0.to_vec(),
        name: view.name.to_string(),
        version: view.version,
        author: view.author.0.to_vec(),
        written_ms: view.written.0,
        services: view.services.iter().map(ToString::to_string).collect(),
        runs: view.runs.0.to_vec(),
    }
}

fn parked(item: v1::ParkedItem) -> Result<ParkedView, Malformed> {
    let services = item.services.iter().map(|name| text("parked.services", name));
    Ok(ParkedView {
        uid: app("parked.uid", &item.uid)?,
        name: text("parked.name", &item.name)?,
        version: item.version,
        author: key("parked.author", &item.author)?,
        written: WallTime(item.written_ms),
        services: services.collect::<Result<_, _>>()?,
        runs: app("parked.runs", &item.runs)?,
    })
}

fn node_view_to_wire(view: &NodeView) -> v1::NodeItem {
    v1::NodeItem {
        id: node_to_wire(view.id),
        name: view.name.to_string(),
        status: status_to_wire(view.status),
        drained: view.drained,
        labels: labels_to_wire(&view.labels),
        weight: view.weight,
        capacity: view.capacity.map(reservation_to_wire),
        reserved: Some(reservation_to_wire(view.reserved)),
        n_claims: view.n_claims,
        version: view.version.clone(),
        addresses: view.addresses.clone(),
        heard_ago_ns: view.heard_ago.map(nanos),
        store: view.store.map(lease::store_to_wire).unwrap_or_default(),
        witness_only: view.witness_only,
    }
}

fn node_view(item: v1::NodeItem) -> Result<NodeView, Malformed> {
    Ok(NodeView {
        id: node("node.id", &item.id)?,
        name: text("node.name", &item.name)?,
        status: status("node.status", item.status)?,
        drained: item.drained,
        labels: labels("node.labels", item.labels)?,
        weight: item.weight,
        capacity: item.capacity.map(reservation),
        reserved: reservation(required("node.reserved", item.reserved)?),
        n_claims: item.n_claims,
        version: item.version,
        addresses: item.addresses,
        heard_ago: item.heard_ago_ns.map(Duration::from_nanos),
        store: match item.store.as_slice() {
            [] => None,
            bytes => Some(lease::store("node.store", bytes)?),
        },
        witness_only: item.witness_only,
    })
}

fn status_to_wire(status: NodeStatus) -> i32 {
    i32::from(match status {
        NodeStatus::Alive => v1::NodeCondition::Alive,
        NodeStatus::Restarting => v1::NodeCondition::Restarting,
        NodeStatus::Down => v1::NodeCondition::Down,
        NodeStatus::Unknown => v1::NodeCondition::Unknown,
    })
}

fn status(field: &'static str, status: i32) -> Result<NodeStatus, Malformed> {
    match v1::NodeCondition::try_from(status) {
        Ok(v1::NodeCondition::Alive) => Ok(NodeStatus::Alive),
        Ok(v1::NodeCondition::Restarting) => Ok(NodeStatus::Restarting),
        Ok(v1::NodeCondition::Down) => Ok(NodeStatus::Down),
        Ok(v1::NodeCondition::Unknown) => Ok(NodeStatus::Unknown),
        Ok(v1::NodeCondition::Unspecified) | Err(_) => Err(unknown(field, status)),
    }
}

fn app_to_wire(view: &AppView) -> v1::AppItem {
    v1::AppItem {
        uid: view.uid.0.to_vec(),
        name: view.name.to_string(),
        version: view.version,
        running: view.running,
        author: view.author.0.to_vec(),
        written_ms: view.written.0,
        services: view.services.iter().map(service_to_wire).collect(),
    }
}

fn app_view(item: v1::AppItem) -> Result<AppView, Malformed> {
    Ok(AppView {
        uid: app("app.uid", &item.uid)?,
        name: text("app.name", &item.name)?,
        version: item.version,
        running: item.running,
        author: key("app.author", &item.author)?,
        written: WallTime(item.written_ms),
        services: item.services.into_iter().map(service).collect::<Result<_, _>>()?,
    })
}

fn service_to_wire(view: &ServiceView) -> v1::ServiceItem {
    v1::ServiceItem {
        name: view.name.to_string(),
        image: view.image.clone(),
        digest: view.digest.clone(),
        revision: Some(revision_to_wire(view.revision)),
        mode: Some(match view.mode {
            Mode::Replicated(n) => v1::service_item::Mode::Replicated(n),
            Mode::Global => v1::service_item::Mode::Global(v1::Nothing {}),
        }),
        n_wanted: view.n_wanted,
        n_ready: view.n_ready,
        ports: view.ports.iter().map(port_to_wire).collect(),
        failover_bound_ns: nanos(view.failover_bound),
        slots: view.slots.iter().map(slot_view_to_wire).collect(),
        lease_ttl_ns: match view.guarantee {
            Guarantee::Available => 0,
            Guarantee::Exclusive { ttl } => nanos(ttl),
        },
    }
}

fn service(item: v1::ServiceItem) -> Result<ServiceView, Malformed> {
    Ok(ServiceView {
        name: text("service.name", &item.name)?,
        image: item.image,
        digest: item.digest,
        revision: revision("service.revision", item.revision)?,
        mode: match required("service.mode", item.mode)? {
            v1::service_item::Mode::Replicated(n) => Mode::Replicated(n),
            v1::service_item::Mode::Global(v1::Nothing {}) => Mode::Global,
        },
        n_wanted: item.n_wanted,
        n_ready: item.n_ready,
        ports: item.ports.into_iter().map(port).collect::<Result<_, _>>()?,
        failover_bound: Duration::from_nanos(item.failover_bound_ns),
        slots: item.slots.into_iter().map(slot_view).collect::<Result<_, _>>()?,
        guarantee: match item.lease_ttl_ns {
            0 => Guarantee::Available,
            ttl => Guarantee::Exclusive { ttl: Duration::from_nanos(ttl) },
        },
    })
}

pub(super) fn slot_view_to_wire(view: &SlotView) -> v1::SlotItem {
    v1::SlotItem {
        slot: Some(slot_to_wire(&view.slot)),
        name: view.name.clone(),
        wanted: view.wanted,
        claims: view.claims.iter().map(claim_to_wire).collect(),
    }
}

pub(super) fn slot_view(item: v1::SlotItem) -> Result<SlotView, Malformed> {
    Ok(SlotView {
        slot: slot("slot", item.slot)?,
        name: item.name,
        wanted: item.wanted,
        claims: item.claims.into_iter().map(claim).collect::<Result<_, _>>()?,
    })
}

fn claim_to_wire(view: &ClaimView) -> v1::ClaimSeen {
    v1::ClaimSeen {
        node: node_to_wire(view.node),
        node_name: view.node_name.to_string(),
        node_status: status_to_wire(view.node_status),
        revision: Some(revision_to_wire(view.revision)),
        current: view.current,
        phase: phase_to_wire(view.phase),
        yielding: view.yielding,
        restarts: view.restarts,
        failover_ms: view.failover_ms,
        detail: view.detail.clone(),
        token: view.token.map(|token| token.0),
    }
}

fn claim(item: v1::ClaimSeen) -> Result<ClaimView, Malformed> {
    Ok(ClaimView {
        node: node("claim.node", &item.node)?,
        node_name: text("claim.node_name", &item.node_name)?,
        node_status: status("claim.node_status", item.node_status)?,
        revision: revision("claim.revision", item.revision)?,
        current: item.current,
        phase: phase("claim.phase", item.phase)?,
        yielding: item.yielding,
        restarts: item.restarts,
        failover_ms: item.failover_ms,
        token: item.token.map(|token| lease::token("claim.token", token)).transpose()?,
        detail: item.detail,
    })
}
