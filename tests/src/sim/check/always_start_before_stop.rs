//! The theorem: as long as nothing crashes, nobody who serves a wanted slot stops before somebody else serves it.

use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{NodeId, Revision, SlotId, SlotIndex};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::Node;
use mesh_coordinator::spec::ServiceSpec;

use super::World;
use crate::sim::clock::{MILLI, Time};

const PROMISE: &str = "A-5: only who is ready promises to go on";
const CHECK: &str = "C5: somebody serves before the other stops";
/// A loss of a replica excuses those who had its word for so long: K1's patience, by a clock that is 1 % slow. Nobody gets its
/// word afterwards.
const EXCUSE: Time = 2_100 * MILLI;

impl World {
    /// `host` lets go of its replica of `slot`: from now on nobody may count on it.
    pub(crate) fn check_release(&mut self, host: usize, slot: &SlotId, revision: Revision) {
        let now = self.now;
        let key = (slot.clone(), revision.id);
        let Some(container) = self.hosts[host].containers.get_mut(&key) else { return };
        let serves = container.serves(now);
        container.stopping = true;
        if !serves {
            return;
        }
        let Some(node) = self.hosts[host].node() else { return };
        if !is_bound(node, self.hosts[host].id, slot) {
            // An operator's will: it binds those who have not heard of it as little.
            self.checks.excuse(slot, now);
            return;
        }
        // Whoever lets go counts on nobody that it does not take for a member.
        let others = self.hosts.iter().enumerate().any(|(other, it)| {
            (other == host || self.admits(host, other))
                && it.containers.iter().any(|((its_slot, its_revision), container)| {
                    let itself = other == host && *its_revision == revision.id;
                    its_slot == slot && !itself && container.serves(now)
                })
        });
        if others {
            self.coverage.reliefs += 1;
            return;
        }
        let excused = self.checks.excused.get(slot).is_some_and(|at| at + EXCUSE >= now);
        if !excused {
            self.fail(CHECK, format!("n{host} stops the only replica of {slot:?}, {revision}"));
        }
    }
}

impl World {
    /// whoever promises to go on is ready.
    pub(crate) fn check_promise(&mut self, host: usize, message: &Message) {
        let Message::Keep { slot, .. } = message else { return };
        let Some(node) = self.hosts[host].node() else { return };
        let able = node.claims().any(|claim| claim.slot == *slot && claim.phase == Phase::Ready);
        let sound = self.hosts[host]
            .containers
            .iter()
            .any(|((other, _), container)| other == slot && container.sound);
        if !able || !sound {
            self.fail(PROMISE, format!("n{host} promises to keep {slot:?}"));
        }
    }
}

/// Whether the node is bound to go on with the slot until somebody else does.
fn is_bound(node: &Node, id: NodeId, slot: &SlotId) -> bool {
    let state = node.state();
    if state.removed_nodes.contains(&id) {
        return false;
    }
    let Some(app) = state.apps.get(&slot.app).filter(|app| app.wants(slot)) else { return false };
    let has_own_port = |spec: &ServiceSpec| spec.host_ports().next().is_some();
    let spec = app.release.spec.service(&slot.service);
    // Of an exclusive slot nothing starts before the other has stopped.
    if spec.is_none_or(|spec| has_own_port(spec) || spec.guarantee.is_exclusive()) {
        return false;
    }
    match slot.index {
        SlotIndex::Number(_) => true,
        // Nobody else can hold it, so it stops with the node's being suited.
        SlotIndex::Node(_) => state.nodes.get(&id).is_some_and(|member| {
            let spec = spec.into_iter().flat_map(|spec| &spec.deploy.constraints);
            !member.drained
                && spec.into_iter().all(|it| it.admits(id, &member.name, &member.labels))
        }),
    }
}
