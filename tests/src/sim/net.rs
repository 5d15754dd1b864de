//! The network: who reaches whom, and how long it takes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::Input;

use super::World;
use super::clock::Time;
use super::queue::Event;

/// Which ways are closed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net {
    /// The number of the cut by which a way is closed.
    cuts: BTreeMap<(usize, usize), u64>,
    opened: BTreeMap<(usize, usize), Time>,
    n_cuts: u64,
}

impl Net {
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        self.cuts.is_empty() || !self.cuts.contains_key(&(from, to))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }

    pub(crate) fn are_linked(&self, a: usize, b: usize) -> bool {
        self.is_open(a, b) && self.is_open(b, a)
    }

    /// Since when a way is open.
    pub(crate) fn opened(&self, from: usize, to: usize) -> Time {
        if self.opened.is_empty() { 0 } else { self.opened.get(&(from, to)).copied().unwrap_or(0) }
    }
}

impl World {
    /// Sends a message on its way, from which it may not return.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        self.coverage.messages += 1;
        self.tally.sends(&message);
        if !self.net.is_open(from, to) || self.rng.chance(self.plan.loss_permille) {
            return;
        }
        let lag = self.plan.lag.filter(|(host, _)| [from, to].contains(host));
        let at = self.now + self.delay() + lag.map_or(0, |(_, lag)| lag);
        if self.rng.chance(self.plan.repeat_permille) {
            let again = self.now + self.delay() + self.rng.below(2_000_000);
            let message = Box::new(message.clone());
            self.queue.at(again, Event::Arrive { from, to, message });
        }
        self.queue.at(at, Event::Arrive { from, to, message: Box::new(message) });
    }

    /// Whether the agent of `host` takes `other` for a member; whom it does not it neither listens to nor speaks with.
    pub(crate) fn admits(&self, host: usize, other: usize) -> bool {
        self.hosts[host].admits.contains(&self.hosts[other].id)
    }

    /// Whether what one of them says reaches the other, both ways.
    pub(crate) fn are_in_touch(&self, a: usize, b: usize) -> bool {
        self.net.are_linked(a, b) && self.admits(a, b) && self.admits(b, a)
    }

    /// The members, as the agent of `host` knows them.
    pub(crate) fn members_of(&self, host: usize) -> BTreeSet<NodeId> {
        self.hosts[host]
            .node()
            .map(|node| node.state().nodes.keys().copied().collect())
            .unwrap_or_default()
    }

    /// The agent of `host` has heard of members, or of removals: it opens its doors, and closes them.
    pub(crate) fn admit(&mut self, host: usize) {
        let members = self.members_of(host);
        if members == self.hosts[host].admits || self.hosts[host].agent.is_none() {
            return;
        }
        self.before_change();
        let before = std::mem::replace(&mut self.hosts[host].admits, members);
        for other in 0..self.hosts.len() {
            let (was, is) = (before.contains(&self.hosts[other].id), self.admits(host, other));
            if is && !was {
                self.net.opened.insert((host, other), self.now);
            }
            if was && !is {
                // What a removed node serves is no member's business any more, and nobody is to count on it.
                let slots: Vec<SlotId> =
                    self.hosts[other].containers.keys().map(|(slot, _)| slot.clone()).collect();
                for slot in slots {
                    self.checks.excuse(&slot, self.now);
                }
            }
        }
        self.meet();
    }

    /// How long a message takes. Two of them may overtake each other.
    pub(crate) fn delay(&mut self) -> Time {
        self.plan.delay + self.rng.below(self.plan.jitter)
    }

    pub(crate) fn arrive(&mut self, from: usize, to: usize, message: Message) {
        let sender = self.hosts[from].id;
        let Some(node) = self.hosts[to].node() else { return };
        // The transport admits members only.
        if node.state().nodes.contains_key(&sender) {
            self.input(to, Input::Said { from: sender, message });
        }
    }

    /// Closes ways until `until`, or until they are closed anew.
    pub(crate) fn cut(&mut self, ways: &[(usize, usize)], until: Time) {
        self.before_change();
        self.net.n_cuts += 1;
        let cut = self.net.n_cuts;
        for (from, to) in ways.iter().copied() {
            self.net.cuts.insert((from, to), cut);
            self.queue.at(until, Event::Mend { from, to, cut });
        }
        self.coverage.splits += 1;
        self.after_change();
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize, cut: u64) {
        if self.net.cuts.get(&(from, to)) == Some(&cut) {
            self.before_change();
            self.net.cuts.remove(&(from, to));
            self.net.opened.insert((from, to), self.now);
            self.coverage.heals += 1;
            self.disturb(0);
            self.after_change();
        }
    }

    pub(crate) fn mend_all(&mut self) {
        self.before_change();
        let now = self.now;
        let closed: Vec<(usize, usize)> = self.net.cuts.keys().copied().collect();
        self.coverage.heals += closed.len() as u64;
        self.net.opened.extend(closed.into_iter().map(|way| (way, now)));
        self.net.cuts.clear();
        self.after_change();
    }

    /// To be called before anything changes who hears whom: what was heard until now is heard.
    pub(crate) fn before_change(&mut self) {
        if self.at_once {
            return;
        }
        for host in 0..self.hosts.len() {
            self.listen(host);
        }
    }

    /// To be called after it.
    pub(crate) fn after_change(&mut self) {
        if self.at_once {
            return;
        }
        self.checks.last_change = self.now;
        self.checks.last_fault = self.checks.last_fault.max(self.now);
        self.meet();
    }

    /// Lets several things happen at one moment. Who reaches whom is worked out once: that costs more than all of them in a large mesh.
    pub(crate) fn at_once(&mut self, changes: impl FnOnce(&mut Self)) {
        self.before_change();
        self.at_once = true;
        changes(self);
        self.at_once = false;
        self.after_change();
    }

    /// Who reaches whom has changed: everybody takes a look.
    fn meet(&mut self) {
        self.gossip_refresh();
        for watcher in 0..self.hosts.len() {
            let Some(agent) = &self.hosts[watcher].agent else { continue };
            for watched in agent.watched.clone() {
                self.poke(watcher, watched);
            }
        }
    }
}
