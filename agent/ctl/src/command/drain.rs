//! `agentctl drain` and `undrain`: emptying a node for maintenance.

use mesh_coordinator::catalogue::{Body, Drain};
use mesh_coordinator::view::NodeStatus;

use super::{Change, Waiting};
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
        wait::until_none(mesh, ui, args.waiting.timeout, |overview| {
            let node = overview.nodes.iter().find(|node| node.id == id);
            match node.filter(|node| !node.drained || node.n_claims > 0) {
                None => Vec::new(),
                // A drain that has not arrived yet says nothing about what is left.
                Some(node) if !node.drained => vec![format!("{}, not drained yet", node.name)],
                Some(node) => {
                    let held = wait::held(overview, |_, claim| claim.node == id);
                    let count = || vec![format!("{} replicas on {}", node.n_claims, node.name)];
                    if held.is_empty() { count() } else { held }
                }
            }
        })
        .await?;
    }
    if change.stored.is_some() {
        change.change = args.waiting.words(change.change);
    }
    change.print(ui)?;
    Ok(outcome)
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
