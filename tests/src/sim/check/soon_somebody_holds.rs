//! D5: where a node that suits an exclusive slot reaches most of its witnesses for three times the length of a lease, somebody holds it.

use std::collections::BTreeMap;

use mesh_coordinator::catalogue::State;
use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::SlotId;
use mesh_coordinator::spec::Guarantee;

use super::World;
use super::settled_one_holder::Slot;
use crate::sim::clock::{SECOND, Time};

const EMPTY: &str = "D5: who reaches most witnesses for long holds the slot, or somebody else does";
/// Beside the time of leases: gossip's detector takes 10 s, and the first words of a life as long.
const NEWS: Time = 20 * SECOND;

impl World {
    /// Looks for slots that somebody could have had for long.
    pub(crate) fn check_vacancies(&mut self) {
        let mut vacant = BTreeMap::new();
        for host in 0..self.hosts.len() {
            let Some(node) = self.hosts[host].node().filter(|node| node.is_warm()) else {
                continue;
            };
            if !self.hosts[host].is_awake() || self.is_removed(host) {
                continue;
            }
            let state = node.state();
            for slot in self.slots(state, &[host]) {
                let Guarantee::Exclusive { ttl } = slot.spec.guarantee else { continue };
                if self.could_hold(host, state, &slot) {
                    vacant.insert((slot.id, host), 3 * ttl.as_micros() as Time + NEWS);
                }
            }
        }
        self.checks.vacant.retain(|key, _| vacant.contains_key(key));
        let now = self.now;
        for (key, patience) in vacant {
            let since = *self.checks.vacant.entry(key.clone()).or_insert(now);
            if since + patience < now {
                let (slot, host) = key;
                return self.fail(EMPTY, format!("n{host} could hold {slot:?} since {since}"));
            }
        }
    }

    /// Whether nobody holds a slot, and this node would only have to ask.
    fn could_hold(&self, host: usize, state: &State, slot: &Slot<'_>) -> bool {
        self.is_free(&slot.id)
            && self.can_hold(state, host, slot)
            && self.can_be_leased(state, &self.reached(host), slot)
    }

    /// The hosts that hear this one and are heard by it, and whose disks are well.
    fn reached(&self, host: usize) -> Vec<usize> {
        let is_well = |other: &usize| {
            let it = &self.hosts[*other];
            let ails = it.disk_full || it.disk_bad || it.disk_slow;
            it.is_awake() && !ails && (*other == host || self.are_in_touch(host, *other))
        };
        (0..self.hosts.len()).filter(is_well).collect()
    }

    /// Whether nobody has a claim of the slot: not one who cools down, and not one whose agent said that it would be back.
    fn is_free(&self, slot: &SlotId) -> bool {
        let now = self.now;
        self.hosts.iter().all(|it| {
            let mut claims = it.node().into_iter().flat_map(mesh_coordinator::node::Node::claims);
            let is_back_soon = it.announced.is_some_and(|at| now - at < 70 * SECOND);
            let claims = claims.any(|it| it.slot == *slot && it.phase != Phase::Released);
            !(is_back_soon || it.is_awake() && claims)
        })
    }
}
