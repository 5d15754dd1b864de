//! A plan for people.

use mesh_coordinator::view::Overview;

use crate::failure::Failure;
use crate::output::of;
use crate::plan::{Action, Plan, Step, count};
use crate::ui::{Cell, Mood, Ui, cell, table};

/// Prints what is going to happen.
pub(super) fn plan(plan: &Plan, overview: &Overview, ui: &mut Ui) -> Result<(), Failure> {
    for warning in &plan.warnings {
        ui.warn(labelled(warning))?;
    }
    let name = &plan.spec.name;
    if !plan.changes() {
        return ui.line(format!("{name} v{}: nothing to do", plan.version));
    }
    ui.line(format!("{name} v{} on mesh {}", plan.version, overview.mesh_name))?;
    let mut table = table(&["SERVICE", "ACTION", "REPLICAS", "WHY", "FAILOVER"]);
    for step in &plan.steps {
        table.add_row(row(step, of::n_places(overview)));
    }
    ui.table(&table)?;
    if plan.starts {
        ui.line("the app was stopped and is started")?;
    }
    Ok(())
}

fn labelled(warning: &str) -> String {
    if warning.starts_with("warning") { warning.to_owned() } else { format!("warning: {warning}") }
}

fn row(step: &Step, n_places: usize) -> Vec<Cell> {
    let mood = match step.action {
        Action::Create => Mood::Good,
        Action::Replace | Action::Scale | Action::Update => Mood::Busy,
        Action::Remove => Mood::Bad,
        Action::Keep => Mood::Plain,
    };
    let then = count(step.then);
    let replicas = match step.now {
        Some(now) if now.to_string() != then => format!("{now} → {then}"),
        _ => then,
    };
    let failover = match step.bound {
        _ if step.action == Action::Remove => "-".to_owned(),
        _ if n_places < 2 => "none: one node".to_owned(),
        Some(bound) => format!("within {}", of::seconds(bound)),
        None => "shown when placed".to_owned(),
    };
    vec![
        Cell::new(step.service.to_string()),
        cell(step.action.word(), mood),
        Cell::new(replicas),
        Cell::new(if step.reasons.is_empty() { "-".to_owned() } else { step.reasons.join("\n") }),
        Cell::new(failover),
    ]
}

/// Prints the failover bound that the app gets, service by service where they differ.
pub(super) fn bounds(overview: &Overview, plan: &Plan, ui: &mut Ui) -> Result<(), Failure> {
    let Some(app) = overview.apps.iter().find(|app| app.uid == plan.uid) else { return Ok(()) };
    if of::n_places(overview) < 2 {
        return ui.line("no failover: the mesh has one node that holds replicas");
    }
    let meaning = |bound| {
        let bound = of::seconds(bound);
        format!("when a node dies, claimed elsewhere within {bound}; then the container starts")
    };
    let mut bounds: Vec<_> = app.services.iter().map(|service| service.failover_bound).collect();
    bounds.dedup();
    if let [bound] = bounds.as_slice() {
        return ui.line(format!("failover: {}", meaning(*bound)));
    }
    for service in &app.services {
        ui.line(format!("failover of {}: {}", service.name, meaning(service.failover_bound)))?;
    }
    Ok(())
}
