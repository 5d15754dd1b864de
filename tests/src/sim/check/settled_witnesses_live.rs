//! D7: whoever holds an exclusive slot has replaced the witnesses that were lost, if there are nodes to take their places.

use mesh_coordinator::lease::exclusive::WitnessId;

use super::World;

const LOST: &str = "D7: no lost witness stays where another could take its place";
/// A slot has so many witnesses.
const WITNESSES: usize = 3;

impl World {
    pub(crate) fn check_witnesses(&mut self, part: &[usize]) {
        let speaks = |witness: &WitnessId| {
            part.iter().map(|host| &self.hosts[*host]).any(|it| {
                let is_broken =
                    it.node().is_none_or(mesh_coordinator::node::Node::is_broken_witness);
                (it.id, it.store) == (witness.node, witness.store) && !is_broken
            })
        };
        let is_broken = |host: &usize| {
            self.hosts[*host].node().is_none_or(mesh_coordinator::node::Node::is_broken_witness)
        };
        if part.len() < WITNESSES || part.iter().any(is_broken) {
            return;
        }
        let held = part.iter().filter_map(|host| self.hosts[*host].node()).flat_map(|node| {
            let slots = node.claims().map(|claim| &claim.slot);
            slots.filter_map(move |slot| Some((slot, node.witnesses(slot)?)))
        });
        let lacking = held.into_iter().find(|(_, witnesses)| !witnesses.iter().all(speaks));
        if let Some((slot, witnesses)) = lacking {
            self.fail(LOST, format!("{slot:?} is witnessed by {witnesses:?}"));
        }
    }
}
