//! `agentctl place`: make an app run, or run differently.

mod show;

use mesh_coordinator::catalogue::{Body, RecordKey, Release, Scale};
use mesh_coordinator::id::AppUid;
use mesh_coordinator::view::AppView;

use super::Waiting;
use crate::complete::{self, Kind};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::manifest::{self, Wanted};
use crate::mesh::Mesh;
use crate::output::{json, of};
use crate::plan::{Known, Plan, new_uid};
use crate::roster::Life;
use crate::ui::Ui;
use crate::wait::{self, Applied, Goal, Rollout};

/// Run an app, or change how it runs. Shows a plan before anything that runs is touched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  agentctl place ./blog\n  agentctl place hello:1 --name hello --port 8080 --replicas 2"
)]
pub(crate) struct Args {
    /// A directory with a compose file, a compose file, or the name of an image.
    #[arg(value_name = "APP", add = complete::of(Kind::Manifest))]
    app: String,
    /// The app's name; needed for an image.
    #[arg(long)]
    name: Option<String>,
    /// How many replicas; for an image.
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Publish a port, as PORT or PUBLISHED:PORT; for an image.
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<String>,
    /// Show the plan and stop.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
    /// Replaces the image's command.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Plans, asks, writes, and waits until the app runs.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let read = manifest::read(&Wanted {
        what: args.app.clone(),
        name: args.name.clone(),
        replicas: args.replicas,
        ports: args.ports.clone(),
        command: args.command.clone(),
    })?;
    let overview = mesh.overview().await?;
    let name = read.manifest.name.clone();
    let app = overview.apps.iter().find(|app| app.name == name);
    let uid = app.map_or_else(|| new_uid(&name, &overview), |app| app.uid);
    let release = current_release(uid, mesh).await?;
    let scales = scales(app, mesh).await?;
    let spec = manifest::resolve(read.manifest, &args.app, release.as_ref(), mesh).await?;
    let life = Life::of(&spec, &overview, release.as_ref(), mesh).await?;
    let known = Known {
        overview: &overview,
        life: &life,
        release: release.as_ref(),
        scales: &scales,
        replicas_given: args.replicas.is_some(),
    };
    let mut plan = Plan::new(spec, known);
    plan.warnings.extend(read.warnings);
    if !ui.is_json() {
        show::plan(&plan, &overview, ui)?;
    }
    if args.dry_run || !plan.changes() {
        finish(ui, &plan, None, None)?;
        return Ok(Outcome::Done);
    }
    if plan.disturbs() {
        ui.consent("Containers that run are replaced or stopped.", args.yes)?;
    }
    carry_out(args, plan, mesh, ui).await
}

async fn carry_out<M: Mesh>(
    args: &Args,
    plan: Plan,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let submitted = intent::submit(mesh, plan.bodies()).await?;
    let overview = mesh.overview().await?;
    let mut outcome = intent::report_stored(&submitted, &overview, ui)?;
    let stored = of::stored(&submitted, &overview);
    let mut rollout = None;
    if !args.waiting.detach {
        let goal = goal(&plan, args);
        let end = wait::until_ready(mesh, ui, goal).await?;
        end.report(ui)?;
        outcome = outcome.and(end.outcome());
        rollout = Some(end);
    }
    if !ui.is_json() {
        conclude(&plan, rollout.as_ref(), mesh, ui).await?;
    }
    finish(ui, &plan, Some(stored), rollout.as_ref())?;
    if !args.waiting.detach {
        what_now(&plan, rollout.as_ref(), ui)?;
    }
    Ok(outcome)
}

/// Says what to type next, above all to whoever waited in vain.
fn what_now(plan: &Plan, rollout: Option<&Rollout>, ui: &mut Ui) -> Result<(), Failure> {
    let name = &plan.spec.name;
    let Some(Rollout { old, .. }) = rollout.filter(|end| !end.faults.is_empty()) else {
        return ui.next(format!("agentctl logs -f {name}; agentctl ps {name}"));
    };
    ui.next(if *old > 0 {
        format!(
            "mend it and place it again, or place the earlier file to go back; agentctl ps {name} shows what serves. \
             The mesh goes on trying"
        )
    } else {
        format!(
            "mend it and place it again, or remove it: agentctl rm {name}. The mesh goes on trying"
        )
    })
}

fn goal<'a>(plan: &'a Plan, args: &Args) -> Goal<'a> {
    let applied = |app: &AppView| {
        if app.version > plan.version {
            Applied::Superseded(format!("v{} was placed after v{}", app.version, plan.version))
        } else if app.version == plan.version && app.running && has_services(app, plan) {
            Applied::Yes
        } else {
            Applied::Waiting
        }
    };
    Goal {
        app: plan.uid,
        services: Vec::new(),
        applied: Box::new(applied),
        timeout: args.waiting.timeout,
    }
}

fn has_services(app: &AppView, plan: &Plan) -> bool {
    plan.spec.services.keys().all(|name| app.services.iter().any(|service| service.name == *name))
}

/// Says how it ended, and which bound the app gets.
async fn conclude<M: Mesh>(
    plan: &Plan,
    rollout: Option<&Rollout>,
    mesh: &M,
    ui: &mut Ui,
) -> Result<(), Failure> {
    let name = &plan.spec.name;
    let version = plan.version;
    let line = match rollout {
        None => format!("{name} v{version} is placed; not waiting. agentctl ps {name}"),
        Some(Rollout { ready, wanted, old: 0, .. }) => {
            format!("{name} v{version}: {ready} of {wanted} replicas ready")
        }
        Some(Rollout { ready, wanted, old, .. }) => format!(
            "{name} v{version}: {ready} of {wanted} replicas ready; {old} of an earlier release serve"
        ),
    };
    ui.line(line)?;
    if rollout.is_some_and(|end| end.ready == 0 && !end.faults.is_empty()) {
        // What does not run has no failover.
        return Ok(());
    }
    let overview = mesh.overview().await?;
    show::bounds(&overview, plan, ui)
}

fn finish(
    ui: &mut Ui,
    plan: &Plan,
    stored: Option<json::Stored>,
    rollout: Option<&Rollout>,
) -> Result<(), Failure> {
    if !ui.is_json() {
        return Ok(());
    }
    let rollout = rollout.map(Rollout::document);
    ui.json(&json::Placed { plan: plan.document(), stored, rollout })
}

/// The release that holds.
async fn current_release<M: Mesh>(app: AppUid, mesh: &M) -> Result<Option<Release>, Failure> {
    let entry = mesh.record(&RecordKey::App(app)).await?;
    if let Some(Body::App(release)) = entry.map(|entry| entry.record.body) {
        Ok(Some(release))
    } else {
        Ok(None)
    }
}

/// What `agentctl scale` has set for the services of an app.
async fn scales<M: Mesh>(app: Option<&AppView>, mesh: &M) -> Result<Vec<Scale>, Failure> {
    let mut scales = Vec::new();
    let Some(app) = app else { return Ok(scales) };
    for service in &app.services {
        let key = RecordKey::Scale(app.uid, service.name.clone());
        if let Some(entry) = mesh.record(&key).await?
            && let Body::Scale(scale) = entry.record.body
        {
            scales.push(scale);
        }
    }
    Ok(scales)
}
