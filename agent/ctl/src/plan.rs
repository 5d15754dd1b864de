//! What `place` is going to do, before it does it.
//!
//! A plan is made from the manifest, the release that holds, and what the mesh says; it is pure. The revision of a service is
//! kept exactly when what defines its container is equal, so that placing the same manifest again replaces nothing.

mod diff;

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Release, Run, Scale};
use mesh_coordinator::id::{AppUid, Hash};
use mesh_coordinator::lease::exclusive::WitnessId;
use mesh_coordinator::name::{AppName, ServiceName};
use mesh_coordinator::spec::{AppSpec, Mode, ServiceSpec, Template};
use mesh_coordinator::view::{AppView, Overview, ServiceView};

use crate::output::{json, of};
use crate::roster::Life;

/// What happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is new.
    Create,
    /// Its containers are replaced one after the other.
    Replace,
    /// Only the number of its replicas changes.
    Scale,
    /// Something changes that touches no container: ports, placement.
    Update,
    /// Nothing.
    Keep,
    /// It is gone from the manifest.
    Remove,
}

impl Action {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Scale => "scale",
            Self::Update => "update",
            Self::Keep => "keep",
            Self::Remove => "remove",
        }
    }
}

/// What happens to one service, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The service.
    pub(crate) service: ServiceName,
    /// What happens.
    pub(crate) action: Action,
    /// Why, one change on each line.
    pub(crate) reasons: Vec<String>,
    /// How many replicas there are now; `None` when it is new.
    pub(crate) now: Option<u32>,
    /// How many there will be.
    pub(crate) then: Mode,
    /// The failover bound, as far as the mesh can say it now.
    pub(crate) bound: Option<Duration>,
}

/// What is known before a plan is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The mesh.
    pub(crate) overview: &'a Overview,
    /// Which app it is, or will be.
    pub(crate) life: &'a Life,
    /// The release that holds, if the app exists.
    pub(crate) release: Option<&'a Release>,
    /// The numbers that `agentctl scale` has set.
    pub(crate) scales: &'a [Scale],
    /// True when the number of replicas was given on the command line.
    pub(crate) replicas_given: bool,
}

/// What is going to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Which life of the name.
    pub(crate) uid: AppUid,
    /// Among whom the witnesses of its exclusive slots are.
    pub(crate) roster: BTreeSet<WitnessId>,
    /// The number of the release: the next one, or the current one when nothing in it changes.
    pub(crate) version: u64,
    /// What will run, with its revisions.
    pub(crate) spec: AppSpec,
    /// Service by service.
    pub(crate) steps: Vec<Step>,
    /// True when the release itself changes.
    pub(crate) releases: bool,
    /// True when the app was stopped and is started by this.
    pub(crate) starts: bool,
    /// Numbers of replicas that the manifest takes back from `agentctl scale`.
    pub(crate) scales: Vec<Scale>,
    /// What the manifest's author should know.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Compares what is wanted, with its revisions, with what is there.
    pub(crate) fn new(wanted: AppSpec, known: Known<'_>) -> Self {
        let app = known.overview.apps.iter().find(|app| app.name == wanted.name);
        let uid = known.life.uid;
        let before = known.release.filter(|release| release.app == uid);
        let releases = before.is_none_or(|release| release.spec != wanted);
        let version =
            before.map_or(1, |release| release.version.saturating_add(u64::from(releases)));
        let mut plan = Self {
            uid,
            roster: known.life.roster.clone(),
            version,
            steps: Vec::new(),
            releases,
            starts: app.is_some_and(|app| !app.running),
            scales: Vec::new(),
            warnings: known.life.warnings.clone(),
            spec: wanted,
        };
        let services: Vec<_> =
            plan.spec.services.iter().map(|(name, spec)| (name.clone(), spec.clone())).collect();
        for (name, service) in services {
            let old = before.and_then(|release| release.spec.service(&name));
            let view = app.and_then(|app| view_of(app, &name));
            let step = plan.step(name, &service, Was { old, view }, known);
            plan.steps.push(step);
        }
        let gone = before.iter().flat_map(|release| &release.spec.services);
        for (name, old) in gone.filter(|(name, _)| !plan.spec.services.contains_key(name)) {
            plan.steps.push(removal(name, old, app.and_then(|app| view_of(app, name))));
        }
        plan
    }

    fn step(
        &mut self,
        name: ServiceName,
        service: &ServiceSpec,
        was: Was<'_>,
        known: Known<'_>,
    ) -> Step {
        let bound = was.view.map(|view| view.failover_bound).or_else(|| any_bound(known.overview));
        let now = was.view.map(|view| view.n_wanted);
        let Some(old) = was.old else {
            let then = service.deploy.mode;
            let reasons = vec![format!("image {}", service.template.image.name)];
            return Step { service: name, action: Action::Create, reasons, now, then, bound };
        };
        let then = self.replicas(&name, service, old, known);
        let mut reasons = diff::template(&old.template, &service.template);
        reasons.extend(diff::deploy(old, service));
        let is_updated = !reasons.is_empty();
        let counted = was.view.map(|view| view.mode);
        let is_scaled = counted.is_some_and(|mode| mode != then);
        if is_scaled {
            let from = counted.map_or_else(String::new, count);
            reasons.push(format!("replicas {from} → {}", count(then)));
        }
        let action = match (is_updated, is_scaled) {
            _ if old.revision != service.revision => Action::Replace,
            (true, _) => Action::Update,
            (false, true) => Action::Scale,
            (false, false) => Action::Keep,
        };
        Step { service: name, action, reasons, now, then, bound }
    }

    /// How many replicas the service gets: a number set by `agentctl scale` stays until somebody edits the manifest's.
    fn replicas(
        &mut self,
        name: &ServiceName,
        service: &ServiceSpec,
        old: &ServiceSpec,
        known: Known<'_>,
    ) -> Mode {
        let wanted = service.deploy.mode;
        let scaled = known.scales.iter().find(|scale| scale.service == *name);
        let (Some(scaled), Mode::Replicated(number)) = (scaled, wanted) else { return wanted };
        if scaled.replicas == number {
            return wanted;
        }
        if known.replicas_given || old.deploy.mode != wanted {
            self.scales.push(Scale { app: self.uid, service: name.clone(), replicas: number });
            return wanted;
        }
        let app = &self.spec.name;
        self.warnings.push(format!(
            "{name} keeps {} replicas, as `agentctl scale` set it; the manifest says {number}: agentctl scale {app}/{name}={number}",
            scaled.replicas
        ));
        Mode::Replicated(scaled.replicas)
    }

    /// Whether there is anything to do.
    pub(crate) fn changes(&self) -> bool {
        self.releases || self.starts || !self.scales.is_empty()
    }

    /// Whether something that runs is replaced or taken down.
    pub(crate) fn disturbs(&self) -> bool {
        self.steps.iter().any(|step| match step.action {
            Action::Replace | Action::Remove => step.now.is_some_and(|now| now > 0),
            Action::Scale | Action::Update => match (step.now, step.then) {
                (Some(now), Mode::Replicated(then)) => then < now,
                _ => false,
            },
            Action::Create | Action::Keep => false,
        })
    }

    /// The records that make it so.
    pub(crate) fn bodies(&self) -> Vec<Body> {
        let mut bodies = Vec::new();
        if self.releases {
            bodies.push(Body::App(Release {
                app: self.uid,
                version: self.version,
                spec: self.spec.clone(),
                roster: self.roster.clone(),
            }));
        }
        bodies.extend(self.scales.iter().cloned().map(Body::Scale));
        if self.starts {
            bodies.push(Body::Run(Run { app: self.uid, running: true }));
        }
        bodies
    }

    /// The plan as a document.
    pub(crate) fn document(&self) -> json::Plan {
        json::Plan {
            app: self.spec.name.to_string(),
            version: self.version,
            changes: self.changes(),
            steps: self.steps.iter().map(document).collect(),
            warnings: self.warnings.clone(),
        }
    }
}

