//! `agentctl status`: the mesh on one screen.

use mesh_coordinator::view::{NodeStatus, Overview};

use crate::failure::{Failure, Outcome};
use crate::mesh::{Mesh, Who};
use crate::output::{json, of, text};
use crate::ui::Ui;

/// Prints the state of the mesh. Ends well whatever that state is.
pub(crate) async fn run<M: Mesh>(mesh: &M, ui: &mut Ui) -> Result<Outcome, Failure> {
    let who = mesh.who().await?;
    let overview = mesh.overview().await?;
    let document = document(&overview, &who);
    if ui.is_json() {
        ui.json(&document)?;
    } else {
        for line in lines(&document) {
            ui.prose(line, 12)?;
        }
    }
    Ok(Outcome::Done)
}

fn document(overview: &Overview, who: &Who) -> json::Status {
    let missing = overview.nodes.iter().filter(|node| node.status != NodeStatus::Alive);
    let missing: Vec<String> =
        missing.map(|node| format!("{} ({})", node.name, of::node_status(node.status))).collect();
    let witnesses = overview.nodes.iter().filter(|node| node.witness_only);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    json::Status {
        mesh: overview.mesh_name.to_string(),
        mesh_id: overview.mesh.to_string(),
        seen_by: who.node_name.clone(),
        role: who.role.to_string(),
        nodes_alive: count(overview.nodes.len().saturating_sub(missing.len())),
        nodes: count(overview.nodes.len()),
        nodes_witness_only: witnesses.map(|node| node.name.to_string()).collect(),
        nodes_missing: missing,
        apps: count(overview.apps.len()),
        degraded: text::degraded(overview),
        problems: overview.problems.clone(),
        parked: overview.parked.iter().map(of::parked).collect(),
        refused: who.refused.clone(),
    }
}

fn lines(status: &json::Status) -> Vec<String> {
    let mut lines = vec![
        format!("mesh      {} ({})", status.mesh, status.mesh_id.get(..12).unwrap_or_default()),
        format!("seen by   {}; you are {}", status.seen_by, status.role),
        format!("nodes     {} of {} alive", status.nodes_alive, status.nodes),
    ];
    lines.extend(status.nodes_missing.iter().map(|node| format!("          {node}")));
    lines.extend(
        status.nodes_witness_only.iter().map(|node| format!("          {node} only witnesses")),
    );
    let degraded = match status.degraded.len() {
        0 => "all ready".to_owned(),
        n => format!("{n} service{} degraded", if n == 1 { "" } else { "s" }),
    };
    lines.push(format!("apps      {}, {degraded}", status.apps));
    lines.extend(status.degraded.iter().map(|service| format!("          {service}")));
    lines.extend(status.parked.iter().map(|app| {
        let (name, uid) = (&app.name, text::short(&app.uid));
        format!("parked    {name} ({uid}): another app of its name runs; agentctl ps {name} says what to do")
    }));
    let problems = if status.problems.is_empty() { "none" } else { "" };
    lines.push(format!("problems  {problems}").trim_end().to_owned());
    lines.extend(status.problems.iter().map(|problem| format!("          {problem}")));
    lines
}
