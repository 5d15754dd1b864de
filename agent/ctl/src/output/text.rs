//! Views of the core as tables and lines for people.

use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::spec::{PublishMode, PublishedPort};
use mesh_coordinator::view::{
    AppView, Candidate, ClaimView, NodeStatus, NodeView, Overview, ParkedView, ServiceView,
    SlotView, Why,
};
use mesh_ports::runtime::Image;

use super::of;
use crate::ui::{Cell, Mood, Table, cell, table};

/// The longest image name that is shown whole in a table of apps.
const IMAGE_LEN_MAX: usize = 40;

/// Where a replica's token stands among its columns.
const TOKEN_PLACE: usize = 3;

/// How much of a node's id is shown: enough to name it by, and it leaves room for the rest.
const ID_SHOWN: usize = 8;

/// A table of services, one line each.
pub(crate) fn services(apps: &[&AppView]) -> Table {
    let columns =
        &["SERVICE", "IMAGE", "READY", "NODES", "PORTS", "BOUND", "LAST FAILOVER", "RELEASE"];
    let mut table = table(columns).spare(&["BOUND", "RELEASE", "LAST FAILOVER", "IMAGE"]);
    for app in apps {
        for service in &app.services {
            table.add_row(service_row(app, service));
        }
    }
    table
}

fn service_row(app: &AppView, service: &ServiceView) -> Vec<Cell> {
    let ended = of::n_ended(service);
    let serving = service.n_ready.saturating_add(ended).saturating_add(of::n_old(service));
    let mood = match (app.running, serving) {
        (false, _) => Mood::Plain,
        (true, 0) if service.n_wanted > 0 => Mood::Bad,
        (true, _) if of::n_old(service) > 0 => Mood::Busy,
        (true, ready) if ready < service.n_wanted => Mood::Busy,
        (true, _) => Mood::Good,
    };
    let ready = if app.running { ready(service) } else { "stopped".to_owned() };
    let last = of::last_failover(service).map_or_else(
        || "-".to_owned(),
        |millis| of::seconds(Duration::from_millis(u64::from(millis))),
    );
    vec![
        Cell::new(format!("{}/{}", app.name, service.name)),
        Cell::new(shortened(&service.image)),
        cell(ready, mood),
        Cell::new(holders(service)),
        Cell::new(ports(&service.ports)),
        Cell::new(of::seconds(service.failover_bound)),
        Cell::new(last),
        Cell::new(format!("v{} {}", app.version, service.revision)),
    ]
}

/// How many replicas are ready of those that are wanted, and what else there is that counts.
fn ready(service: &ServiceView) -> String {
    let mut ready = format!("{}/{}", service.n_ready, service.n_wanted);
    // An update that has not come far is no outage.
    let old = of::n_old(service);
    if old > 0 {
        ready.push_str(&format!(" (+{old} old)"));
    }
    let ended = of::n_ended(service);
    if ended > 0 {
        ready.push_str(&format!(", {ended} ended"));
    }
    ready
}

/// A table of replicas; with their fencing tokens where there are any.
pub(crate) fn replicas<'a>(slots: impl IntoIterator<Item = &'a SlotView>) -> Table {
    let slots: Vec<&SlotView> = slots.into_iter().collect();
    let has_tokens = slots.iter().flat_map(|slot| &slot.claims).any(|claim| claim.token.is_some());
    let columns: &[&str] = if has_tokens {
        &["REPLICA", "NODE", "STATE", "TOKEN", "REVISION", "RESTARTS", "FAILOVER", "DETAIL"]
    } else {
        &["REPLICA", "NODE", "STATE", "REVISION", "RESTARTS", "FAILOVER", "DETAIL"]
    };
    let mut table = table(columns).spare(&["FAILOVER", "RESTARTS", "TOKEN", "REVISION"]);
    for slot in slots {
        if slot.claims.is_empty() {
            table.add_row(vec![
                Cell::new(&slot.name),
                Cell::new("-"),
                cell("unclaimed", Mood::Bad),
            ]);
        }
        for claim in &slot.claims {
            let mut row = claim_row(slot, claim);
            if has_tokens {
                let token = claim.token.map_or_else(|| "-".to_owned(), |token| token.to_string());
                row.insert(TOKEN_PLACE, Cell::new(token));
            }
            table.add_row(row);
        }
    }
    table
}

