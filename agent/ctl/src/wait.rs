//! Waiting until the mesh has done what it was told, and saying what happens meanwhile.

mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{AppUid, SlotId};
use mesh_coordinator::view::{AppView, ClaimView, NodeStatus, Overview, ServiceView, SlotView};
use tokio::time::Instant;

pub(crate) use self::progress::Progress;
use crate::failure::{Failure, Outcome};
use crate::mesh::{CallError, Mesh};
use crate::output::{json, of};
use crate::ui::Ui;

/// How often the mesh is looked at: quick enough that a start of a container is not delayed noticeably.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A replica that gave up is only counted as lost when nobody else took its slot within this time.
const LOST_AFTER: Duration = Duration::from_secs(6);
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

/// How far the replicas have come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    ready: u32,
    wanted: u32,
    /// Slots that are wanted and not ready.
    open: Vec<Open>,
    /// Replicas of old definitions or given up slots that still run.
    n_leaving: usize,
}

/// A slot without a ready replica.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    slot: SlotId,
    name: String,
    node: Option<String>,
    detail: String,
    /// Nobody works on it: no claim holds it.
    abandoned: bool,
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// How many replicas are as they should be.
    pub(crate) ready: u32,
    /// How many there should be.
    pub(crate) wanted: u32,
    /// What is wrong with the others.
    pub(crate) faults: Vec<Fault>,
}

/// A replica that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As people write it.
    pub(crate) slot: String,
    /// Where it was tried; `None` when nowhere.
    pub(crate) node: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

impl Rollout {
    /// Done, failed, or something between.
    pub(crate) const fn outcome(&self) -> Outcome {
        if self.faults.is_empty() {
            Outcome::Done
        } else if self.ready == 0 {
            Outcome::Failed
        } else {
            Outcome::Partly
        }
    }

    /// As a document.
    pub(crate) fn document(&self) -> json::Rollout {
        let outcome = match self.outcome() {
            Outcome::Done => "done",
            Outcome::Partly => "partly",
            Outcome::Failed | Outcome::Command(_) => "failed",
        };
        let fault = |fault: &Fault| json::Fault {
            slot: fault.slot.clone(),
            node: fault.node.clone(),
            reason: fault.reason.clone(),
        };
        json::Rollout {
            outcome: outcome.to_owned(),
            ready: self.ready,
            wanted: self.wanted,
            faults: self.faults.iter().map(fault).collect(),
        }
    }

    /// Says what is wrong and how to look at it.
    pub(crate) fn report(&self, ui: &mut Ui) -> Result<(), Failure> {
        for fault in &self.faults {
            let node = fault.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
            ui.warn(format!("{}{node}: {}", fault.slot, fault.reason))?;
            let look = if fault.node.is_some() { "logs" } else { "why" };
            ui.warn(format!("  look: agentctl {look} {}", fault.slot))?;
        }
        Ok(())
    }
}

