//! Waiting until the mesh has done what it was told, and saying what happens meanwhile.

mod progress;
mod rollout;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{AppUid, SlotId};
use mesh_coordinator::view::{AppView, ClaimView, NodeStatus, Overview, ServiceView, SlotView};
use tokio::time::Instant;

pub(crate) use self::progress::Progress;
pub(crate) use self::rollout::{Fault, Rollout};
use self::state::{Calm, Restarted, State, Troubles, say, state};
use crate::failure::Failure;
use crate::mesh::{CallError, Mesh};
use crate::target;
use crate::ui::Ui;

/// How often the mesh is looked at: quick enough that a start of a container is not delayed noticeably.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For so long no agent may answer before waiting ends: the death of the entry agent takes seconds to get over.
const SILENT_FOR_MAX: Duration = Duration::from_secs(15);

/// What is waited for.
pub(crate) struct Goal<'a> {
    /// The app.
    pub(crate) app: AppUid,
    /// Which of its services; all of them when empty.
    pub(crate) services: Vec<String>,
    /// Whether the agent that answers has taken note of the change at all.
    pub(crate) applied: Box<dyn Fn(&AppView) -> Applied + 'a>,
    /// When waiting ends.
    pub(crate) timeout: Duration,
}

/// Whether a change has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Not yet.
    Waiting,
    /// Yes.
    Yes,
    /// Somebody else has changed the same thing since: what, in words.
    Superseded(String),
}

