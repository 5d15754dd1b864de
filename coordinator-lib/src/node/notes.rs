//! What people are told once, when it happens: of leases, and of apps that two sides of a split made under one name.

use std::collections::BTreeSet;

use super::{Node, Output};
use crate::event::{Severity, Subject};
use crate::id::SlotId;
use crate::lease::exclusive::WitnessId;
use crate::time::{Instant, WallTime};

impl Node {
    /// Keeps what became of a lease until this step is over: who knows it has no wall clock.
    pub(super) fn note(&mut self, slot: &SlotId, text: String) {
        self.notes.push((slot.clone(), Severity::Info, text));
    }

    /// A change of the witnesses of a slot that this node holds.
    pub(super) fn note_witnesses(
        &mut self,
        slot: &SlotId,
        before: &BTreeSet<WitnessId>,
        next: &BTreeSet<WitnessId>,
    ) {
        let names = |of: &BTreeSet<WitnessId>, but: &BTreeSet<WitnessId>| {
            let names = of.difference(but).map(|witness| self.name_of(witness.node).to_string());
            names.collect::<Vec<_>>().join(", ")
        };
        let (joins, leaves) = (names(next, before), names(before, next));
        let change = match (joins.as_str(), leaves.as_str()) {
            (joins, "") => format!("{joins} joins"),
            ("", leaves) => format!("{leaves} leaves"),
            (joins, leaves) => format!("{joins} for {leaves}"),
        };
        let token = self.leases.held(slot).map(|token| format!(" by token {token}"));
        let text =
            format!("changes the witnesses of its lease{}: {change}", token.unwrap_or_default());
        self.note(slot, text);
    }

    /// Tells what was kept, and what else is new.
    pub(super) fn tell_notes(&mut self, now: Instant, wall: WallTime, out: &mut Vec<Output>) {
        for (slot, token) in self.leases.take_lapsed() {
            let text = format!(
                "its lease by token {token} ended without being renewed: too few witnesses answered in time"
            );
            self.notes.push((slot, Severity::Warning, text));
        }
        for (slot, severity, text) in std::mem::take(&mut self.notes) {
            self.remember(now, &slot, text.clone());
            self.tell(wall, severity, Subject::Slot(slot), text, out);
        }
        for (severity, text) in std::mem::take(&mut self.alarms) {
            self.tell(wall, severity, Subject::Node(self.config.me), text, out);
        }
        self.tell_parked(wall, out);
    }

    /// All nodes find out that an app is parked; the first of those that are heard says so, or everybody would.
    fn tell_parked(&mut self, wall: WallTime, out: &mut Vec<Output>) {
        let state = self.catalogue.state();
        if state.parked.keys().eq(self.parked.iter()) {
            return;
        }
        let is_first = self.membership.alive().all(|node| node > self.config.me);
        let new = state.parked.iter().filter(|(uid, _)| !self.parked.contains(*uid));
        let texts: Vec<String> = new
            .map(|(uid, app)| {
                let name = &app.release.spec.name;
                format!(
                    "the app {name} ({uid}) is parked: another app called {name} was placed on the other side of a split, and that one runs; agentctl ps {name} says what to do"
                )
            })
            .collect();
        self.parked = state.parked.keys().copied().collect();
        for text in texts.into_iter().filter(|_| is_first) {
            self.tell(wall, Severity::Warning, Subject::Mesh, text, out);
        }
    }
}
