//! Views of the core as documents.

use std::time::Duration;

use mesh_coordinator::event::{Event, Subject};
use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::spec::{Mode, PublishMode, PublishedPort, Reservation};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{
    AppView, Candidate, ClaimView, Decision, NodeStatus, NodeView, Overview, ParkedView,
    ServiceView, SlotView, Why,
};
use mesh_ports::control::Submitted;
use mesh_ports::runtime::{Image, LogLine, Output};

use super::json;

/// A moment as RFC 3339, in UTC.
pub(crate) fn moment(at: WallTime) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| format!("{} ms", at.0), |at| format!("{at:.3}"))
}

/// The day of a moment, in UTC.
pub(crate) fn day(at: WallTime) -> String {
    let moment = moment(at);
    moment.split('T').next().unwrap_or_default().to_owned()
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in seconds, for people.
pub(crate) fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis().div_ceil(100);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} s"),
        (whole, part) => format!("{whole}.{part} s"),
    }
}

/// How long ago something was, in its largest unit.
pub(crate) fn ago(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The word for a phase.
pub(crate) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Intent => "intent",
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Unhealthy => "unhealthy",
        Phase::Failed => "failed",
        Phase::Released => "stopping",
        Phase::Ended => "ended",
    }
}

/// The word for the state of a node.
pub(crate) const fn node_status(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Alive => "alive",
        NodeStatus::Restarting => "restarting",
        NodeStatus::Down => "down",
        NodeStatus::Unknown => "unknown",
    }
}

/// How many replicas, `None` for one on every node.
pub(crate) const fn replicas(mode: Mode) -> Option<u32> {
    match mode {
        Mode::Replicated(n) => Some(n),
        Mode::Global => None,
    }
}

/// The slowest failover measured on the claims that serve.
pub(crate) fn last_failover(service: &ServiceView) -> Option<u32> {
    running(service).filter_map(|claim| claim.failover_ms).max()
}

/// The claims that hold slots of a service, but for those of dead nodes.
pub(crate) fn running(service: &ServiceView) -> impl Iterator<Item = &ClaimView> {
    let claims = service.slots.iter().flat_map(|slot| &slot.claims);
    claims.filter(|claim| claim.phase.holds() && claim.node_status != NodeStatus::Down)
}

/// How many slots hold a process that ended and must not be started again.
pub(crate) fn n_ended(service: &ServiceView) -> u32 {
    let is_ended = |slot: &&SlotView| {
        slot.wanted && slot.claims.iter().any(|claim| claim.current && claim.phase == Phase::Ended)
    };
    u32::try_from(service.slots.iter().filter(is_ended).count()).unwrap_or(u32::MAX)
}

/// How many slots are served by a replica of an earlier definition, and by none of the current one yet.
pub(crate) fn n_old(service: &ServiceView) -> u32 {
    let serves =
        |claim: &&ClaimView| claim.phase == Phase::Ready && claim.node_status != NodeStatus::Down;
    let is_old = |slot: &&SlotView| {
        let mut serving = slot.claims.iter().filter(serves).peekable();
        slot.wanted && serving.peek().is_some() && serving.all(|claim| !claim.current)
    };
    u32::try_from(service.slots.iter().filter(is_old).count()).unwrap_or(u32::MAX)
}

/// The name of a node, or its id when it is no member.
pub(crate) fn node_name(overview: &Overview, id: NodeId) -> String {
    let node = overview.nodes.iter().find(|node| node.id == id);
    node.map_or_else(|| id.to_string(), |node| node.name.to_string())
}

/// How many nodes can hold replicas at all.
pub(crate) fn n_places(overview: &Overview) -> usize {
    overview.nodes.iter().filter(|node| !node.witness_only).count()
}

/// The names of nodes.
pub(crate) fn node_names(overview: &Overview, ids: &[NodeId]) -> Vec<String> {
    ids.iter().map(|id| node_name(overview, *id)).collect()
}

/// The name of a slot, as people write it.
pub(crate) fn slot_name(overview: &Overview, slot: &SlotId) -> String {
    let app = overview.apps.iter().find(|app| app.uid == slot.app);
    let app = app.map_or_else(|| slot.app.to_string(), |app| app.name.to_string());
    format!("{app}/{}/{}", slot.service, slot.index)
}

/// An app.
pub(crate) fn app(app: &AppView) -> json::App {
    json::App {
        name: app.name.to_string(),
        uid: app.uid.to_string(),
        version: app.version,
        running: app.running,
        author: app.author.to_string(),
        written: moment(app.written),
        services: app.services.iter().map(service).collect(),
    }
}

