//! Candidates out of what there is. Nothing here asks anybody.

use std::collections::BTreeSet;

use mesh_coordinator::spec::Mode;
use mesh_coordinator::view::{AppView, NodeStatus, NodeView, Overview, ServiceView, SlotView};
use mesh_identity::operator::{Context, Contexts};

use crate::output::of;
use crate::roll::{Roll, Seat};
use crate::target;

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The address of an agent.
    Agent,
    /// An app; those that run, or those that are stopped.
    App(Which),
    /// A context of the configuration file.
    Context,
    /// A label of a node, to be set or removed.
    Label,
    /// A manifest or an image.
    Manifest,
    /// A node; those in use, or those that are drained.
    Node(Which),
    /// An operator; those who are one, or those who were removed.
    Operator(Which),
    /// An app, or some of its replicas.
    Replicas,
    /// A service and its number of replicas.
    Scale,
    /// An app, or one of its services.
    Service,
    /// One replica.
    Slot,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All.
    All,
    /// Those on which the command has an effect while they are as usual.
    Active,
    /// Those that were taken out of use.
    Inactive,
}

impl Which {
    const fn fits(self, is_active: bool) -> bool {
        match self {
            Self::All => true,
            Self::Active => is_active,
            Self::Inactive => !is_active,
        }
    }
}

/// Something to type, and a word on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) value: String,
    pub(super) help: String,
}

fn candidate(value: impl ToString, help: impl Into<String>) -> Candidate {
    Candidate { value: value.to_string(), help: help.into() }
}

/// What of the mesh may be meant by a word that is `current` so far; `app` is the one that was named before, for services without one.
pub(super) fn of_overview(
    kind: Kind,
    overview: &Overview,
    current: &str,
    app: Option<&str>,
) -> Vec<Candidate> {
    let parts = Parts { overview, current };
    match kind {
        Kind::App(which) => apps(overview, which),
        Kind::Label => labels(overview),
        Kind::Node(which) => nodes(overview, which),
        Kind::Replicas => parts.any(3),
        Kind::Scale => parts.scale(app),
        Kind::Service => parts.any(2),
        Kind::Slot => parts.whole(3),
        Kind::Agent | Kind::Context | Kind::Manifest | Kind::Operator(_) => Vec::new(),
    }
}

fn apps(overview: &Overview, which: Which) -> Vec<Candidate> {
    let apps = overview.apps.iter().filter(|app| which.fits(app.running));
    apps.map(|app| candidate(&app.name, of_app(app))).collect()
}

fn of_app(app: &AppView) -> String {
    if !app.running {
        return "stopped".to_owned();
    }
    let sum = |count: fn(&ServiceView) -> u32| app.services.iter().map(count).sum::<u32>();
    let (ready, wanted) = (sum(|service| service.n_ready), sum(|service| service.n_wanted));
    format!("{ready} of {wanted} ready")
}

fn of_service(service: &ServiceView) -> String {
    format!("{} of {} ready", service.n_ready, service.n_wanted)
}

fn of_slot(slot: &SlotView) -> String {
    let one = |claim: &mesh_coordinator::view::ClaimView| {
        format!("{} on {}", of::phase(claim.phase), claim.node_name)
    };
    slot.claims.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn nodes(overview: &Overview, which: Which) -> Vec<Candidate> {
    let nodes = overview.nodes.iter().filter(|node| which.fits(!node.drained));
    nodes.map(|node| candidate(&node.name, of_node(node))).collect()
}

fn of_node(node: &NodeView) -> String {
    let drained = if node.drained { ", drained" } else { "" };
    match node.status {
        NodeStatus::Alive => format!("{} replicas{drained}", node.n_claims),
        NodeStatus::Restarting | NodeStatus::Down | NodeStatus::Unknown => {
            format!("{}{drained}", of::node_status(node.status))
        }
    }
}

/// The labels that there are, each to be set on another node or to be removed.
fn labels(overview: &Overview) -> Vec<Candidate> {
    let mut found = BTreeSet::new();
    for node in &overview.nodes {
        for (key, value) in &node.labels {
            found.insert(candidate(format!("{}={value}", key.as_str()), "sets it"));
            found.insert(candidate(format!("{}-", key.as_str()), "removes it"));
        }
    }
    found.into_iter().collect()
}

/// Names of up to three parts, completed part by part.
struct Parts<'a> {
    overview: &'a Overview,
    current: &'a str,
}

