//! `agentctl rm`: an app goes for good.

use mesh_coordinator::catalogue::Body;
use mesh_coordinator::id::AppUid;
use mesh_coordinator::view::AppView;

use super::{Change, Waiting};
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::of;
use crate::roll::Roll;
use crate::target;
use crate::ui::Ui;
use crate::wait;

/// Remove an app; its containers are stopped and removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl rm blog")]
pub(crate) struct Args {
    /// Which app.
    #[arg(add = complete::of(Kind::App(Which::All)))]
    app: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
}

/// Removes an app and waits until no container of it is left.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let app = target::app(&overview, &args.app)?;
    let what = format!(
        "{} v{} is stopped and removed on all nodes; agentctl stop would keep it.",
        app.name, app.version
    );
    ui.consent_for_good(&what, args.yes)?;
    let submitted = intent::submit(mesh, removals(app, &Roll::read(mesh).await?)).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    if !args.waiting.detach {
        wait::until_gone(mesh, ui, app.uid, args.waiting.timeout).await?;
    }
    let stored = Some(of::stored(&submitted, &overview));
    let change = args.waiting.words(format!("removed {}", app.name));
    Change { change, stored, rollout: None }.print(ui)?;
    Ok(outcome)
}

/// The removal of an app, and of those that are parked under its name: of two that were placed on two sides of a split one waits, and
/// would run as soon as the other is gone.
fn removals(app: &AppView, roll: &Roll) -> Vec<Body> {
    let state = roll.state();
    let removal = |uid: AppUid| Body::AppRemoval { app: uid, name: app.name.clone() };
    let others = state
        .parked
        .iter()
        .filter(|(uid, other)| other.release.spec.name == app.name && **uid != app.uid);
    std::iter::once(app.uid).chain(others.map(|(uid, _)| *uid)).map(removal).collect()
}
