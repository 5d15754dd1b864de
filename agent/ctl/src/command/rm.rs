//! `agentctl rm`: an app goes for good.

use mesh_coordinator::catalogue::Body;
use mesh_coordinator::id::AppUid;
use mesh_coordinator::name::AppName;
use mesh_coordinator::view::{Overview, ParkedView};

use super::{Change, Waiting};
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::{of, text};
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
    let Meant { name, gone, what } = meant(&overview, &args.app)?;
    ui.consent_for_good(&what, args.yes)?;
    let removal = |uid: &AppUid| Body::AppRemoval { app: *uid, name: name.clone() };
    let submitted = intent::submit(mesh, gone.iter().map(removal).collect()).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    if let Some(first) = gone.first().filter(|_| !args.waiting.detach) {
        wait::until_gone(mesh, ui, *first, args.waiting.timeout).await?;
    }
    let stored = Some(of::stored(&submitted, &overview));
    let change = args.waiting.words(format!("removed {name}"));
    Change { change, stored, rollout: None }.print(ui)?;
    Ok(outcome)
}

/// What is to be removed.
struct Meant {
    name: AppName,
    /// The one that runs first, if it is among them.
    gone: Vec<AppUid>,
    /// What that means, in words.
    what: String,
}

/// A name means all apps of that name: of two that were placed on two sides of a split one waits, and would run as soon as the other is
/// gone. An identity means that app alone.
fn meant(overview: &Overview, typed: &str) -> Result<Meant, Failure> {
    if let Some(ParkedView { name, uid, version, .. }) = target::parked(overview, typed) {
        let what = format!(
            "The parked {name} v{version} ({}) is removed; the {name} that runs stays as it is.",
            text::short(uid)
        );
        return Ok(Meant { name: name.clone(), gone: vec![*uid], what });
    }
    let app = target::app(overview, typed)?;
    let others = overview.parked.iter().filter(|other| other.name == app.name);
    let others: Vec<AppUid> = others.map(|other| other.uid).collect();
    let mut gone = vec![app.uid];
    let mut what = format!(
        "{} v{} is stopped and removed on all nodes; agentctl stop would keep it.",
        app.name, app.version
    );
    let ids: Vec<String> = others.iter().map(text::short).collect();
    if app.name.as_str() == typed {
        gone.extend(&others);
        if !others.is_empty() {
            what.push_str(&format!(
                "\nSo is the parked app of that name ({}); to remove one of them only, name it by its id: agentctl ps {}",
                ids.join(", "),
                app.name
            ));
        }
    } else if !others.is_empty() {
        what.push_str(&format!("\nThe parked app of that name ({}) runs instead.", ids.join(", ")));
    }
    Ok(Meant { name: app.name.clone(), gone, what })
}
