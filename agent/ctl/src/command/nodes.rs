//! `agentctl nodes` and `agentctl node ls`: the servers of the mesh.

use crate::failure::{Failure, Outcome};
use crate::mesh::Mesh;
use crate::output::{json, of, text};
use crate::ui::Ui;

/// An example, and why there may be fewer columns than elsewhere.
pub(crate) const HELP: &str = "\
A narrow terminal shows the columns that matter most; -o wide shows all, and so does a pipe.

Example: agentctl nodes -o wide";

/// Prints the nodes.
pub(crate) async fn run<M: Mesh>(mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let overview = mesh.overview().await?;
    if ui.is_json() {
        ui.json(&json::Nodes { nodes: overview.nodes.iter().map(of::node).collect() })?;
    } else {
        ui.table(&text::nodes(&overview.nodes))?;
    }
    Ok(Outcome::Done)
}
