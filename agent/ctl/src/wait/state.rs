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
/// A replica that gave up somewhere, or was started again several times, gets so long to become ready after all, on that node
/// or on another: long enough for an image to arrive there, short enough for somebody who waits at a prompt.
const HOPELESS_AFTER: Duration = Duration::from_secs(20);
/// So many starts in a row are no accident any more.
const RESTARTS_MANY: u32 = 3;

/// How far the replicas have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) ready: u32,
    pub(super) wanted: u32,
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
    trouble: Option<Trouble>,
}

/// Why a slot may never become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nobody works on it: no claim holds it.
    Abandoned,
    /// It was tried in vain, and is tried again.
    Struggling,
}

impl Trouble {
    /// How long it may last.
    const fn patience(self) -> Duration {
        match self {
            Self::Abandoned => LOST_AFTER,
            Self::Struggling => HOPELESS_AFTER,
        }
    }
}

/// Since when slots are in trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<SlotId, Instant>);

impl Troubles {
    /// Whether no slot that is still open can be hoped for any longer.
    pub(super) fn is_hopeless(&mut self, state: &State) -> bool {
        let now = Instant::now();
        let troubled = |slot: &SlotId| {
            state.open.iter().any(|open| open.trouble.is_some() && open.slot == *slot)
        };
        self.0.retain(|slot, _| troubled(slot));
        let mut hopeless = !state.open.is_empty();
        for open in &state.open {
            hopeless &= open.trouble.is_some_and(|trouble| {
                let since = *self.0.entry(open.slot.clone()).or_insert(now);
                now.duration_since(since) >= trouble.patience()
            });
        }
        hopeless
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
    State { ready, wanted, leaving: leaving.collect(), open: open.collect() }
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
        |claim: &ClaimView| claim.phase == Phase::Failed || claim.restarts >= RESTARTS_MANY;
    let trouble = if !current().any(|claim| claim.phase.holds()) {
        Some(Trouble::Abandoned)
    } else if current().any(in_vain) {
        Some(Trouble::Struggling)
    } else {
        None
    };
    let shown = current().find(|claim| claim.phase.holds()).or_else(|| current().next());
    Open {
        slot: slot.slot.clone(),
        name: slot.name.clone(),
        node: shown.map(|claim| claim.node_name.to_string()),
        detail: shown.and_then(say).unwrap_or_default(),
        trouble,
    }
}
