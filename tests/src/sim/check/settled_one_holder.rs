//! P4 and A-1: each wanted slot that some node can hold is held by exactly one, and nothing else runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::catalogue::State;
use mesh_coordinator::fact::{Claim, Phase};
use mesh_coordinator::id::{NodeId, Revision, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{Configuration, WitnessId, first_witnesses};
use mesh_coordinator::spec::{Mode, Reservation, RestartPolicy, ServiceSpec};

use super::World;
use crate::sim::host::Process;

const EMPTY: &str = "P4: no slot stays empty that somebody can hold";
const DOUBLE: &str = "A-1: one holder for each slot";
const RESTLESS: &str = "A-1: the holder is ready, current, and where it should be";
const STRANGER: &str = "C12: nothing runs that nobody wants";

/// What is known of one slot.
pub(super) struct Slot<'a> {
    pub(super) id: SlotId,
    pub(super) spec: &'a ServiceSpec,
    current: Revision,
}

impl World {
    pub(crate) fn check_holders(&mut self, part: &[usize]) {
        let Some(node) = part.first().and_then(|host| self.hosts[*host].node()) else { return };
        let state = node.state().clone();
        let mut claims: BTreeMap<SlotId, Vec<(usize, Claim)>> = BTreeMap::new();
        for host in part {
            for claim in
                self.hosts[*host].node().into_iter().flat_map(mesh_coordinator::node::Node::claims)
            {
                claims.entry(claim.slot.clone()).or_default().push((*host, claim.clone()));
            }
        }
        let slots = self.slots(&state, part);
        for slot in &slots {
            let known = claims.get(&slot.id).map_or(&[][..], Vec::as_slice);
            if let Some((check, text)) = self.judge(&state, part, slot, known) {
                let known: Vec<_> = known
                    .iter()
                    .map(|(host, it)| (host, it.revision, it.phase, it.yielding))
                    .collect();
                return self.fail(check, format!("{text}: {:?} {known:?}", slot.id));
            }
        }
        let wanted: BTreeSet<&SlotId> = slots.iter().map(|slot| &slot.id).collect();
        if let Some(text) = self.stranger(part, &wanted) {
            self.fail(STRANGER, text);
        }
    }

