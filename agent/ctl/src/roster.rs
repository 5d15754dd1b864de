//! Which app a release is of, and among whom the witnesses of its exclusive slots are.
//!
//! The roster of an app is made once, from the nodes that live then, and is part of what the app is: two apps whose slots must never
//! run twice are the same one only if the same witnesses keep them from it. So nothing that would need another roster, or take one
//! away, can be a later release of the same app.

use std::collections::BTreeSet;

use mesh_coordinator::catalogue::Release;
use mesh_coordinator::id::{AppUid, Hash, NodeId};
use mesh_coordinator::lease::exclusive::WitnessId;
use mesh_coordinator::name::AppName;
use mesh_coordinator::spec::{AppSpec, Guarantee};
use mesh_coordinator::view::{NodeStatus, NodeView, Overview};
use mesh_identity::record::ROSTER_LEN_MAX;

use crate::failure::Failure;
use crate::mesh::Mesh;
use crate::output::of;
use crate::plan::new_uid;
use crate::roll::Roll;

/// From this many on, any one of them may be lost.
const N_ENOUGH: usize = 3;

/// One life of an app's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    /// Which.
    pub(crate) uid: AppUid,
    /// Among whom its witnesses are; empty when it was made without exclusive services.
    pub(crate) roster: BTreeSet<WitnessId>,
    /// What its author should know of that.
    pub(crate) warnings: Vec<String>,
}

impl Life {
    /// The life that goes on with `spec`, after the release that holds; or a new one.
    pub(crate) async fn of<M: Mesh>(
        spec: &AppSpec,
        overview: &Overview,
        release: Option<&Release>,
        mesh: &M,
    ) -> Result<Self, Failure> {
        let app = overview.apps.iter().find(|app| app.name == spec.name);
        let is_exclusive = spec.services.values().any(|it| it.guarantee.is_exclusive());
        let (uid, roster) = match app {
            Some(app) => {
                let before = release.filter(|release| release.app == app.uid);
                if let Some(before) = before {
                    check(spec, before)?;
                }
                (app.uid, before.map(|release| release.roster.clone()).unwrap_or_default())
            }
            None if is_exclusive => {
                let roster = choose(&spec.name, overview)?;
                // How often an app with this roster was removed is in the records.
                let roll = Roll::read(mesh).await?;
                (roll.state().uid_with_roster(mesh.mesh(), &spec.name, &roster), roster)
            }
            None => (new_uid(&spec.name, overview), BTreeSet::new()),
        };
        let warnings = is_exclusive.then(|| doubts(&roster, overview)).flatten();
        Ok(Self { uid, roster, warnings: warnings.into_iter().collect() })
    }
}

/// The witnesses of a new app: the nodes that live, and those that are drained only where there are too few others.
pub(crate) fn choose(name: &AppName, overview: &Overview) -> Result<BTreeSet<WitnessId>, Failure> {
    let witness = |node: &NodeView| Some(WitnessId { node: node.id, store: node.store? });
    let pick = |drained: bool| -> Vec<WitnessId> {
        let nodes = overview.nodes.iter().filter(|node| node.status == NodeStatus::Alive);
        nodes.filter(|node| drained || !node.drained).filter_map(witness).collect()
    };
    let mut found = pick(false);
    if found.len() < N_ENOUGH {
        found = pick(true);
    }
    if found.is_empty() {
        let text = "no node that lives can be a witness of an exclusive service: their agents are too old for it";
        return Err(Failure::failed(text).next("bring the agents up to date: agentctl nodes"));
    }
    // Of very many each app takes others, so that no node witnesses everything.
    let place =
        |node: NodeId| Hash::of(&[b"mesh roster", name.as_str().as_bytes(), node.as_bytes()]);
    found.sort_by_key(|witness| place(witness.node).0);
    found.truncate(ROSTER_LEN_MAX);
    Ok(found.into_iter().collect())
}

/// Refuses what cannot be a release of the same app.
fn check(spec: &AppSpec, before: &Release) -> Result<(), Failure> {
    let app = &spec.name;
    for (name, service) in &spec.services {
        let (now, then) = (before.spec.service(name).map(|old| old.guarantee), service.guarantee);
        if let Some(now) = now.filter(|now| *now != then) {
            let (now, then) = (words(now), words(then));
            let text = format!(
                "{app}/{name} is {now} and cannot become {then} while it runs: nodes that have not heard of it would go on by the old rule"
            );
            let next = format!("agentctl rm {app}, and place it again");
            return Err(Failure::usage(text, next));
        }
        if then.is_exclusive() && before.roster.is_empty() {
            let text = format!(
                "{app}/{name} cannot be exclusive: {app} was placed without exclusive services, so it has no witnesses"
            );
            let next =
                format!("make {name} an app of its own, or agentctl rm {app} and place it again");
            return Err(Failure::usage(text, next));
        }
    }
    Ok(())
}

fn words(guarantee: Guarantee) -> String {
    match guarantee {
        Guarantee::Available => "available".to_owned(),
        Guarantee::Exclusive { ttl } => format!("exclusive with a lease of {}", of::seconds(ttl)),
    }
}

/// What too few witnesses mean; `None` when there are enough, or will be in a moment: in a mesh of three each slot gets three.
fn doubts(roster: &BTreeSet<WitnessId>, overview: &Overview) -> Option<String> {
    let alive = overview.nodes.iter().filter(|node| node.status == NodeStatus::Alive);
    if alive.filter(|node| node.store.is_some()).count() >= N_ENOUGH {
        return None;
    }
    let nodes: Vec<NodeId> = roster.iter().map(|witness| witness.node).collect();
    let words = match of::node_names(overview, &nodes).as_slice() {
        [] => return None,
        [only] => format!(
            "no failover of exclusive services: {only} was the one node when the app was placed, and while it is down they are"
        ),
        [one, other] => format!(
            "exclusive services need {one} and {other}, the two nodes when the app was placed: while either is down, so are they"
        ),
        _ => return None,
    };
    Some(format!("{words}. {REMEDY}"))
}

/// What to do about too few witnesses.
pub(crate) const REMEDY: &str = "Three nodes can lose any one, and the third may be a small machine that only witnesses: agent join --witness-only";

#[cfg(test)]
mod tests;