/// Waits until all replicas of the goal are ready, or until it is clear that they will not be.
pub(crate) async fn until_ready<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    goal: Goal<'_>,
) -> Result<Rollout, Failure> {
    let begun = Instant::now();
    let mut seen = BTreeMap::new();
    let mut abandoned: BTreeMap<SlotId, Instant> = BTreeMap::new();
    let progress = Progress::start(ui, "waiting for the mesh");
    let mut patience = Patience::new();
    loop {
        let state = match patience.judge(mesh.overview().await)? {
            None => None,
            Some(overview) => look(&overview, &goal, &mut seen, &progress, ui)?,
        };
        if let Some(state) = state {
            progress.now(format!("{} of {} ready", state.ready, state.wanted));
            if state.open.is_empty() && state.n_leaving == 0 {
                return Ok(Rollout {
                    ready: state.ready,
                    wanted: state.wanted,
                    faults: Vec::new(),
                });
            }
            let now = Instant::now();
            abandoned.retain(|slot, _| {
                state.open.iter().any(|open| open.abandoned && open.slot == *slot)
            });
            for open in state.open.iter().filter(|open| open.abandoned) {
                abandoned.entry(open.slot.clone()).or_insert(now);
            }
            let is_lost = |open: &Open| {
                abandoned.get(&open.slot).is_some_and(|since| now - *since >= LOST_AFTER)
            };
            let is_hopeless = !state.open.is_empty() && state.open.iter().all(is_lost);
            if is_hopeless || begun.elapsed() >= goal.timeout {
                drop(progress);
                return conclude(mesh, state, is_hopeless, goal.timeout).await;
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

/// What a claim has to tell while it is waited for; old ones only when they end.
fn say(claim: &ClaimView) -> Option<String> {
    if !claim.current {
        return claim.yielding.then(|| format!("{} makes room", claim.revision));
    }
    let phase = match claim.phase {
        Phase::Intent | Phase::Released => return None,
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Unhealthy => "unhealthy",
        Phase::Failed => "gave up",
        Phase::Ended => "ended",
    };
    if claim.detail.is_empty() {
        Some(phase.to_owned())
    } else {
        Some(format!("{phase}: {}", claim.detail))
    }
}

fn state(services: &[&ServiceView]) -> State {
    let ready = services.iter().map(|service| service.n_ready + of::n_ended(service)).sum();
    let wanted = services.iter().map(|service| service.n_wanted).sum();
    let slots: Vec<&SlotView> = services.iter().flat_map(|service| &service.slots).collect();
    let open = slots.iter().filter(|slot| slot.wanted && !is_settled(slot)).map(|slot| open(slot));
    let leaving = slots.iter().flat_map(|slot| {
        let is_old = |claim: &&ClaimView| !slot.wanted || !claim.current;
        heard(slot).filter(|claim| claim.phase.holds()).filter(is_old)
    });
    State { ready, wanted, n_leaving: leaving.count(), open: open.collect() }
}

/// Whether the slot is as it should be: a process that ended and must not be started again is so for good.
fn is_settled(slot: &SlotView) -> bool {
    let settles = |claim: &ClaimView| matches!(claim.phase, Phase::Ready | Phase::Ended);
    heard(slot).any(|claim| claim.current && settles(claim))
}

/// The claims of nodes that may be there: what a dead node said last is neither help nor hindrance.
fn heard(slot: &SlotView) -> impl Iterator<Item = &ClaimView> {
    slot.claims.iter().filter(|claim| claim.node_status != NodeStatus::Down)
}

fn open(slot: &SlotView) -> Open {
    let current = || heard(slot).filter(|claim| claim.current);
    let shown = current().find(|claim| claim.phase.holds()).or_else(|| current().next());
    Open {
        slot: slot.slot.clone(),
        name: slot.name.clone(),
        node: shown.map(|claim| claim.node_name.to_string()),
        detail: shown.and_then(say).unwrap_or_default(),
        abandoned: !current().any(|claim| claim.phase.holds()),
    }
}

async fn conclude<M: Mesh>(
    mesh: &M,
    state: State,
    hopeless: bool,
    timeout: Duration,
) -> Result<Rollout, Failure> {
    let mut faults = Vec::new();
    for open in state.open {
        let reason = match open.node {
            Some(_) if open.detail.is_empty() => "not ready yet".to_owned(),
            Some(_) => open.detail,
            None => unplaced(mesh, &open.slot).await,
        };
        faults.push(Fault { slot: open.name, node: open.node, reason });
    }
    if faults.is_empty() && !hopeless {
        let timeout = humantime::format_duration(timeout);
        faults.push(Fault {
            slot: "old replicas".to_owned(),
            node: None,
            reason: format!("{} of them still run after {timeout}", state.n_leaving),
        });
    }
    Ok(Rollout { ready: state.ready, wanted: state.wanted, faults })
}

/// Why nobody took a slot.
async fn unplaced<M: Mesh>(mesh: &M, slot: &SlotId) -> String {
    let Ok(Some(why)) = mesh.why(slot).await else { return "no node has taken it".to_owned() };
    let refusals: Vec<String> = why
        .candidates
        .iter()
        .filter(|candidate| !candidate.refusals.is_empty())
        .map(|candidate| format!("{} ({})", candidate.node_name, candidate.refusals.join(", ")))
        .collect();
    if refusals.is_empty() {
        "no node has taken it".to_owned()
    } else {
        format!("no node can hold it: {}", refusals.join("; "))
    }
}

/// Waits until no replica of an app is left.
pub(crate) async fn until_gone<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    app: AppUid,
    timeout: Duration,
) -> Result<(), Failure> {
    let left = |overview: &Overview| {
        let apps = overview.apps.iter().filter(|view| view.uid == app);
        let slots = apps.flat_map(|app| &app.services).flat_map(|service| &service.slots);
        slots.flat_map(|slot| &slot.claims).filter(|claim| claim.phase.holds()).count()
    };
    until_none(mesh, ui, timeout, left).await
}

/// Waits until `left` counts no replica any more.
pub(crate) async fn until_none<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    timeout: Duration,
    left: impl Fn(&Overview) -> usize,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let progress = Progress::start(ui, "waiting for the mesh");
    let mut patience = Patience::new();
    let mut last = None;
    loop {
        if let Some(overview) = patience.judge(mesh.overview().await)? {
            let n = left(&overview);
            if n == 0 {
                return Ok(());
            }
            if last.replace(n) != Some(n) {
                progress
                    .say(ui, &format!("  {n} replica{} left", if n == 1 { "" } else { "s" }))?;
            }
        }
        if begun.elapsed() >= timeout {
            return Err(Failure::failed(format!(
                "after {} {} replicas are still there",
                humantime::format_duration(timeout),
                last.map_or_else(|| "some".to_owned(), |n| n.to_string())
            ))
            .next("agentctl ps"));
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
