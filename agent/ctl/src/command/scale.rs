//! `agentctl scale`: how many replicas, whatever the manifest says.

use std::str::FromStr;

use mesh_coordinator::catalogue::{Body, Scale};
use mesh_coordinator::spec::{Mode, REPLICAS_MAX};
use mesh_coordinator::view::{AppView, Overview};

use super::{Change, Waiting};
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::of;
use crate::target;
use crate::ui::Ui;
use crate::wait::{self, Applied, Goal, Rollout};

/// Change how many replicas services have.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  agentctl scale blog/web=5\n  agentctl scale -a blog web=5 worker=2"
)]
pub(crate) struct Args {
    /// What to scale: [app/]service=N.
    #[arg(required = true, value_name = "SERVICE=N", add = complete::of(Kind::Scale))]
    services: Vec<Request>,
    /// The app of services that are named without one.
    #[arg(short, long, add = complete::of(Kind::App(Which::All)))]
    app: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
}

/// One service and its new number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    app: Option<String>,
    service: String,
    replicas: u32,
}

impl FromStr for Request {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not [app/]service=N with N from 0 to {REPLICAS_MAX}");
        let (name, number) = text.split_once('=').ok_or_else(wrong)?;
        let replicas = number.parse().ok().filter(|n| *n <= REPLICAS_MAX).ok_or_else(wrong)?;
        let (app, service) = match name.split_once('/') {
            Some((app, service)) => (Some(app.to_owned()), service),
            None => (None, name),
        };
        if service.is_empty() || service.contains('/') || app.as_deref() == Some("") {
            return Err(wrong());
        }
        Ok(Self { app, service: service.to_owned(), replicas })
    }
}

/// Writes the numbers and waits until they are reached.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let wanted = wanted(args, &overview)?;
    let words = words(&wanted);
    let changed: Vec<&Wanted<'_>> = wanted.iter().filter(|wanted| wanted.changes()).collect();
    if changed.is_empty() {
        Change { change: words, stored: None, rollout: None }.print(ui)?;
        return Ok(Outcome::Done);
    }
    if changed.iter().any(|wanted| wanted.scale.replicas < wanted.now) {
        ui.consent("Containers that run are stopped.", args.yes)?;
    }
    let bodies = changed.iter().map(|wanted| Body::Scale(wanted.scale.clone())).collect();
    let submitted = intent::submit(mesh, bodies).await?;
    let mut outcome = intent::report_stored(&submitted, &overview, ui)?;
    let mut rollout = None;
    for app in apps(&changed) {
        if args.waiting.detach || !app.running {
            continue;
        }
        let end = wait::until_ready(mesh, ui, goal(app, &changed, args)).await?;
        end.report(ui)?;
        outcome = outcome.and(end.outcome());
        rollout = Some(rollout.map_or_else(|| end.clone(), |before| merged(before, end.clone())));
    }
    let stored = Some(of::stored(&submitted, &overview));
    let rollout = rollout.as_ref().map(Rollout::document);
    Change { change: args.waiting.words(words), stored, rollout }.print(ui)?;
    Ok(outcome)
}

/// A service that is to be scaled.
struct Wanted<'a> {
    app: &'a AppView,
    scale: Scale,
    mode: Mode,
    now: u32,
}

impl Wanted<'_> {
    fn changes(&self) -> bool {
        self.mode != Mode::Replicated(self.scale.replicas)
    }
}

fn wanted<'a>(args: &Args, overview: &'a Overview) -> Result<Vec<Wanted<'a>>, Failure> {
    let mut wanted = Vec::new();
    for request in &args.services {
        let name = request.app.as_deref().or(args.app.as_deref());
        let app = match (name, overview.apps.as_slice()) {
            (Some(name), _) => target::app(overview, name)?,
            (None, [only]) => only,
            (None, _) => return Err(no_app(request, overview)),
        };
        let service = target::service(app, &request.service)?;
        if service.mode == Mode::Global {
            return Err(Failure::usage(
                format!(
                    "{}/{} has one replica on every suitable node, so it has no number to change",
                    app.name, service.name
                ),
                format!("agentctl ps {}; labels and drains say which nodes are suitable", app.name),
            ));
        }
        let scale =
            Scale { app: app.uid, service: service.name.clone(), replicas: request.replicas };
        wanted.push(Wanted { app, scale, mode: service.mode, now: service.n_wanted });
    }
    Ok(wanted)
}

/// A service without its app, of which there are several or none.
fn no_app(request: &Request, overview: &Overview) -> Failure {
    let Request { service, replicas, .. } = request;
    let services = overview.apps.iter().flat_map(|app| {
        app.services
            .iter()
            .map(|service| (service.name.as_str(), format!("{}/{}", app.name, service.name)))
    });
    let (names, wholes): (Vec<&str>, Vec<String>) = services.unzip();
    let meant = target::nearest(service, &names);
    let all = names.iter().zip(&wholes);
    let meant: Vec<&str> =
        all.filter(|(name, _)| Some(**name) == meant).map(|(_, whole)| whole.as_str()).collect();
    let Some(first) = meant.first() else {
        let wholes: Vec<&str> = wholes.iter().map(String::as_str).collect();
        let hint = target::hint(service, &wholes);
        return Failure::usage(format!("there is no service {service:?}: {hint}"), "agentctl ps");
    };
    Failure::usage(
        format!("which app is {service} of? did you mean {}?", meant.join(" or ")),
        format!("agentctl scale {first}={replicas}"),
    )
}

fn words(wanted: &[Wanted<'_>]) -> String {
    let one = |wanted: &Wanted<'_>| {
        format!("{}/{}={}", wanted.app.name, wanted.scale.service, wanted.scale.replicas)
    };
    format!("scaled {}", wanted.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// The apps concerned, each once.
fn apps<'a>(wanted: &[&Wanted<'a>]) -> Vec<&'a AppView> {
    let mut apps: Vec<&AppView> = wanted.iter().map(|wanted| wanted.app).collect();
    apps.sort_by_key(|app| app.uid);
    apps.dedup_by_key(|app| app.uid);
    apps
}

fn goal<'a>(app: &AppView, wanted: &'a [&Wanted<'a>], args: &Args) -> Goal<'a> {
    let uid = app.uid;
    let mine = move || wanted.iter().filter(move |wanted| wanted.app.uid == uid);
    let applied = move |app: &AppView| {
        let arrived = mine().all(|wanted| {
            let mut services = app.services.iter();
            services.any(|service| {
                service.name == wanted.scale.service
                    && service.mode == Mode::Replicated(wanted.scale.replicas)
            })
        });
        if arrived { Applied::Yes } else { Applied::Waiting }
    };
    Goal {
        app: uid,
        services: mine().map(|wanted| wanted.scale.service.to_string()).collect(),
        applied: Box::new(applied),
        timeout: args.waiting.timeout,
    }
}

fn merged(before: Rollout, after: Rollout) -> Rollout {
    Rollout {
        ready: before.ready + after.ready,
        wanted: before.wanted + after.wanted,
        old: before.old + after.old,
        faults: before.faults.into_iter().chain(after.faults).collect(),
    }
}