/// An app that does not run.
pub(crate) fn parked(app: &ParkedView) -> json::Parked {
    json::Parked {
        name: app.name.to_string(),
        uid: app.uid.to_string(),
        version: app.version,
        author: app.author.to_string(),
        written: moment(app.written),
        services: app.services.iter().map(ToString::to_string).collect(),
        runs: app.runs.to_string(),
    }
}

fn service(service: &ServiceView) -> json::Service {
    json::Service {
        name: service.name.to_string(),
        image: service.image.clone(),
        digest: service.digest.clone(),
        revision: service.revision.number,
        exclusive: service.guarantee.is_exclusive(),
        replicas: replicas(service.mode),
        wanted: service.n_wanted,
        ready: service.n_ready,
        ports: service.ports.iter().map(port).collect(),
        failover_bound_ms: millis(service.failover_bound),
        last_failover_ms: last_failover(service),
        slots: service.slots.iter().map(slot).collect(),
    }
}

fn port(port: &PublishedPort) -> json::Port {
    json::Port {
        published: port.published,
        target: port.target,
        protocol: port.protocol.to_string(),
        mode: match port.mode {
            PublishMode::Mesh => "mesh".to_owned(),
            PublishMode::Host => "host".to_owned(),
        },
    }
}

/// A slot.
pub(crate) fn slot(slot: &SlotView) -> json::Slot {
    json::Slot {
        name: slot.name.clone(),
        wanted: slot.wanted,
        claims: slot.claims.iter().map(claim).collect(),
    }
}

fn claim(claim: &ClaimView) -> json::Claim {
    json::Claim {
        node: claim.node_name.to_string(),
        node_id: claim.node.to_string(),
        node_status: node_status(claim.node_status).to_owned(),
        revision: claim.revision.number,
        current: claim.current,
        phase: phase(claim.phase).to_owned(),
        yielding: claim.yielding,
        restarts: claim.restarts,
        failover_ms: claim.failover_ms,
        token: claim.token.map(|token| token.0),
        detail: claim.detail.clone(),
    }
}

/// A node.
pub(crate) fn node(node: &NodeView) -> json::Node {
    json::Node {
        name: node.name.to_string(),
        id: node.id.to_string(),
        status: node_status(node.status).to_owned(),
        drained: node.drained,
        witness_only: node.witness_only,
        labels: node.labels.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        weight: node.weight,
        capacity: node.capacity.map(amounts),
        reserved: amounts(node.reserved),
        claims: node.n_claims,
        version: node.version.clone(),
        addresses: node.addresses.clone(),
        heard_ago_ms: node.heard_ago.map(millis),
    }
}

const fn amounts(amounts: Reservation) -> json::Amounts {
    json::Amounts { cpu_millis: amounts.cpu.millis, memory_bytes: amounts.memory.0 }
}

/// The explanation of a slot, and its lease if it has one.
pub(crate) fn why(why: &Why, lease: Option<json::Lease>) -> json::Why {
    json::Why {
        slot: slot(&why.slot),
        lease,
        candidates: why.candidates.iter().map(candidate).collect(),
        decisions: why.decisions.iter().map(decision).collect(),
    }
}

fn candidate(candidate: &Candidate) -> json::Candidate {
    json::Candidate {
        node: candidate.node_name.to_string(),
        rank: candidate.rank,
        crowding: candidate.crowding,
        score: candidate.score.to_string(),
        refusals: candidate.refusals.clone(),
    }
}

fn decision(decision: &Decision) -> json::Decision {
    json::Decision { ago_ms: millis(decision.ago), text: decision.text.clone() }
}

/// An event, with the names that the overview knows.
pub(crate) fn event(event: &Event, overview: &Overview) -> json::Event {
    json::Event {
        at: moment(event.at),
        seen_by: node_name(overview, event.seen_by),
        severity: event.severity.to_string(),
        subject: match &event.subject {
            Subject::Mesh => "mesh".to_owned(),
            Subject::Node(node) => format!("node {}", node_name(overview, *node)),
            Subject::Slot(slot) => slot_name(overview, slot),
        },
        text: event.text.clone(),
    }
}

/// A line of the log of `slot`.
pub(crate) fn log_line(slot: &str, line: &LogLine) -> json::LogLine {
    json::LogLine {
        slot: slot.to_owned(),
        at: moment(line.written),
        stream: match line.output {
            Output::Stdout => "stdout".to_owned(),
            Output::Stderr => "stderr".to_owned(),
        },
        text: String::from_utf8_lossy(&line.text).into_owned(),
    }
}

/// An image.
pub(crate) fn image(image: &Image) -> json::Image {
    json::Image { digest: image.digest.clone(), names: image.names.clone(), bytes: image.bytes }
}

/// Where records were stored.
pub(crate) fn stored(submitted: &Submitted, overview: &Overview) -> json::Stored {
    json::Stored { stored_on: node_names(overview, &submitted.stored_on), peers: submitted.n_peers }
}
