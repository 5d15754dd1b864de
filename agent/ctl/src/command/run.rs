//! `agentctl restart`, `stop` and `start`: whether an app runs, and that it runs anew.

use mesh_coordinator::catalogue::{Body, RecordKey, Restart, Run};
use mesh_coordinator::id::{AppUid, Revision};
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::view::AppView;

use super::{Change, Waiting};
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::of;
use crate::target::{self, Target};
use crate::ui::Ui;
use crate::wait::{self, Applied, Goal};

/// Stop an app and keep it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl stop blog; agentctl start blog")]
pub(crate) struct StopArgs {
    /// Which app.
    #[arg(add = complete::of(Kind::App(Which::Active)))]
    app: String,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
}

/// Start a stopped app.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl stop blog; agentctl start blog")]
pub(crate) struct StartArgs {
    /// Which app.
    #[arg(add = complete::of(Kind::App(Which::Inactive)))]
    app: String,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
}

/// Replace the containers of an app, one after the other.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl restart blog/web")]
pub(crate) struct RestartArgs {
    /// Which app, or app/service.
    #[arg(value_name = "APP[/SERVICE]", add = complete::of(Kind::Service))]
    target: Target,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
}

/// Restarts services and waits until the new containers are ready.
pub(crate) async fn restart<M: Mesh>(
    args: &RestartArgs,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let app = target::app(&overview, &args.target.app)?;
    if args.target.index.is_some() {
        let service = args.target.service.as_deref().unwrap_or_default();
        let service = target::service(app, service)?;
        return Err(Failure::usage(
            format!(
                "a restart is of a whole service, whose replicas are replaced in turn: did you mean {}/{}?",
                app.name, service.name
            ),
            format!("agentctl restart {}/{}", app.name, service.name),
        ));
    }
    if !app.running {
        return Err(Failure::failed(format!("{} is stopped", app.name))
            .next(format!("agentctl start {}", app.name)));
    }
    let services = target::services(app, &args.target)?;
    let mut bodies = Vec::new();
    for service in &services {
        let count = n_restarts(mesh, app.uid, &service.name).await?.saturating_add(1);
        bodies.push(Body::Restart(Restart { app: app.uid, service: service.name.clone(), count }));
    }
    let submitted = intent::submit(mesh, bodies).await?;
    let mut outcome = intent::report_stored(&submitted, &overview, ui)?;
    let mut rollout = None;
    if !args.waiting.detach {
        let before: Vec<(ServiceName, Revision)> =
            services.iter().map(|service| (service.name.clone(), service.revision)).collect();
        let goal = Goal {
            app: app.uid,
            services: before.iter().map(|(name, _)| name.to_string()).collect(),
            applied: Box::new(move |app| renewed(app, &before)),
            timeout: args.waiting.timeout,
        };
        let end = wait::until_ready(mesh, ui, goal).await?;
        end.report(ui)?;
        outcome = outcome.and(end.outcome());
        rollout = Some(end.document());
    }
    let stored = Some(of::stored(&submitted, &overview));
    let change = args.waiting.words(format!("restarted {}", args.target));
    Change { change, stored, rollout }.print(ui)?;
    Ok(outcome)
}

async fn n_restarts<M: Mesh>(mesh: &M, app: AppUid, service: &ServiceName) -> Result<u64, Failure> {
    let entry = mesh.record(&RecordKey::Restart(app, service.clone())).await?;
    Ok(match entry.map(|entry| entry.record.body) {
        Some(Body::Restart(restart)) => restart.count,
        _ => 0,
    })
}

/// Whether every service has another revision than before.
fn renewed(app: &AppView, before: &[(ServiceName, Revision)]) -> Applied {
    let is_renewed = |(name, revision): &(ServiceName, Revision)| {
        app.services.iter().any(|service| service.name == *name && service.revision != *revision)
    };
    if before.iter().all(is_renewed) { Applied::Yes } else { Applied::Waiting }
}

/// Stops an app and waits until no container of it is left.
pub(crate) async fn stop<M: Mesh>(
    args: &StopArgs,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    set((&args.app, false), &args.waiting, mesh, ui).await
}

/// Starts an app and waits until it is ready.
pub(crate) async fn start<M: Mesh>(
    args: &StartArgs,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    set((&args.app, true), &args.waiting, mesh, ui).await
}

async fn set<M: Mesh>(
    (app, running): (&str, bool),
    waiting: &Waiting,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let app = target::app(&overview, app)?;
    let change = format!("{} {}", if running { "started" } else { "stopped" }, app.name);
    if app.running == running {
        Change { change, stored: None, rollout: None }.print(ui)?;
        return Ok(Outcome::Done);
    }
    let submitted = intent::submit(mesh, vec![Body::Run(Run { app: app.uid, running })]).await?;
    let mut outcome = intent::report_stored(&submitted, &overview, ui)?;
    let mut rollout = None;
    if !waiting.detach && running {
        let goal = Goal {
            app: app.uid,
            services: Vec::new(),
            applied: Box::new(|app| if app.running { Applied::Yes } else { Applied::Waiting }),
            timeout: waiting.timeout,
        };
        let end = wait::until_ready(mesh, ui, goal).await?;
        end.report(ui)?;
        outcome = outcome.and(end.outcome());
        rollout = Some(end.document());
    } else if !waiting.detach {
        wait::until_gone(mesh, ui, app.uid, waiting.timeout).await?;
    }
    let stored = Some(of::stored(&submitted, &overview));
    let change = waiting.words(change);
    Change { change, stored, rollout }.print(ui)?;
    if !running {
        ui.next(format!("agentctl start {0}; agentctl rm {0}", app.name))?;
    }
    Ok(outcome)
}
