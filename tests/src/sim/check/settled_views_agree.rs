//! P5, and the views: nodes that reach each other have one catalogue, see each other live, and know who claims what.

use std::collections::BTreeSet;

use mesh_coordinator::fact::{Claim, Phase};
use mesh_coordinator::id::SlotId;
use mesh_coordinator::node::Node;
use mesh_coordinator::view::NodeStatus;

use super::World;
use crate::sim::clock::{SECOND, Time};

const CATALOGUES: &str = "P5: catalogues agree";
const STATUS: &str = "views: members see each other live";
const CLAIMS: &str = "views: everybody knows who claims what";

/// News of claims take no longer: three rounds at the slowest interval, and a lost message.
const NEWS: Time = 10 * SECOND;

type Held = BTreeSet<(SlotId, u64, Phase, bool)>;

impl World {
    pub(crate) fn check_views(&mut self, part: &[usize]) {
        let nodes: Vec<(usize, &Node)> =
            part.iter().filter_map(|host| Some((*host, self.hosts[*host].node()?))).collect();
        let Some((first, reference)) = nodes.first() else { return };
        let other =
            nodes.iter().find(|(_, node)| node.catalogue().root() != reference.catalogue().root());
        if let Some((other, _)) = other {
            let text = format!("n{first} and n{other} differ");
            return self.fail(CATALOGUES, text);
        }
        let known = |id| reference.state().nodes.contains_key(id);
        for (host, node) in &nodes {
            for (other, it) in self.hosts.iter().enumerate().filter(|(_, it)| known(&it.id)) {
                let alive = node.status(it.id) == Some(NodeStatus::Alive);
                if alive != part.contains(&other) {
                    let text = format!("n{host} takes n{other} for {:?}", node.status(it.id));
                    return self.fail(STATUS, text);
                }
            }
        }
        for (host, node) in &nodes {
            for (other, holder) in nodes.iter().filter(|(other, _)| other != host) {
                let claimed = self.checks.claimed.get(other).copied().unwrap_or(0);
                if claimed + NEWS > self.now {
                    continue;
                }
                let id = self.hosts[*other].id;
                let told: Held = node
                    .known_claims()
                    .filter(|(it, _)| *it == id)
                    .map(|(_, it)| held(it))
                    .collect();
                let true_ones: Held = holder.claims().map(held).collect();
                if told != true_ones {
                    let text =
                        format!("n{host} believes of n{other} {told:?} and not {true_ones:?}");
                    return self.fail(CLAIMS, text);
                }
            }
        }
    }
}

fn held(claim: &Claim) -> (SlotId, u64, Phase, bool) {
    (claim.slot.clone(), claim.revision.id, claim.phase, claim.yielding)
}
