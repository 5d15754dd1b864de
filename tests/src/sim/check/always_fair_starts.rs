//! C1, C8, A-6: nobody starts before it has heard the others, too much at a time, or what somebody else serves already.

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{Revision, SlotId, SlotIndex};

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
        let is_global = matches!(slot.index, SlotIndex::Node(_));
        if !is_global && let Some(holder) = self.serving_holder(host, slot, revision) {
            self.fail(NEEDLESS, format!("n{host} starts {slot:?}, which n{holder} serves"));
        }
    }

    /// Somebody else who serves the slot and has been in touch with `host` for long.
    fn serving_holder(&self, host: usize, slot: &SlotId, revision: Revision) -> Option<usize> {
        // Where somebody hears the holder and a majority does not, the majority counts.
        if !self.net.is_whole() {
            return None;
        }
        let long = self.now.saturating_sub(IN_TOUCH);
        if self.checks.last_change > long
            || self.is_removed(host)
            || self.hosts[host].agent.as_ref()?.started > long
        {
            return None;
        }
        (0..self.hosts.len()).filter(|other| *other != host).find(|other| {
            let Some(agent) = &self.hosts[*other].agent else { return false };
            let serves = agent.node.claims().any(|claim| {
                claim.slot == *slot
                    && claim.revision == revision
                    && claim.phase == Phase::Ready
                    && !claim.yielding
            });
            serves && agent.started <= long && !self.is_removed(*other)
        })
    }
}