/// What a service was before.
#[derive(Debug, Clone, Copy)]
struct Was<'a> {
    old: Option<&'a ServiceSpec>,
    view: Option<&'a ServiceView>,
}

fn document(step: &Step) -> json::Step {
    json::Step {
        service: step.service.to_string(),
        action: step.action.word().to_owned(),
        reasons: step.reasons.clone(),
        replicas_now: step.now,
        replicas: of::replicas(step.then),
        failover_bound_ms: step.bound.map(of::millis),
    }
}

fn removal(name: &ServiceName, old: &ServiceSpec, view: Option<&ServiceView>) -> Step {
    let mode = match old.deploy.mode {
        Mode::Replicated(number) => number,
        Mode::Global => 0,
    };
    Step {
        service: name.clone(),
        action: Action::Remove,
        reasons: vec!["not in the manifest any more".to_owned()],
        now: Some(view.map_or(mode, |view| view.n_wanted)),
        then: Mode::Replicated(0),
        bound: None,
    }
}

fn view_of<'a>(app: &'a AppView, name: &ServiceName) -> Option<&'a ServiceView> {
    app.services.iter().find(|service| service.name == *name)
}

/// The identity of the next app of that name without exclusive services.
pub(crate) fn new_uid(name: &AppName, overview: &Overview) -> AppUid {
    let n_removals = overview.removals.get(name).copied().unwrap_or(0);
    AppUid::of(overview.mesh, name, n_removals)
}

/// The worst bound among what is placed already: the mesh gives a new service no better one.
fn any_bound(overview: &Overview) -> Option<Duration> {
    let services = overview.apps.iter().flat_map(|app| &app.services);
    services.map(|service| service.failover_bound).max()
}

/// A number of replicas, in words.
pub(crate) fn count(mode: Mode) -> String {
    match mode {
        Mode::Replicated(number) => number.to_string(),
        Mode::Global => "one per node".to_owned(),
    }
}

/// The identity of a new definition of a container that follows the release `before`.
///
/// Only equality counts. The release is part of it, so that going back to an old definition makes a new identity, while the same
/// change made on both sides of a split makes the same.
pub(crate) fn revision_id(before: Option<&Release>, template: &Template) -> u64 {
    let version = before.map_or(0, |release| release.version);
    let definition = format!("{template:?}");
    Hash::of(&[b"mesh revision", &version.to_be_bytes(), definition.as_bytes()]).head()
}
