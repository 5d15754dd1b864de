//! What a node knows of leases, for people.

use std::collections::BTreeSet;

use super::{Home, LeaseId, Leases, Terms, home};
use crate::catalogue::State;
use crate::id::{SlotId, SlotIndex};
use crate::spec::Mode;
use crate::time::Reading;
use crate::view::{LeaseQuery, LeaseView};

impl Leases {
    /// What is known of the slots that are asked for, the first `limit` of them in their order.
    pub(crate) fn view(
        &self,
        reading: Reading,
        state: &State,
        (query, limit): (&LeaseQuery, usize),
        name: impl Fn(&SlotId) -> String,
    ) -> Vec<LeaseView> {
        let is_asked = |slot: &SlotId| {
            query.app.is_none_or(|app| app == slot.app)
                && query.after.as_ref().is_none_or(|after| slot > after)
        };
        let own = self.slots().chain(self.witness.registers().map(|(lease, _)| &lease.slot));
        let mut slots: BTreeSet<SlotId> = own.filter(|slot| is_asked(slot)).cloned().collect();
        if !query.concerned {
            slots.extend(wanted(state).filter(is_asked));
        }
        let views = slots.into_iter().filter_map(|slot| self.view_of(reading, state, slot, &name));
        views.take(limit).collect()
    }

    fn view_of(
        &self,
        reading: Reading,
        state: &State,
        slot: SlotId,
        name: impl Fn(&SlotId) -> String,
    ) -> Option<LeaseView> {
        let id = self.lease_of(state, &slot)?;
        let held = self.slots.get(&slot).filter(|held| held.terms.lease == id);
        let lease = held.map(|held| &held.lease).filter(|it| !it.is_idle());
        let testimony = self.witness.testimony(reading, &id);
        // A witness keeps what it said of a slot for ever; of one that is gone nobody wants to know.
        let is_gone = home(state, &id) == Home::Removed;
        let is_over = lease.is_none() && testimony.is_none_or(|it| it.grant.is_none());
        if is_gone && is_over {
            return None;
        }
        let first = Terms::of(state, &slot).map(|terms| terms.first);
        let heard = lease.map(|lease| lease.configuration().clone());
        let accepted = self.witness.configuration(&id);
        let known = [first, heard, accepted].into_iter().flatten();
        Some(LeaseView {
            name: name(&slot),
            reset: id.reset,
            wanted: state.apps.get(&slot.app).is_some_and(|app| app.wants(&slot)),
            configuration: known.max_by_key(|it| it.version)?,
            pursuit: lease.and_then(|lease| lease.pursuit(reading)),
            testimony,
            slot,
        })
    }

    /// The lease that a slot has by the catalogue; where that does not know the slot, the last one that this node has to do with.
    fn lease_of(&self, state: &State, slot: &SlotId) -> Option<LeaseId> {
        let app = state.apps.get(&slot.app).or_else(|| state.parked.get(&slot.app));
        let held = || self.slots.get(slot).map(|held| held.terms.lease.clone());
        let witnessed = || {
            let ids = self.witness.registers().map(|(lease, _)| lease);
            ids.filter(|lease| lease.slot == *slot).last().cloned()
        };
        app.map(|app| app.lease(slot).0).or_else(held).or_else(witnessed)
    }
}

/// The exclusive slots that the catalogue wants.
fn wanted(state: &State) -> impl Iterator<Item = SlotId> {
    let running = state.apps.iter().filter(|(_, app)| app.running);
    running.flat_map(|(uid, app)| {
        let exclusive =
            app.release.spec.services.iter().filter(|(_, spec)| spec.guarantee.is_exclusive());
        exclusive.flat_map(move |(service, spec)| {
            let replicas = match app.mode(service, spec) {
                Mode::Replicated(replicas) => replicas,
                // Every node has a slot of its own there, and nobody else can hold it.
                Mode::Global => 0,
            };
            let index = (0..replicas).map(SlotIndex::Number);
            index.map(move |index| SlotId { app: *uid, service: service.clone(), index })
        })
    })
}
