//! `agentctl version`: of this program and of the agent that answers.

use crate::failure::{Failure, Outcome};
use crate::mesh::Mesh;
use crate::output::json;
use crate::ui::Ui;

/// Prints versions. Without an agent it prints its own and ends well.
pub(crate) async fn run<M: Mesh>(mesh: Option<&M>, ui: &mut Ui) -> Result<Outcome, Failure> {
    let who = match mesh {
        Some(mesh) => mesh.who().await.ok(),
        None => None,
    };
    let agentctl = env!("CARGO_PKG_VERSION").to_owned();
    if ui.is_json() {
        ui.json(&json::Version { agentctl, agent: who.map(|who| who.version) })?;
        return Ok(Outcome::Done);
    }
    ui.line(format!("agentctl {agentctl}"))?;
    match who {
        Some(who) => ui.line(format!("agent    {} on {}", who.version, who.node_name))?,
        None => ui.line("agent    none answers")?,
    }
    Ok(Outcome::Done)
}