/// A table of apps that do not run because another one has their name.
pub(crate) fn parked(apps: &[&ParkedView]) -> Table {
    let mut table = table(&["APP", "ID", "RELEASE", "SERVICES", "PLACED"]);
    for app in apps {
        let services: Vec<&str> = app.services.iter().map(ServiceName::as_str).collect();
        table.add_row(vec![
            Cell::new(&app.name),
            Cell::new(short(&app.uid)),
            Cell::new(format!("v{}", app.version)),
            Cell::new(services.join(", ")),
            Cell::new(of::moment(app.written)),
        ]);
    }
    table
}

/// What parked apps are, and what to do about them.
pub(crate) fn about_parked(apps: &[&ParkedView]) -> Vec<String> {
    let remedy = |app: &&ParkedView| {
        let (name, parked, runs) = (&app.name, short(&app.uid), short(&app.runs));
        format!(
            "agentctl rm {parked} removes the parked {name}; agentctl rm {runs} removes the {name} that runs, and the parked one runs instead"
        )
    };
    let what = "A parked app was placed on one side of a split, while another app of its name was placed on the other side. \
        Its containers were stopped when both sides met, and its release is kept.";
    std::iter::once(what.to_owned()).chain(apps.iter().map(remedy)).collect()
}

/// So much of an identity as is enough to type.
pub(crate) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(ID_SHOWN).collect()
}

fn claim_row(slot: &SlotView, claim: &ClaimView) -> Vec<Cell> {
    let failover = claim.failover_ms.map_or_else(
        || "-".to_owned(),
        |millis| of::seconds(Duration::from_millis(u64::from(millis))),
    );
    let revision = if claim.current {
        claim.revision.to_string()
    } else {
        format!("{} (old)", claim.revision)
    };
    vec![
        Cell::new(&slot.name),
        Cell::new(claim.node_name.to_string()),
        claim_state(slot, claim),
        Cell::new(revision),
        Cell::new(claim.restarts),
        Cell::new(failover),
        Cell::new(&claim.detail),
    ]
}

fn claim_state(slot: &SlotView, claim: &ClaimView) -> Cell {
    let mut words = vec![of::phase(claim.phase).to_owned()];
    if claim.phase != Phase::Released && (claim.yielding || !slot.wanted) {
        words.push("leaving".to_owned());
    }
    if claim.node_status != NodeStatus::Alive {
        words.push(format!("node {}", of::node_status(claim.node_status)));
    }
    let mood = match claim.phase {
        _ if claim.node_status == NodeStatus::Down => Mood::Bad,
        Phase::Ready => Mood::Good,
        Phase::Intent | Phase::Starting => Mood::Busy,
        Phase::Unhealthy | Phase::Failed => Mood::Bad,
        Phase::Released | Phase::Ended => Mood::Plain,
    };
    cell(words.join(", "), mood)
}

fn holders(service: &ServiceView) -> String {
    let claims = of::running(service);
    let mut names: Vec<&str> = claims.map(|claim| claim.node_name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn ports(ports: &[PublishedPort]) -> String {
    if ports.is_empty() {
        return "-".to_owned();
    }
    let port = |port: &PublishedPort| {
        let host = if port.mode == PublishMode::Host { " host" } else { "" };
        format!("{}→{}/{}{host}", port.published, port.target, port.protocol)
    };
    ports.iter().map(port).collect::<Vec<_>>().join(", ")
}

fn shortened(image: &str) -> String {
    let length = image.chars().count();
    if length <= IMAGE_LEN_MAX {
        return image.to_owned();
    }
    let tail: String = image.chars().skip(length.saturating_sub(IMAGE_LEN_MAX - 1)).collect();
    format!("…{tail}")
}

/// A table of nodes.
pub(crate) fn nodes(nodes: &[NodeView]) -> Table {
    let columns = &[
        "NODE", "ID", "STATE", "REPLICAS", "CPU", "MEMORY", "LABELS", "VERSION", "HEARD", "ADDRESS",
    ];
    let mut table = table(columns).spare(&["VERSION", "ID", "LABELS", "HEARD", "ADDRESS"]);
    for node in nodes {
        table.add_row(node_row(node));
    }
    table
}

fn node_row(node: &NodeView) -> Vec<Cell> {
    let mood = match node.status {
        NodeStatus::Alive if node.drained => Mood::Busy,
        NodeStatus::Alive => Mood::Good,
        NodeStatus::Restarting | NodeStatus::Unknown => Mood::Busy,
        NodeStatus::Down => Mood::Bad,
    };
    let mut state = of::node_status(node.status).to_owned();
    if node.drained {
        state.push_str(", drained");
    }
    if node.witness_only {
        state.push_str(", only witnesses");
    }
    let room = node.capacity.filter(|_| !node.witness_only);
    let (cpu, memory) = room.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |room| {
            (
                format!("{} of {}", node.reserved.cpu, room.cpu),
                format!("{} of {}", node.reserved.memory, room.memory),
            )
        },
    );
    let labels: Vec<String> =
        node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        Cell::new(node.name.to_string()),
        Cell::new(short(&node.id)),
        cell(state, mood),
        Cell::new(node.n_claims),
        Cell::new(cpu),
        Cell::new(memory),
        Cell::new(if labels.is_empty() { "-".to_owned() } else { labels.join(", ") }),
        Cell::new(node.version.as_deref().unwrap_or("-")),
        Cell::new(node.heard_ago.map_or_else(|| "never".to_owned(), of::ago)),
        Cell::new(node.addresses.first().map_or("-", String::as_str)),
    ]
}

