//! `agentctl leases`: who holds exclusive services, and what their witnesses say.

use mesh_coordinator::id::AppUid;
use mesh_coordinator::view::Overview;

use super::ps::WATCH_EVERY;
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::lease::{self, Lease};
use crate::mesh::{Known, Mesh};
use crate::output::{json, leases};
use crate::target;
use crate::ui::Ui;

/// Show who holds the replicas of exclusive services, and what their witnesses say.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "LEFT is how long the holder may go on if it cannot renew its lease; so much is left at each witness stands beside it.\n\
    A replica runs while most of its witnesses answer: of three any one may be lost, of two or one none.\n\
    \"other store\" means that a node has lost what it kept as a witness, and counts no more.\n\
    Ends with 3 when nodes did not answer.\n\n\
    Example: agentctl leases blog"
)]
pub(crate) struct Args {
    /// Only those of this app.
    #[arg(add = complete::of(Kind::App(Which::All)))]
    app: Option<String>,
    /// Look again every second until interrupted.
    #[arg(short, long)]
    watch: bool,
}

/// What all nodes that answered know together.
pub(crate) struct Seen {
    /// Slot by slot.
    pub(crate) leases: Vec<Lease>,
    /// The nodes that did not answer, by name, and why.
    pub(crate) silent: Vec<(String, String)>,
}

/// Asks all nodes.
pub(crate) async fn look<M: Mesh>(
    app: Option<AppUid>,
    overview: &Overview,
    mesh: &M,
) -> Result<Seen, Failure> {
    let known = mesh.leases(app).await?;
    let silent = known.iter().filter_map(|known| match known {
        Known::Lease { .. } => None,
        Known::Silent { name, reason, .. } => Some((name.clone(), reason.clone())),
    });
    let mut silent: Vec<(String, String)> = silent.collect();
    silent.sort();
    Ok(Seen { silent, leases: lease::merge(known, overview) })
}

/// Prints leases; ends with 3 when nodes did not answer.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    loop {
        let outcome = show(args, mesh, ui).await?;
        if !args.watch {
            return Ok(outcome);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn show<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let app = args.app.as_deref().map(|name| target::app(&overview, name)).transpose()?;
    let Seen { leases, silent } = look(app.map(|app| app.uid), &overview, mesh).await?;
    let outcome = if silent.is_empty() { Outcome::Done } else { Outcome::Partly };
    if ui.is_json() {
        let silent = silent
            .into_iter()
            .map(|(silent, reason)| json::SilentNode { silent, reason })
            .collect();
        let leases = leases.iter().map(|lease| leases::document(lease, &overview)).collect();
        let document = json::Leases { leases, silent };
        if args.watch {
            ui.json_line(&document)?;
        } else {
            ui.json(&document)?;
        }
        return Ok(outcome);
    }
    if args.watch {
        ui.next_picture()?;
    }
    for (node, reason) in &silent {
        ui.warn(format!("{node} did not tell what it knows: {reason}"))?;
    }
    if leases.is_empty() {
        ui.line(app.map_or_else(
            || "no app has an exclusive service that runs".to_owned(),
            |app| format!("{} has no exclusive service that runs", app.name),
        ))?;
        return Ok(outcome);
    }
    ui.table(&leases::table_of(&leases, &overview))?;
    let remarks: Vec<String> =
        leases.iter().flat_map(|lease| leases::remarks(lease, &overview)).collect();
    if !remarks.is_empty() {
        ui.line("")?;
    }
    remarks.iter().try_for_each(|remark| ui.prose(remark, 2))?;
    Ok(outcome)
}
