//! C1, C8, A-6: nobody starts before it has heard the others, too much at a time, or what somebody else serves already.

use mesh_coordinator::fact::{Claim, Phase};
use mesh_coordinator::id::{NodeId, Revision, SlotId, SlotIndex};
use mesh_coordinator::node::Node;
use mesh_coordinator::view::NodeStatus;

use super::World;
use crate::sim::clock::{SECOND, Time};

const WARM: &str = "C1: no start before the others were heard";
const FEW: &str = "C8: few starts at a time";
const NEEDLESS: &str = "A-6: what is served is not started elsewhere";
/// The most starts of one node at a time.
const STARTS_MAX: usize = 4;
/// Whoever was in touch for so long knows what the other holds.
const IN_TOUCH: Time = 15 * SECOND;

impl World {
    pub(crate) fn check_start(&mut self, host: usize, slot: &SlotId, revision: Revision) {
        let Some(agent) = &self.hosts[host].agent else { return };
        if !agent.node.is_warm() {
            self.fail(WARM, format!("n{host} starts {slot:?}"));
            return;
        }
        let starting = agent.workers.values().filter(|worker| worker.starting).count();
        if starting >= STARTS_MAX {
            self.fail(FEW, format!("n{host} starts {} at a time", starting + 1));
            return;
        }
        let is_leased = self.hosts[host]
            .containers
            .get(&(slot.clone(), revision.id))
            .is_some_and(|container| container.fence.is_some());
        if matches!(slot.index, SlotIndex::Node(_)) || is_leased {
            return;
        }
        if let Some(holder) = known_holder(&agent.node, slot, revision) {
            self.fail(NEEDLESS, format!("n{host} starts {slot:?}, and knows that {holder} serves"));
        } else if let Some(holder) = self.serving_holder(host, slot, revision) {
            self.fail(NEEDLESS, format!("n{host} starts {slot:?}, which n{holder} serves"));
        }
    }

    /// Somebody else of whom `host` should know that it serves the slot: it has been in touch with `host` for long, and has been
    /// serving for longer than the word of it takes.
    ///
    /// What became ready while its word is still on its way cannot be known to anybody, and a promise about it would be one about
    /// the speed of light. Nor is a paused agent in touch: it is down by all accounts, though its container may run.
    fn serving_holder(&self, host: usize, slot: &SlotId, revision: Revision) -> Option<usize> {
        // Where somebody hears the holder and a majority does not, the majority counts.
        if !self.net.is_whole() {
            return None;
        }
        // Just after the first boot nobody has been in touch for so long.
        let long = self.now.checked_sub(IN_TOUCH)?;
        if self.checks.last_change > long
            || self.is_removed(host)
            || self.hosts[host].agent.as_ref()?.started > long
        {
            return None;
        }
        let key = (slot.clone(), revision.id);
        (0..self.hosts.len()).filter(|other| *other != host).find(|other| {
            let Some(agent) = &self.hosts[*other].agent else { return false };
            let serving = self.checks.serving.get(&(*other, key.clone()));
            serving.is_some_and(|since| since + self.word() < self.now)
                && agent.started <= long
                && !agent.paused
                && !self.is_removed(*other)
        })
    }

    /// The longest that the word of a claim takes between two nodes in touch: a direct message, or gossip's three rounds where
    /// messages get lost.
    const fn word(&self) -> Time {
        if self.plan.loss_permille == 0 {
            self.plan.delay + self.plan.jitter
        } else {
            3 * self.plan.gossip_interval
        }
    }

    /// What somebody says of a claim of its own.
    pub(crate) fn note_serving(&mut self, host: usize, claim: &Claim) {
        let key = (host, (claim.slot.clone(), claim.revision.id));
        if claim.phase == Phase::Ready && !claim.yielding {
            self.checks.serving.entry(key).or_insert(self.now);
        } else {
            self.checks.serving.remove(&key);
        }
    }
}

/// Somebody who serves the slot as far as `node` knows, when `node` starts its own replica for the first time. To start it again
/// after it ended is another matter: the better of two claims goes on (C5).
fn known_holder(node: &Node, slot: &SlotId, revision: Revision) -> Option<NodeId> {
    let own = |claim: &&Claim| claim.slot == *slot && claim.revision == revision;
    if node.claims().find(own)?.restarts > 0 {
        return None;
    }
    let mut known = node.known_claims().filter(|(holder, claim)| {
        own(claim)
            && claim.phase == Phase::Ready
            && !claim.yielding
            && node.status(*holder).is_some_and(|status| status != NodeStatus::Down)
    });
    known.next().map(|(holder, _)| holder)
}
