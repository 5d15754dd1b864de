//! The nodes as places for slots. What each of them holds is worked out again when it changes, and not whenever somebody asks: in a large mesh
//! there are more claims than anybody could count at each news.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claims, World};
use crate::catalogue::State;
use crate::id::{NodeId, SlotId};
use crate::placement::Place;
use crate::spec::Reservation;
use crate::view::NodeStatus;

/// What was worked out last.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    all: BTreeMap<NodeId, Place>,
    /// From what it follows: the catalogue, what nodes say of themselves, and who lives.
    from: Option<(u64, u64, u64)>,
    /// The nodes whose claims have changed since.
    stale: BTreeSet<NodeId>,
}

impl Places {
    pub(super) fn note(&mut self, nodes: BTreeSet<NodeId>) {
        self.stale.extend(nodes);
    }
}

/// The places, on which slots may be put for the moment, so that those behind them find them there.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    places: Places,
    /// Those that were changed, as they are.
    before: BTreeMap<NodeId, Place>,
}

impl Stage {
    pub(super) const fn all(&self) -> &BTreeMap<NodeId, Place> {
        &self.places.all
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.places.all.get_mut(&node) {
            self.before.entry(node).or_insert_with(|| place.clone());
            change(place);
        }
    }

    /// As if `node` held `slot` too.
    pub(super) fn occupy(&mut self, node: NodeId, slot: &SlotId, state: &State) {
        self.change(node, |place| occupy(place, slot, state));
    }

    /// As if `node` were down.
    pub(super) fn strike(&mut self, node: NodeId) {
        self.change(node, |place| place.status = NodeStatus::Down);
    }
}

impl Claims {
    /// The places, until [`Claims::strike_stage`].
    pub(super) fn stage(&mut self, world: &World<'_>) -> Stage {
        self.take_news();
        let mut places = std::mem::take(&mut self.places);
        let from = (world.root, world.facts_version, world.membership.epoch());
        let is_same = |before: (u64, u64, u64)| (before.0, before.1) == (from.0, from.1);
        if !places.from.is_some_and(is_same) {
            places.all = self.places(world);
        } else {
            if places.from != Some(from) {
                for (node, place) in &mut places.all {
                    place.status = world.membership.status(*node).unwrap_or(NodeStatus::Unknown);
                }
            }
            places.stale.insert(self.me);
            for node in &places.stale {
                match self.place(world, *node) {
                    Some(place) => places.all.insert(*node, place),
                    None => places.all.remove(node),
                };
            }
        }
        places.from = Some(from);
        places.stale.clear();
        Stage { places, before: BTreeMap::new() }
    }

    /// Takes what was put on the stage away again.
    pub(super) fn strike_stage(&mut self, stage: Stage) {
        let Stage { mut places, before } = stage;
        places.all.extend(before);
        self.places = places;
    }

    /// All nodes as places, with what they hold.
    pub(crate) fn places(&self, world: &World<'_>) -> BTreeMap<NodeId, Place> {
        let nodes = world.state.nodes.keys();
        nodes.filter_map(|node| Some((*node, self.place(world, *node)?))).collect()
    }

    /// One node as a place, with what it holds. A slot that is being replaced there counts once.
    fn place(&self, world: &World<'_>, node: NodeId) -> Option<Place> {
        let mut place = world.place(self.me, node)?;
        let held: BTreeSet<&SlotId> = if node == self.me {
            let held = self.mine.values().filter(|mine| mine.is_held());
            held.map(|mine| &mine.claim.slot).collect()
        } else {
            self.book.held_by(node)
        };
        for slot in held {
            occupy(&mut place, slot, world.state);
        }
        Some(place)
    }
}

impl World<'_> {
    pub(super) fn place(&self, me: NodeId, id: NodeId) -> Option<Place> {
        let node = self.state.nodes.get(&id)?;
        let facts = if id == me { Some(self.own) } else { self.facts.get(&id) };
        Some(Place {
            id,
            name: node.name.clone(),
            labels: node.labels.clone(),
            weight: node.weight,
            capacity: facts.map(|facts| facts.capacity),
            drained: node.drained,
            witness_only: facts.is_some_and(|facts| facts.witness_only),
            has_twin: facts.is_some_and(|facts| facts.has_twin),
            status: self.membership.status(id)?,
            reserved: Reservation::default(),
            held: BTreeMap::new(),
            ports: BTreeMap::new(),
        })
    }
}

/// Adds what a replica of `slot` takes to its place.
fn occupy(place: &mut Place, slot: &SlotId, state: &State) {
    let held = place.held.entry((slot.app, slot.service.clone())).or_insert(0);
    *held = held.saturating_add(1);
    let Some(spec) =
        state.apps.get(&slot.app).and_then(|app| app.release.spec.service(&slot.service))
    else {
        return;
    };
    place.reserved = place.reserved.plus(spec.deploy.reservation);
    for port in spec.host_ports() {
        place.ports.entry(port).or_insert_with(|| slot.clone());
    }
}
