//! `agentctl nodes` and `agentctl node ls`: the servers of the mesh.

use crate::failure::{Failure, Outcome};
use crate::mesh::Mesh;
use crate::output::{json, of, text};
use crate::ui::Ui;

/// Prints the nodes.
pub(crate) async fn run<M: Mesh>(mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    if ui.is_json() {
        ui.json(&json::Nodes { nodes: overview.nodes.iter().map(of::node).collect() })?;
    } else {
        ui.table(&mut text::nodes(&overview.nodes))?;
    }
    Ok(Outcome::Done)
}