/// Waits until all replicas of the goal are ready, or until it is clear that they will not be.
pub(crate) async fn until_ready<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    goal: Goal<'_>,
) -> Result<Rollout, Failure> {
    let begun = Instant::now();
    let mut seen = BTreeMap::new();
    let (mut troubles, mut calm) = (Troubles::default(), Calm::default());
    let progress = Progress::start(ui, "waiting for the mesh");
    let mut patience = Patience::new();
    loop {
        let state = match patience.judge(mesh.overview().await)? {
            None => None,
            Some(overview) => look(&overview, &goal, &mut seen, &progress, ui)?,
        };
        if let Some(state) = state {
            progress.now(state.to_string());
            let restless = calm.restless(&state);
            if restless.is_empty() && state.open.is_empty() && state.leaving.is_empty() {
                let State { ready, wanted, old, .. } = state;
                return Ok(Rollout { ready, wanted, old, faults: Vec::new() });
            }
            let is_hopeless = troubles.is_hopeless(&state);
            if is_hopeless || begun.elapsed() >= goal.timeout {
                drop(progress);
                let timeout = (!is_hopeless).then_some(goal.timeout);
                return Ok(conclude(mesh, (state, restless), &troubles, timeout).await);
            }
        } else if begun.elapsed() >= goal.timeout {
            return Err(Failure::failed(format!(
                "the agents have not taken note of the change within {}",
                humantime::format_duration(goal.timeout)
            ))
            .next("agentctl status"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn look(
    overview: &Overview,
    goal: &Goal<'_>,
    seen: &mut BTreeMap<String, String>,
    progress: &Progress,
    ui: &mut Ui,
) -> Result<Option<State>, Failure> {
    let Some(app) = overview.apps.iter().find(|app| app.uid == goal.app) else { return Ok(None) };
    match (goal.applied)(app) {
        Applied::Waiting => return Ok(None),
        Applied::Superseded(what) => {
            return Err(Failure::failed(format!("not waiting any longer: {what}"))
                .next(format!("agentctl ps {}", app.name)));
        }
        Applied::Yes => {}
    }
    let meant = |service: &&ServiceView| {
        goal.services.is_empty() || goal.services.iter().any(|name| name == service.name.as_str())
    };
    let services: Vec<&ServiceView> = app.services.iter().filter(meant).collect();
    for slot in services.iter().flat_map(|service| &service.slots) {
        for (claim, said) in slot.claims.iter().filter_map(|claim| Some((claim, say(claim)?))) {
            let key = format!("{} on {} {}", slot.name, claim.node_name, claim.revision);
            if seen.get(&key) != Some(&said) {
                progress.say(ui, &format!("  {} on {}: {said}", slot.name, claim.node_name))?;
                seen.insert(key, said);
            }
        }
    }
    Ok(Some(state(&services)))
}

/// What is wrong with what is not ready; `timeout` is how long it was waited for, if that is why it ends.
async fn conclude<M: Mesh>(
    mesh: &M,
    (state, restless): (State, Vec<Restarted>),
    troubles: &Troubles,
    timeout: Option<Duration>,
) -> Rollout {
    // What will end in a moment is ready only in name.
    let in_name = u32::try_from(restless.len()).unwrap_or(u32::MAX);
    let ready = state.ready.saturating_sub(in_name);
    let mut faults: Vec<Fault> =
        restless.into_iter().map(|one| restless_fault(one, troubles)).collect();
    for open in state.open {
        let (node, reason) = match (troubles.last(&open.slot), open.node) {
            (Some((node, reason)), _) => (Some(node), reason),
            (None, Some(node)) if open.detail.is_empty() => {
                (Some(node), "not ready yet".to_owned())
            }
            (None, Some(node)) => (Some(node), open.detail),
            (None, None) if open.serves_old => {
                (None, "not begun yet; what ran before serves".to_owned())
            }
            (None, None) => (None, unplaced(mesh, &open.slot).await),
        };
        faults.push(Fault { slot: open.name, node, reason });
    }
    if let Some(timeout) = timeout.filter(|_| faults.is_empty()) {
        let reason = format!("still runs after {}", humantime::format_duration(timeout));
        let faults_of = state.leaving.into_iter().map(|(slot, node)| Fault {
            slot,
            node: Some(node),
            reason: reason.clone(),
        });
        faults.extend(faults_of);
    }
    Rollout { ready, wanted: state.wanted, old: state.old, faults }
}

/// What is wrong with a replica that is ready, and was so before.
fn restless_fault(one: Restarted, troubles: &Troubles) -> Fault {
    let times =
        if one.restarts == 1 { "once".to_owned() } else { format!("{} times", one.restarts) };
    let last = troubles.last(&one.slot).map_or_else(String::new, |(_, last)| format!(" ({last})"));
    let reason = format!("does not stay ready: it was started again {times}{last}");
    Fault { slot: one.name, node: Some(one.node), reason }
}

/// Why nobody took a slot.
async fn unplaced<M: Mesh>(mesh: &M, slot: &SlotId) -> String {
    let Ok(Some(why)) = mesh.why(slot).await else { return "no node has taken it".to_owned() };
    let mut refusals: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for candidate in why.candidates.iter().filter(|candidate| !candidate.refusals.is_empty()) {
        let reasons = candidate.refusals.join(", ");
        refusals.entry(reasons).or_default().push(candidate.node_name.as_str());
    }
    if refusals.is_empty() {
        return "no node has taken it".to_owned();
    }
    let all: Vec<String> = refusals
        .into_iter()
        .map(|(reasons, mut nodes)| {
            nodes.sort_unstable();
            format!("{}: {reasons}", target::listed(&nodes))
        })
        .collect();
    format!("no node can hold it: {}", all.join("; "))
}

/// Waits until no container of an app is left, on any node that can be asked. Those of other nodes are stopped when their nodes are
/// back, and that is said.
pub(crate) async fn until_gone<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    app: AppUid,
    timeout: Duration,
) -> Result<(), Failure> {
    let last = until_none(mesh, ui, timeout, |overview| {
        names(&left(overview, |slot, _| slot.slot.app == app))
    })
    .await?;
    out_of_reach(&last, ui, |slot| slot.slot.app == app)
}

/// Says which nodes could not be asked and held something that should be gone.
pub(crate) fn out_of_reach(
    overview: &Overview,
    ui: &mut Ui,
    is_meant: impl Fn(&SlotView) -> bool,
) -> Result<(), Failure> {
    let slots = slots(overview).filter(|slot| is_meant(slot));
    let lost = slots.flat_map(|slot| &slot.claims).filter(|claim| is_lost(claim));
    let nodes: BTreeSet<&str> = lost.map(|claim| claim.node_name.as_str()).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    let nodes: Vec<&str> = nodes.into_iter().collect();
    ui.warn(format!(
        "{} cannot be asked: what may still run there is stopped when it is back",
        target::listed(&nodes)
    ))
}

/// All slots: those that people want, and those of apps and services that are no more.
fn slots(overview: &Overview) -> impl Iterator<Item = &SlotView> {
    let services = overview.apps.iter().flat_map(|app| &app.services);
    services.flat_map(|service| &service.slots).chain(&overview.leaving)
}

fn is_lost(claim: &ClaimView) -> bool {
    matches!(claim.node_status, NodeStatus::Down | NodeStatus::Unknown)
}

/// A claim and whose slot it is of.
pub(crate) type Left<'a> = (&'a SlotView, &'a ClaimView);

/// The claims for which `is_meant` holds, on nodes that can be asked. A claim that was released is among them until its container is
/// gone.
pub(crate) fn left<'a>(
    overview: &'a Overview,
    is_meant: impl Fn(&SlotView, &ClaimView) -> bool,
) -> Vec<Left<'a>> {
    let pairs = slots(overview).flat_map(|slot| slot.claims.iter().map(move |claim| (slot, claim)));
    pairs.filter(|(slot, claim)| !is_lost(claim) && is_meant(slot, claim)).collect()
}

/// What is left, as `app/service/index on node`.
pub(crate) fn names(left: &[Left<'_>]) -> Vec<String> {
    let name = |(slot, claim): &Left<'_>| {
        let stopping = if claim.phase == Phase::Released { " (stopping)" } else { "" };
        format!("{} on {}{stopping}", slot.name, claim.node_name)
    };
    left.iter().map(name).collect()
}

/// Waits until `left` names no replica any more. Returns the mesh as it was then.
pub(crate) async fn until_none<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    timeout: Duration,
    left: impl Fn(&Overview) -> Vec<String>,
) -> Result<Overview, Failure> {
    let begun = Instant::now();
    let progress = Progress::start(ui, "waiting for the mesh");
    let mut patience = Patience::new();
    let mut last: Vec<String> = Vec::new();
    loop {
        if let Some(overview) = patience.judge(mesh.overview().await)? {
            let now = left(&overview);
            if now.is_empty() {
                return Ok(overview);
            }
            if now != last {
                let shown: Vec<&str> = now.iter().map(String::as_str).collect();
                let plural = if now.len() == 1 { "" } else { "s" };
                let count = format!("{} replica{plural} left", now.len());
                progress.say(ui, &format!("  {count}: {}", target::listed(&shown)))?;
                progress.now(count);
            }
            last = now;
        }
        if begun.elapsed() >= timeout {
            let names: Vec<&str> = last.iter().map(String::as_str).collect();
            return Err(Failure::failed(format!(
                "after {} there is still {}; the mesh goes on without being waited for",
                humantime::format_duration(timeout),
                target::listed(&names)
            ))
            .next("agentctl status"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Gets over the death of the agent that answers: another one will soon.
struct Patience {
    silent_since: Option<Instant>,
}

impl Patience {
    const fn new() -> Self {
        Self { silent_since: None }
    }

    fn judge(&mut self, answer: Result<Overview, CallError>) -> Result<Option<Overview>, Failure> {
        match answer {
            Ok(overview) => {
                self.silent_since = None;
                Ok(Some(overview))
            }
            Err(error @ (CallError::Unreachable(_) | CallError::BrokenOff { .. })) => {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SILENT_FOR_MAX { Err(error.into()) } else { Ok(None) }
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