    pub(super) fn slots<'a>(&self, state: &'a State, part: &[usize]) -> Vec<Slot<'a>> {
        let mut slots = Vec::new();
        for (uid, app) in state.apps.iter().filter(|(_, app)| app.running) {
            for (name, spec) in &app.release.spec.services {
                let current = app.revision(name, spec);
                let slot = |index| SlotId { app: *uid, service: name.clone(), index };
                let indices: Vec<SlotIndex> = match app.mode(name, spec) {
                    Mode::Replicated(replicas) => (0..replicas).map(SlotIndex::Number).collect(),
                    Mode::Global => {
                        let ids = part.iter().map(|host| self.hosts[*host].id);
                        ids.filter(|id| suits(state, *id, spec)).map(SlotIndex::Node).collect()
                    }
                };
                slots.extend(indices.into_iter().map(|index| Slot {
                    id: slot(index),
                    spec,
                    current,
                }));
            }
        }
        slots
    }

    /// What is wrong with a slot.
    fn judge(
        &self,
        state: &State,
        part: &[usize],
        slot: &Slot<'_>,
        known: &[(usize, Claim)],
    ) -> Option<(&'static str, String)> {
        let holding: Vec<&(usize, Claim)> =
            known.iter().filter(|(_, claim)| claim.phase.holds()).collect();
        let cooling = known.iter().any(|(_, claim)| claim.phase == Phase::Failed);
        let others: Vec<usize> = part
            .iter()
            .filter(|host| !holding.iter().any(|(holder, _)| holder == *host))
            .filter(|host| self.can_hold(state, **host, slot))
            .copied()
            .collect();
        match holding.as_slice() {
            [] if cooling || others.is_empty() || !self.can_be_leased(state, part, slot) => None,
            [] => Some((EMPTY, format!("nobody holds it, and n{others:?} could"))),
            [(host, claim)] => {
                let runs_to_end = slot.spec.template.restart != RestartPolicy::Always;
                let id = self.hosts[*host].id;
                let at_rest = matches!(claim.phase, Phase::Ready | Phase::Ended) || runs_to_end;
                let well = at_rest && claim.revision == slot.current;
                // What has ended is a note of that, and takes no room.
                let is_note = claim.phase == Phase::Ended;
                let placed = suits(state, id, slot.spec) || others.is_empty() || cooling || is_note;
                let key = (slot.id.clone(), claim.revision.id);
                let process = self.hosts[*host].containers.get(&key).map(|it| it.process);
                let runs = claim.phase != Phase::Ready || process == Some(Process::Running);
                // Whoever nobody can relieve goes on as it is, also with a definition that has no place anywhere.
                let cannot = claim.yielding || !self.can_hold(state, *host, slot);
                let alone = cannot && others.is_empty();
                if (well || cooling || alone) && placed && runs {
                    None
                } else {
                    Some((RESTLESS, format!("n{host} holds it, {others:?} could, {process:?}")))
                }
            }
            _ if cooling => None,
            _ => Some((DOUBLE, "several hold it".to_owned())),
        }
    }

    /// Whether a majority of the witnesses of the slot can be asked, if it needs any.
    pub(super) fn can_be_leased(&self, state: &State, part: &[usize], slot: &Slot<'_>) -> bool {
        let Some(app) = state.apps.get(&slot.id.app) else { return false };
        if !slot.spec.guarantee.is_exclusive() {
            return true;
        }
        // The last word on who the witnesses are, by the disks of all hosts.
        let (lease, roster) = app.lease(&slot.id);
        let registers = self.hosts.iter().filter_map(|it| it.registers.get(&lease));
        let accepted = registers.filter_map(|register| register.accepted.as_ref());
        let configuration = accepted.max_by_key(|accepted| accepted.key).map_or_else(
            || Configuration::first(first_witnesses(&slot.id, roster), Duration::ZERO),
            |accepted| accepted.value.configuration.clone(),
        );
        let speaks = |witness: &&WitnessId| {
            part.iter().map(|host| &self.hosts[*host]).any(|it| {
                let speaks = it.node().is_some_and(|node| !node.is_broken_witness());
                it.id == witness.node && it.store == witness.store && speaks
            })
        };
        configuration.is_quorum(&configuration.members().filter(|it| speaks(&it)).collect())
    }

    /// Whether a node has room for one more slot.
    pub(super) fn can_hold(&self, state: &State, host: usize, slot: &Slot<'_>) -> bool {
        let it = &self.hosts[host];
        let Some(node) = it.node() else { return false };
        if !suits(state, it.id, slot.spec) {
            return false;
        }
        if matches!(slot.id.index, SlotIndex::Node(owner) if owner != it.id) {
            return false;
        }
        let mut reserved = Reservation::default();
        let mut same = 0;
        let held: BTreeSet<&SlotId> = node
            .claims()
            .filter(|claim| claim.phase.holds() && claim.slot != slot.id)
            .map(|claim| &claim.slot)
            .collect();
        for other in held {
            let app = state.apps.get(&other.app);
            let Some(spec) = app.and_then(|app| app.release.spec.service(&other.service)) else {
                continue;
            };
            reserved = reserved.plus(spec.deploy.reservation);
            same += u32::from((other.app, &other.service) == (slot.id.app, &slot.id.service));
            let mut ports = slot.spec.host_ports();
            if ports.any(|port| spec.host_ports().any(|taken| taken == port)) {
                return false;
            }
        }
        reserved.plus(slot.spec.deploy.reservation).fits(it.capacity)
            && slot.spec.deploy.replicas_per_node_max.is_none_or(|limit| same < limit)
    }

    /// A claim or a container that nobody wants.
    fn stranger(&self, part: &[usize], wanted: &BTreeSet<&SlotId>) -> Option<String> {
        for host in part {
            let it = &self.hosts[*host];
            let Some(node) = it.node() else { continue };
            if let Some(claim) = node.claims().find(|claim| !wanted.contains(&claim.slot)) {
                return Some(format!("n{host} claims {:?} {:?}", claim.slot, claim.phase));
            }
            let held = |key: &(SlotId, u64)| {
                node.claims().any(|claim| (&claim.slot, claim.revision.id) == (&key.0, key.1))
            };
            let runs = it
                .containers
                .iter()
                .find(|(key, container)| container.process == Process::Running && !held(key));
            if let Some((key, _)) = runs {
                return Some(format!("n{host} runs {key:?} without a claim"));
            }
        }
        self.hosts.iter().enumerate().find_map(|(host, it)| {
            let removed = it.node()?.state().removed_nodes.contains(&it.id);
            let runs = it.containers.values().any(|it| it.process == Process::Running);
            (removed && runs).then(|| format!("n{host} was removed, knows it, and goes on"))
        })
    }
}

/// Whether operators let the node hold replicas of the service.
fn suits(state: &State, id: NodeId, spec: &ServiceSpec) -> bool {
    state.nodes.get(&id).is_some_and(|node| {
        let mut constraints = spec.deploy.constraints.iter();
        !node.drained && constraints.all(|it| it.admits(id, &node.name, &node.labels))
    })
}
