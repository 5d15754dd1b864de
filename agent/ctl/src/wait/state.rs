//! How far replicas have come, and which of them nobody needs to wait for any longer.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::SlotId;
use mesh_coordinator::view::{ClaimView, NodeStatus, ServiceView, SlotView};
use tokio::time::Instant;

use crate::output::of;

/// A replica that gave up is only counted as lost when nobody else took its slot within this time.
const LOST_AFTER: Duration = Duration::from_secs(6);
/// The same when it was tried in vain before: every node that could has given up. Shorter than nodes wait until they try again.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3);
/// A slot for which a replica gave up somewhere, or was started again several times, gets so long to become ready after all, on that
/// node or on another: long enough for an image to arrive there, short enough for somebody who waits at a prompt. Nodes try again
/// for ever, so a new attempt does not begin this time anew.
const HOPELESS_AFTER: Duration = Duration::from_secs(20);
/// What was started again has to stay ready for so long: without a health check a start alone makes a replica ready.
const CALM_FOR: Duration = Duration::from_secs(2);
/// So many starts in a row are no accident any more.
const RESTARTS_MANY: u32 = 3;

/// How far the replicas have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) ready: u32,
    pub(super) wanted: u32,
    /// How many slots are served by an earlier definition only.
    pub(super) old: u32,
    /// Those of the current definition that were started again.
    pub(super) restarted: Vec<Restarted>,
    /// Slots that are wanted and not ready.
    pub(super) open: Vec<Open>,
    /// What still has to go, as slot and node: replicas of old definitions until they are released, and those of slots that are not
    /// wanted any more until nothing of them runs.
    pub(super) leaving: Vec<(String, String)>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ready", self.ready, self.wanted)?;
        if self.leaving.is_empty() { Ok(()) } else { write!(f, ", {} leaving", self.leaving.len()) }
    }
}

/// A slot without a ready replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) slot: SlotId,
    pub(super) name: String,
    pub(super) node: Option<String>,
    pub(super) detail: String,
    /// Whether an earlier definition still serves.
    pub(super) serves_old: bool,
    /// Whether nobody works on it: no claim holds it.
    is_abandoned: bool,
    /// Where it was tried in vain, and what came of it.
    in_vain: Option<(String, String)>,
}

/// What is remembered of a slot as long as it is not ready.
#[derive(Debug, Default)]
struct Record {
    /// Since when nobody works on it.
    abandoned: Option<Instant>,
    /// Since when it has been tried in vain; and the last place and reason.
    struggling: Option<(Instant, (String, String))>,
}

/// What has gone wrong with slots that are not ready.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<SlotId, Record>);

impl Troubles {
    /// Whether no slot that is still open can be hoped for any longer.
    pub(super) fn is_hopeless(&mut self, state: &State) -> bool {
        let now = Instant::now();
        // What ends as soon as it is ready has been tried in vain all the same.
        let settled =
            self.0.iter_mut().filter(|(slot, _)| state.open.iter().all(|open| open.slot != **slot));
        settled.for_each(|(_, record)| record.abandoned = None);
        let mut hopeless = !state.open.is_empty();
        for open in &state.open {
            hopeless &= self.0.entry(open.slot.clone()).or_default().judge(open, now);
        }
        hopeless
    }

    /// Where a slot was last tried in vain, and what came of it: it may just be tried once more, which tells nobody anything.
    pub(super) fn last(&self, slot: &SlotId) -> Option<(String, String)> {
        Some(self.0.get(slot)?.struggling.as_ref()?.1.clone())
    }
}

impl Record {
    fn judge(&mut self, open: &Open, now: Instant) -> bool {
        self.abandoned = open.is_abandoned.then(|| self.abandoned.unwrap_or(now));
        if let Some(last) = &open.in_vain {
            let since = self.struggling.take().map_or(now, |(since, _)| since);
            self.struggling = Some((since, last.clone()));
        }
        let lost_after = if self.struggling.is_some() { GIVEN_UP_AFTER } else { LOST_AFTER };
        let is_lost = self.abandoned.is_some_and(|at| now.duration_since(at) >= lost_after);
        let is_hopeless = self
            .struggling
            .as_ref()
            .is_some_and(|(at, _)| now.duration_since(*at) >= HOPELESS_AFTER);
        is_lost || is_hopeless
    }
}

