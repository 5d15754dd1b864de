//! `agentctl ps`: what runs.

use std::time::Duration;

use mesh_coordinator::view::SlotView;

use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::mesh::Mesh;
use crate::output::{json, of, text};
use crate::target;
use crate::ui::Ui;

/// How often a watch looks again.
pub(super) const WATCH_EVERY: Duration = Duration::from_secs(1);

/// List apps; with an app, its replicas.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "READY 0/2 (+2 old) means: none of 2 replicas of the current release is ready, and 2 of an earlier one still serve.\n\
    A narrow terminal shows the columns that matter most; -o wide shows all, and so does a pipe.\n\n\
    Example: agentctl ps blog"
)]
pub(crate) struct Args {
    /// Only this app, with its replicas.
    #[arg(add = complete::of(Kind::App(Which::All)))]
    app: Option<String>,
    /// Look again every second until interrupted.
    #[arg(short, long)]
    watch: bool,
}

/// Prints apps or replicas.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    loop {
        show(args, mesh, ui).await?;
        if !args.watch {
            return Ok(Outcome::Done);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn show<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<(), Failure> {
    let overview = mesh.overview().await?;
    let one = args.app.as_deref().map(|name| target::app(&overview, name)).transpose()?;
    let apps: Vec<_> = one.map_or_else(|| overview.apps.iter().collect(), |app| vec![app]);
    let leaving: &[SlotView] = if one.is_some() { &[] } else { &overview.leaving };
    let parked = overview.parked.iter();
    let parked: Vec<_> =
        parked.filter(|parked| one.is_none_or(|app| app.name == parked.name)).collect();
    if ui.is_json() {
        let apps = apps.into_iter().map(of::app).collect();
        let leaving = leaving.iter().map(of::slot).collect();
        let parked = parked.into_iter().map(of::parked).collect();
        let document = json::Apps { apps, parked, leaving };
        return if args.watch { ui.json_line(&document) } else { ui.json(&document) };
    }
    if args.watch {
        ui.next_picture()?;
    }
    if apps.is_empty() {
        ui.line("no app is placed yet: agentctl place DIR")?;
    } else {
        ui.table(&text::services(&apps))?;
    }
    if !leaving.is_empty() {
        ui.line("")?;
        ui.line("still going, though nobody wants them any more:")?;
        ui.table(&text::replicas(leaving))?;
    }
    if let Some(app) = one {
        ui.line("")?;
        let slots = app.services.iter().flat_map(|service| &service.slots);
        ui.table(&text::replicas(slots))?;
    }
    if !parked.is_empty() {
        ui.line("")?;
        ui.line("parked, since another app of the same name runs:")?;
        ui.table(&text::parked(&parked))?;
        text::about_parked(&parked).iter().try_for_each(|line| ui.prose(line, 2))?;
    }
    Ok(())
}
