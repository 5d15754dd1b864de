//! `agentctl drain` and `undrain`: emptying a node for maintenance.

use mesh_coordinator::catalogue::{Body, Drain};
use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::NodeId;
use mesh_coordinator::view::{NodeStatus, Overview};

use super::{Change, Waiting};
use crate::complete::{self, Kind, Which};
use crate::failure::{Failure, Outcome};
use crate::intent;
use crate::mesh::Mesh;
use crate::output::of;
use crate::target;
use crate::ui::Ui;
use crate::wait;

/// Move everything away from a node; replicas are started elsewhere before they are stopped here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl drain alpha")]
pub(crate) struct Args {
    /// Which node.
    #[arg(add = complete::of(Kind::Node(Which::Active)))]
    node: String,
    /// How to wait.
    #[command(flatten)]
    waiting: Waiting,
}

/// Let a drained node hold replicas again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl undrain alpha")]
pub(crate) struct UndrainArgs {
    /// Which node.
    #[arg(add = complete::of(Kind::Node(Which::Inactive)))]
    node: String,
}

/// Drains a node and waits until it holds nothing.
pub(crate) async fn drain<M: Mesh>(args: &Args, mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let (outcome, mut change) = set(&args.node, true, mesh, ui).await?;
    let overview = mesh.overview().await?;
    let node = target::node(&overview, &args.node)?;
    if node.status != NodeStatus::Alive {
        ui.note(format!(
            "{} is {}: it will be empty when it comes back",
            node.name,
            of::node_status(node.status)
        ))?;
    } else if !args.waiting.detach {
        let id = node.id;
        let end =
            wait::until_none(mesh, ui, args.waiting.timeout, |now| still_there(now, id)).await?;
        notes_left(&end, id, ui)?;
    }
    if change.stored.is_some() {
        change.change = args.waiting.words(change.change);
    }
    change.print(ui)?;
    ui.next(format!("agentctl undrain {} lets it hold replicas again", node.name))?;
    Ok(outcome)
}

/// What keeps a node from being drained. A job that has ended does not: it runs nowhere, and its claim says that it need not run again.
fn still_there(overview: &Overview, id: NodeId) -> Vec<String> {
    match overview.nodes.iter().find(|node| node.id == id) {
        None => Vec::new(),
        // A drain that has not arrived yet says nothing about what is left.
        Some(node) if !node.drained => vec![format!("{}, not drained yet", node.name)],
        Some(_) => wait::names(&wait::left(overview, |_, claim| {
            claim.node == id && !matches!(claim.phase, Phase::Ended | Phase::Failed)
        })),
    }
}

/// Says which jobs have ended there: their notes stay, and are lost with the node.
fn notes_left(overview: &Overview, id: NodeId, ui: &mut Ui) -> Result<(), Failure> {
    let ended = wait::left(overview, |_, claim| claim.node == id && claim.phase == Phase::Ended);
    for (slot, claim) in ended {
        let how = if claim.detail.is_empty() { "ended" } else { &claim.detail };
        ui.note(format!(
            "{} {how}: {} keeps the note of it, and without {} it would run again",
            slot.name, claim.node_name, claim.node_name
        ))?;
    }
    Ok(())
}

/// Lets a node hold replicas again.
pub(crate) async fn undrain<M: Mesh>(
    args: &UndrainArgs,
    mesh: &M,
    ui: &mut Ui,
) -> Result<Outcome, Failure> {
    let (outcome, change) = set(&args.node, false, mesh, ui).await?;
    change.print(ui)?;
    Ok(outcome)
}

async fn set<M: Mesh>(
    name: &str,
    drained: bool,
    mesh: &M,
    ui: &mut Ui,
) -> Result<(Outcome, Change), Failure> {
    let overview = mesh.overview().await?;
    let node = target::node(&overview, name)?;
    let change = format!("{} {}", if drained { "drained" } else { "undrained" }, node.name);
    if node.drained == drained {
        return Ok((Outcome::Done, Change { change, stored: None, rollout: None }));
    }
    let body = Body::Drain(Drain { node: node.id, drained });
    let submitted = intent::submit(mesh, vec![body]).await?;
    let outcome = intent::report_stored(&submitted, &overview, ui)?;
    let stored = Some(of::stored(&submitted, &overview));
    Ok((outcome, Change { change, stored, rollout: None }))
}