/// A replica that was started again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Restarted {
    pub(super) slot: SlotId,
    pub(super) name: String,
    pub(super) node: String,
    /// How often.
    pub(super) restarts: u32,
}

/// Since when each replica that was started again has been ready.
#[derive(Debug, Default)]
pub(super) struct Calm(BTreeMap<Restarted, Instant>);

impl Calm {
    /// What is ready now and cannot be believed to stay so.
    pub(super) fn restless(&mut self, state: &State) -> Vec<Restarted> {
        let now = Instant::now();
        let before = std::mem::take(&mut self.0);
        // The pause before a start is no sign of calm.
        let is_ready = |one: &&Restarted| state.open.iter().all(|open| open.slot != one.slot);
        let since = |one: &Restarted| (one.clone(), before.get(one).copied().unwrap_or(now));
        self.0 = state.restarted.iter().filter(is_ready).map(since).collect();
        let restless = self.0.iter().filter(|(_, since)| now.duration_since(**since) < CALM_FOR);
        restless.map(|(one, _)| one.clone()).collect()
    }
}

/// What a claim has to tell while it is waited for; old ones only when they end.
pub(super) fn say(claim: &ClaimView) -> Option<String> {
    if claim.phase == Phase::Released {
        return Some("stopping".to_owned());
    }
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
    Some(match claim.detail.as_str() {
        "" => phase.to_owned(),
        detail if detail.starts_with(phase) => detail.to_owned(),
        detail => format!("{phase}: {detail}"),
    })
}

pub(super) fn state(services: &[&ServiceView]) -> State {
    let ready = services.iter().map(|service| service.n_ready + of::n_ended(service)).sum();
    let wanted = services.iter().map(|service| service.n_wanted).sum();
    let slots: Vec<&SlotView> = services.iter().flat_map(|service| &service.slots).collect();
    let open = slots.iter().filter(|slot| slot.wanted && !is_settled(slot)).map(|slot| open(slot));
    let leaving = slots.iter().flat_map(|slot| {
        let is_old = |claim: &&ClaimView| !slot.wanted || (!claim.current && claim.phase.holds());
        let name = |claim: &ClaimView| (slot.name.clone(), claim.node_name.to_string());
        heard(slot).filter(is_old).map(name)
    });
    let old = services.iter().map(|service| of::n_old(service)).sum();
    let restarted = slots.iter().filter(|slot| slot.wanted).flat_map(|slot| {
        let current = heard(slot).filter(|claim| claim.current && claim.restarts > 0);
        current.map(|claim| Restarted {
            slot: slot.slot.clone(),
            name: slot.name.clone(),
            node: claim.node_name.to_string(),
            restarts: claim.restarts,
        })
    });
    let (leaving, open, restarted) = (leaving.collect(), open.collect(), restarted.collect());
    State { ready, wanted, old, restarted, leaving, open }
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
    let in_vain =
        current().find(|claim| claim.phase == Phase::Failed || claim.restarts >= RESTARTS_MANY);
    let shown = current().find(|claim| claim.phase.holds()).or_else(|| current().next());
    let node = |claim: &ClaimView| claim.node_name.to_string();
    Open {
        slot: slot.slot.clone(),
        name: slot.name.clone(),
        node: shown.map(node),
        detail: shown.and_then(say).unwrap_or_default(),
        serves_old: heard(slot).any(|claim| !claim.current && claim.phase == Phase::Ready),
        is_abandoned: !current().any(|claim| claim.phase.holds()),
        in_vain: in_vain.map(|claim| (node(claim), say(claim).unwrap_or_default())),
    }
}
