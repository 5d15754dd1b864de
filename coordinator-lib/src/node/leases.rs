//! A node's leases between its claims and the world.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Input, Node, Output, Ticket};
use crate::event::{Severity, Subject};
use crate::id::{NodeId, SlotId};
use crate::lease::exclusive::{Request, Timing, Token, WitnessId, next_witnesses};
use crate::message::Message;
use crate::rules::Rule;
use crate::time::{Instant, Reading, WallTime};
use crate::view::NodeStatus;

/// A witness that was not heard for so long is replaced: longer than a reboot takes.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// So long passes between two changes of a slot's witnesses, so that a mesh in trouble is not kept busy with them.
const CHANGE_PAUSE: Duration = Duration::from_secs(60);
/// The pause between two looks at the witnesses of all slots that are held.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What is remembered of a slot whose lease was given up by an operator.
const RESET: &str = "an operator has reset it: its lease counts no more";

impl Node {
    /// Whether this node vouches for nothing any more, because it does not know what is on its disk.
    #[must_use]
    pub const fn is_broken_witness(&self) -> bool {
        self.leases.is_broken()
    }

    /// The lease of a slot that this node holds: its token, its times, and when it is over if nobody renews it. `None` while it holds none.
    #[must_use]
    pub fn lease(&self, slot: &SlotId) -> Option<(Token, Timing, Reading)> {
        self.leases.times(slot)
    }

    /// Who witnesses a slot that this node holds; `None` while it holds none, or they are being changed.
    #[must_use]
    pub fn witnesses(&self, slot: &SlotId) -> Option<&BTreeSet<WitnessId>> {
        let mut held = self.leases.witnessed(self.reading);
        held.find(|(its, _)| *its == slot).map(|(_, witnesses)| witnesses)
    }

    /// Lets go of a lease by which nothing runs, and tells those who may be waiting for it.
    pub(super) fn release(&mut self, slot: &SlotId, out: &mut Vec<Output>) {
        let token = self.leases.held(slot);
        self.leases.release(self.reading, self.catalogue.state(), slot, out);
        // Ahead of the hint, or else who follows it finds the slot held.
        self.leases.send(out);
        let Some(token) = token else { return };
        self.note(slot, format!("releases its lease by token {token}"));
        for to in self.membership.alive() {
            let message = Message::Free { slot: slot.clone(), token };
            out.push(Output::Send { to, message });
        }
    }

    /// What was begun goes on at once, and time goes on with it.
    pub(super) fn tend_leases(&mut self, now: Instant, out: &mut Vec<Output>) {
        let state = self.catalogue.state();
        self.leases.retain(|slot| state.apps.contains_key(&slot.app));
        let reset = self.leases.drop_reset(state);
        reset.into_iter().for_each(|slot| self.remember(now, &slot, RESET.to_owned()));
        let state = self.catalogue.state();
        self.leases.wake(self.reading, state, out);
        self.mend_witnesses(now, out);
        for lease in self.leases.take_lost() {
            let message = Message::Ask(vec![(lease, Request::Locate)]);
            let ask = |to| Output::Send { to, message: message.clone() };
            out.extend(self.membership.alive().map(ask));
        }
        let due = self.leases.next_deadline(self.reading).map(|due| now + due);
        // What came of it concerns the claims.
        self.leases_wake = if self.leases.has_news() { Some(now) } else { due };
    }

    /// Where a witness of a slot that this node holds is lost, another one takes its place.
    fn mend_witnesses(&mut self, now: Instant, out: &mut Vec<Output>) {
        if now.since(self.mended) < LOOK_PAUSE || !self.rules.hold(Rule::MendWitnesses) {
            return;
        }
        self.mended = now;
        self.changed.retain(|_, changed| now.since(*changed) < CHANGE_PAUSE);
        let live = self.live_witnesses();
        let mend = |(slot, current): (&SlotId, &BTreeSet<WitnessId>)| {
            let next = next_witnesses(slot, current, &live, |it| self.is_lost(now, it))?;
            Some((slot.clone(), current.clone(), next))
        };
        let held = self.leases.witnessed(self.reading);
        let due = held.filter(|(slot, _)| !self.changed.contains_key(*slot));
        let changes: Vec<_> = due.filter_map(mend).collect();
        for (slot, before, next) in changes {
            let state = self.catalogue.state();
            if self.leases.change(self.reading, state, (&slot, next.clone()), out) {
                self.note_witnesses(&slot, &before, &next);
                self.changed.insert(slot, now);
            }
        }
    }

    /// The nodes that are heard, as witnesses. Whoever is accused may be gone: what is believed of it moves later.
    fn live_witnesses(&self) -> BTreeSet<WitnessId> {
        let witness = |node| {
            let facts = self.facts.get(&node).filter(|facts| !facts.has_twin)?;
            Some(WitnessId { node, store: facts.store? })
        };
        let me = WitnessId { node: self.config.me, store: self.config.store };
        let is_silent =
            |node: &NodeId| self.membership.is_accused(*node) && self.rules.hold(Rule::AskLiving);
        let alive = self.membership.alive().filter(|node| !is_silent(node));
        alive.filter_map(witness).chain([me]).collect()
    }

    /// Whether a witness will not answer any more, or has not for long: its node was removed, has another store or a twin,
    /// or is down.
    fn is_lost(&self, now: Instant, witness: &WitnessId) -> bool {
        let node = witness.node;
        if node == self.config.me {
            return witness.store != self.config.store;
        }
        let facts = self.facts.get(&node);
        let store = facts.and_then(|facts| facts.store);
        let is_silent = self.membership.status(node) == Some(NodeStatus::Down)
            && self.membership.last_heard(node).is_none_or(|at| now.since(at) >= LOST_AFTER);
        is_silent
            || facts.is_some_and(|facts| facts.has_twin)
            || store.is_some_and(|store| store != witness.store)
            || !self.catalogue.state().nodes.contains_key(&node)
    }

    /// A register is on the disk. Nothing follows for the claims.
    pub(super) fn on_persisted(&mut self, ticket: Ticket) -> bool {
        self.leases.persisted(ticket);
        false
    }

    /// A witness that does not know what is on its disk says nothing any more, until its agent starts again. Nothing follows for the claims.
    pub(super) fn on_persist_failed(
        &mut self,
        wall: WallTime,
        reason: &str,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.leases.fail() {
            let text =
                format!("this node is no witness any more until its agent starts again: {reason}");
            let subject = Subject::Node(self.config.me);
            self.tell(wall, Severity::Error, subject, text, out);
        }
        false
    }
}

impl Input {
    /// Whether a lease may have moved by it.
    pub(super) const fn is_about_leases(&self) -> bool {
        matches!(
            self,
            Self::Said {
                message: Message::Word { .. } | Message::Free { .. } | Message::Twin { .. },
                ..
            } | Self::Wake
                | Self::Found { .. }
                | Self::Twin
                | Self::Began
        )
    }
}