impl Parts<'_> {
    /// The names with so many parts that begin with what was typed.
    fn with(&self, n_parts: usize) -> Vec<Candidate> {
        let apps = &self.overview.apps;
        let services = || apps.iter().flat_map(|app| app.services.iter().map(move |it| (app, it)));
        let mut all: Vec<Candidate> = match n_parts {
            1 => apps.iter().map(|app| candidate(&app.name, of_app(app))).collect(),
            2 => services()
                .map(|(app, it)| candidate(format!("{}/{}", app.name, it.name), of_service(it)))
                .collect(),
            _ => services()
                .flat_map(|(_, service)| target::replicas(service))
                .map(|slot| candidate(&slot.name, of_slot(slot)))
                .collect(),
        };
        all.retain(|candidate| candidate.value.starts_with(self.current));
        all
    }

    /// How many parts the word has so far.
    fn n_typed(&self) -> usize {
        self.current.matches('/').count().saturating_add(1)
    }

    /// Names of `n_parts` parts only: shorter ones, with a slash, until one is chosen.
    fn whole(&self, n_parts: usize) -> Vec<Candidate> {
        for n in self.n_typed()..n_parts {
            let here = self.with(n);
            if here.len() != 1 {
                let more = |it: Candidate| Candidate { value: format!("{}/", it.value), ..it };
                return here.into_iter().map(more).collect();
            }
        }
        self.with(n_parts)
    }

    /// Names of up to `n_parts` parts: where only one can be meant its parts are offered too, unless they are the same.
    fn any(&self, n_parts: usize) -> Vec<Candidate> {
        let mut found = self.with(self.n_typed());
        if found.len() != 1 {
            return found;
        }
        for n in self.n_typed().saturating_add(1)..=n_parts {
            let here = self.with(n);
            if here.len() != 1 {
                found.extend(here);
                break;
            }
        }
        found
    }

    /// `service=` of the app that was named, or of the only one; else `app/service=`.
    fn scale(&self, named: Option<&str>) -> Vec<Candidate> {
        let apps = &self.overview.apps;
        if self.current.contains('=') {
            return Vec::new();
        }
        let named = apps.iter().find(|app| Some(app.name.as_str()) == named);
        let only = match apps.as_slice() {
            [only] if !self.current.contains('/') => Some(only),
            _ => None,
        };
        if let Some(app) = named.or(only) {
            return scalable(app).map(|it| number(it.name.as_str(), it)).collect();
        }
        let here: Vec<&AppView> = apps
            .iter()
            .filter(|app| self.is_begun(app) && scalable(app).next().is_some())
            .collect();
        match here.as_slice() {
            [app] => {
                scalable(app).map(|it| number(&format!("{}/{}", app.name, it.name), it)).collect()
            }
            several => {
                several.iter().map(|app| candidate(format!("{}/", app.name), of_app(app))).collect()
            }
        }
    }

    /// Whether the word so far can be about this app.
    fn is_begun(&self, app: &AppView) -> bool {
        match self.current.split_once('/') {
            Some((name, _)) => app.name.as_str() == name,
            None => app.name.as_str().starts_with(self.current),
        }
    }
}

/// The services that have a number of replicas.
fn scalable(app: &AppView) -> impl Iterator<Item = &ServiceView> {
    app.services.iter().filter(|service| service.mode != Mode::Global)
}

fn number(name: &str, service: &ServiceView) -> Candidate {
    candidate(format!("{name}="), format!("now {}", service.n_wanted))
}

/// The contexts of a file.
pub(super) fn contexts(contexts: &Contexts) -> Vec<Candidate> {
    let of_context = |one: &Context| {
        let current = if contexts.current() == Some(&one.name) { ", the current one" } else { "" };
        format!("{} on {}{current}", one.operator_name, one.mesh_name)
    };
    contexts.all().iter().map(|one| candidate(&one.name, of_context(one))).collect()
}

/// The agents that a context knows.
pub(super) fn agents(context: &Context) -> Vec<Candidate> {
    context.agents.iter().map(|agent| candidate(&agent.address, "")).collect()
}

/// Operators, or those who were.
pub(super) fn operators(roll: &Roll, which: Which) -> Vec<Candidate> {
    let seats = roll.seats().into_iter().chain(roll.removed());
    let seats = seats.filter(|seat| which.fits(!seat.removed));
    seats.map(|Seat { name, role, .. }| candidate(name, role.to_string())).collect()
}

/// The names of images.
pub(super) fn images(names: &[String]) -> Vec<Candidate> {
    names.iter().map(|name| candidate(name, "image")).collect()
}

#[cfg(test)]
mod tests;