/// The services that have fewer ready replicas than they should.
pub(crate) fn degraded(overview: &Overview) -> Vec<String> {
    let mut lines = Vec::new();
    for app in overview.apps.iter().filter(|app| app.running) {
        let short = |service: &&ServiceView| {
            service.n_ready.saturating_add(of::n_ended(service)) < service.n_wanted
        };
        for service in app.services.iter().filter(short) {
            lines.push(format!("{}/{} {}", app.name, service.name, ready(service)));
        }
    }
    lines
}

/// A table of the nodes as places for a slot.
pub(crate) fn candidates(why: &Why) -> Table {
    let columns = &["RANK", "NODE", "HOLDS", "OTHERS", "SCORE", "WHY NOT"];
    let mut table = table(columns).spare(&["SCORE", "OTHERS"]);
    for candidate in &why.candidates {
        table.add_row(candidate_row(why, candidate));
    }
    table
}

fn candidate_row(why: &Why, candidate: &Candidate) -> Vec<Cell> {
    let claim = why.slot.claims.iter().find(|claim| claim.node == candidate.node);
    let holds = claim.map_or_else(|| Cell::new("-"), |claim| claim_state(&why.slot, claim));
    vec![
        candidate.rank.map_or_else(|| cell("-", Mood::Bad), Cell::new),
        Cell::new(candidate.node_name.to_string()),
        holds,
        Cell::new(candidate.crowding),
        Cell::new(format!("{:016x}", candidate.score)),
        Cell::new(candidate.refusals.join(", ")),
    ]
}

/// The last decisions, one line each.
pub(crate) fn decisions(why: &Why) -> Vec<String> {
    why.decisions
        .iter()
        .map(|decision| format!("  {:>5} ago  {}", of::ago(decision.ago), decision.text))
        .collect()
}

/// The claims of a slot, one line each.
pub(crate) fn claims(slot: &SlotView) -> Vec<String> {
    let line = |claim: &ClaimView| {
        let mut line =
            format!("  {}: {} {}", claim.node_name, of::phase(claim.phase), claim.revision);
        if !claim.current {
            line.push_str(" (old)");
        }
        if let Some(token) = claim.token {
            line.push_str(&format!(" by token {token}"));
        }
        if claim.yielding {
            line.push_str(", waits to be relieved");
        }
        if claim.node_status != NodeStatus::Alive {
            line.push_str(&format!(", node {}", of::node_status(claim.node_status)));
        }
        if !claim.detail.is_empty() {
            line.push_str(&format!(", {}", claim.detail));
        }
        line
    };
    slot.claims.iter().map(line).collect()
}

/// A table of images.
pub(crate) fn images(images: &[Image]) -> Table {
    let mut table = table(&["IMAGE", "DIGEST", "SIZE"]);
    for image in images {
        let names = if image.names.is_empty() { "-".to_owned() } else { image.names.join(", ") };
        let digest: String = image.digest.chars().take("sha256:".len() + 12).collect();
        let size = mesh_coordinator::spec::Bytes(image.bytes);
        table.add_row(vec![Cell::new(names), Cell::new(digest), Cell::new(size.to_string())]);
    }
    table
}
