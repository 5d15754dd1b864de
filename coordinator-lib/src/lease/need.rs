//! What a slot needs, from the claims that are known of it.

use crate::catalogue::{App, State};
use crate::fact::Phase;
use crate::id::{AppUid, Revision, SlotId, SlotIndex};
use crate::name::ServiceName;
use crate::placement::{Place, lasting_obstacles};
use crate::rules::{Rule, Rules};
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
    pub(super) fn of(claims: &[Standing], current: Revision, rules: Rules) -> Self {
        let holding = || claims.iter().filter(|claim| claim.phase.holds());
        let need = if holding().any(|claim| claim.revision == current && !claim.yielding) {
            Self::Nothing
        } else if holding().any(|claim| !claim.yielding && claim.revision != current) {
            Self::Replacement
        } else if holding().next().is_some() {
            Self::Relief
        } else {
            Self::Holder
        };
        let is_void = (need == Self::Replacement && !rules.hold(Rule::Replacement))
            || (need == Self::Relief && !rules.hold(Rule::Relief));
        if is_void { Self::Nothing } else { need }
    }
}

/// Whether the slot serves by its current definition: its turn in a replacement is over.
pub(super) fn is_renewed(claims: &[Standing], current: Revision) -> bool {
    let done = |claim: &Standing| matches!(claim.phase, Phase::Ready | Phase::Ended);
    claims.iter().any(|claim| claim.revision == current && done(claim))
}

/// The slots of one service, in the order in which they are replaced.
pub(super) fn slots_of<'p>(
    uid: AppUid,
    app: &App,
    service: &ServiceName,
    spec: &ServiceSpec,
    places: impl Iterator<Item = &'p Place>,
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
///
/// The places are looked at for the slots of global services only.
pub(crate) fn wanted_slots<'a, 'p>(
    state: &'a State,
    places: impl Iterator<Item = &'p Place> + Clone,
) -> Vec<(&'a App, &'a ServiceSpec, Vec<SlotId>)> {
    let services = state.apps.iter().flat_map(|(uid, app)| {
        app.release.spec.services.iter().map(move |(name, spec)| (*uid, app, name, spec))
    });
    services
        .map(|(uid, app, name, spec)| (app, spec, slots_of(uid, app, name, spec, places.clone())))
        .collect()
}
