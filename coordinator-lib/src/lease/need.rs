//! What a slot needs, from the claims that are known of it.

use crate::catalogue::{App, State};
use crate::fact::Phase;
use crate::id::{AppUid, Revision, SlotId, SlotIndex};
use crate::name::ServiceName;
use crate::placement::{Place, lasting_obstacles};
use crate::spec::{Mode, ServiceSpec};

/// What a slot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Somebody holds it.
    Nothing,
    /// It is held by an old definition: it is replaced when its turn comes.
    Replacement,
    /// Its holder wants to be relieved.
    Relief,
    /// Nobody holds it.
    Holder,
}

/// A claim that counts, as far as the need of its slot goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) revision: Revision,
    pub(super) phase: Phase,
    pub(super) yielding: bool,
}

impl Need {
    /// From the claims of nodes that are believed to serve.
    pub(super) fn of(claims: &[Standing], current: Revision) -> Self {
        let holding = || claims.iter().filter(|claim| claim.phase.holds());
        if holding().any(|claim| claim.revision == current && !claim.yielding) {
            Self::Nothing
        } else if holding().any(|claim| !claim.yielding && claim.revision != current) {
            Self::Replacement
        } else if holding().next().is_some() {
            Self::Relief
        } else {
            Self::Holder
        }
    }
}

/// Whether the slot serves by its current definition: its turn in a replacement is over.
pub(super) fn is_renewed(claims: &[Standing], current: Revision) -> bool {
    let done = |claim: &Standing| matches!(claim.phase, Phase::Ready | Phase::Ended);
    claims.iter().any(|claim| claim.revision == current && done(claim))
}

/// The slots of one service, in the order in which they are replaced.
pub(super) fn slots_of<'a>(
    uid: AppUid,
    app: &App,
    service: &ServiceName,
    spec: &ServiceSpec,
    places: impl Iterator<Item = &'a Place>,
) -> Vec<SlotId> {
    let slot = |index| SlotId { app: uid, service: service.clone(), index };
    if !app.running {
        return Vec::new();
    }
    match app.mode(service, spec) {
        Mode::Replicated(replicas) => {
            (0..replicas).map(|number| slot(SlotIndex::Number(number))).collect()
        }
        Mode::Global => places
            .map(|place| (place, slot(SlotIndex::Node(place.id))))
            .filter(|(place, slot)| lasting_obstacles(slot, spec, place).is_empty())
            .map(|(_, slot)| slot)
            .collect(),
    }
}

/// All slots that the catalogue wants.
pub(crate) fn wanted_slots<'a>(
    state: &'a State,
    places: impl Iterator<Item = &'a Place> + Clone,
) -> Vec<(&'a App, &'a ServiceSpec, Vec<SlotId>)> {
    let services = state.apps.iter().flat_map(|(uid, app)| {
        app.release.spec.services.iter().map(move |(name, spec)| (*uid, app, name, spec))
    });
    services
        .map(|(uid, app, name, spec)| (app, spec, slots_of(uid, app, name, spec, places.clone())))
        .collect()
}
