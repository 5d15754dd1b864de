//! `agentctl why`: why a replica is where it is.

use mesh_coordinator::id::SlotId;
use mesh_coordinator::view::Overview;

use crate::complete::{self, Kind};
use crate::failure::{Failure, Outcome};
use crate::lease::Lease;
use crate::mesh::Mesh;
use crate::output::{leases, of, text};
use crate::target::{self, Target};
use crate::ui::Ui;

/// Explain why a replica is where it is, from any agent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl why blog/web/0")]
pub(crate) struct Args {
    /// The replica, as app/service/index; less is enough when there is only one.
    #[arg(value_name = "SLOT", add = complete::of(Kind::Slot))]
    slot: Target,
}

/// Prints the ranks of all nodes, the claims and the last decisions.
pub(crate) async fn run<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    let slot = match target::slot(&overview, &args.slot) {
        Ok(slot) => slot.slot.clone(),
        Err(failure) => target::absent_slot(&overview, &args.slot).ok_or(failure)?,
    };
    let Some(why) = mesh.why(&slot).await? else {
        return Err(Failure::failed(format!("nothing is known of {}", args.slot))
            .next(format!("agentctl ps {}", args.slot.app)));
    };
    let lease = lease(&slot, &overview, mesh).await?;
    if ui.is_json() {
        let lease = lease.map(|lease| leases::document(&lease, &overview));
        ui.json(&of::why(&why, lease))?;
        return Ok(Outcome::Done);
    }
    let wanted = if why.slot.wanted { "" } else { " (not wanted)" };
    ui.line(format!(
        "{}{wanted}, seen by {}",
        why.slot.name,
        of::node_name(&overview, overview.seen_by)
    ))?;
    let name = args.slot.app.as_str();
    for parked in overview.parked.iter().filter(|parked| parked.name.as_str() == name) {
        ui.prose(
            format!(
                "another app called {name} is parked ({}): agentctl ps {name} says what to do",
                text::short(&parked.uid)
            ),
            2,
        )?;
    }
    if let Some(lease) = lease {
        section(ui, "lease", "", &leases::lines(&lease, &why, &overview))?;
    }
    section(ui, "claims", "none: nobody holds it", &text::claims(&why.slot))?;
    ui.line("\nnodes, in the order in which they would get it if it were free now")?;
    ui.table(&text::candidates(&why))?;
    section(ui, "last decisions", "none yet", &text::decisions(&why))?;
    Ok(Outcome::Done)
}

/// What all nodes know of the lease of a slot; `None` when it is not exclusive.
async fn lease<M: Mesh>(
    slot: &SlotId,
    overview: &Overview,
    mesh: &M,
) -> Result<Option<Lease>, Failure> {
    let app = overview.apps.iter().find(|app| app.uid == slot.app);
    let services = app.into_iter().flat_map(|app| &app.services);
    let service = services.into_iter().find(|service| service.name == slot.service);
    if !service.is_some_and(|service| service.guarantee.is_exclusive()) {
        return Ok(None);
    }
    let seen = super::leases::look(Some(slot.app), overview, mesh).await?;
    Ok(seen.leases.into_iter().find(|lease| lease.slot == *slot))
}

fn section(ui: &mut Ui, title: &str, none: &str, lines: &[String]) -> Result<(), Failure> {
    ui.line(format!("\n{title}"))?;
    if lines.is_empty() {
        ui.line(format!("  {none}"))?;
    }
    lines.iter().try_for_each(|line| ui.prose(line, 6))
}
