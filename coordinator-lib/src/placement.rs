//! Who should run what: every node ranks all nodes for a slot and comes to the same list.
//!
//! A node that cannot hold the slot gets the reasons; the others are ordered by spread over labels, by how many other replicas
//! of the service they hold, and by weighted rendezvous (Thaler and Ravishankar, 1998; weights as in Schindelhauer and
//! Schomaker, 2005), which moves as few slots as possible when nodes come and go.

mod score;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

pub use self::score::score;
use crate::id::{NodeId, SlotId, SlotIndex};
use crate::name::{NodeName, ServiceName};
use crate::spec::{Labels, Protocol, Reservation, ServiceSpec};
use crate::view::NodeStatus;

/// A node as a place.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: Labels,
    /// Its weight, in percent.
    pub weight: u32,
    /// What it can set aside; `None` while it has not said so.
    pub capacity: Option<Reservation>,
    /// Whether it is drained.
    pub drained: bool,
    /// Whether it only witnesses, by its own word.
    pub witness_only: bool,
    /// Whether another agent lives under its identity, by its own word.
    pub has_twin: bool,
    /// Whether it is believed to serve. A restarting agent cannot start anything at this moment, though what it holds counts; of
    /// a node that is down not even that does.
    pub status: NodeStatus,
    /// What its claims set aside.
    pub reserved: Reservation,
    /// How many replicas of each service it holds.
    pub held: BTreeMap<(crate::id::AppUid, ServiceName), u32>,
    /// The host's ports that its claims take.
    pub ports: BTreeMap<(u16, Protocol), SlotId>,
}

/// Why a node cannot hold a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It is not heard.
    Down,
    /// It is drained.
    Drained,
    /// It never holds a replica.
    WitnessOnly,
    /// Another agent lives under its identity, and the slot must not run twice.
    Twin,
    /// It does not satisfy a constraint.
    Constraint(String),
    /// It has not said what it has.
    UnknownCapacity,
    /// It has not enough left.
    Capacity {
        /// What the slot needs.
        needed: Reservation,
        /// What is left.
        left: Reservation,
    },
    /// Another slot has the port.
    Port(u16, Protocol),
    /// It holds as many replicas of the service as one node may.
    Full(u32),
    /// It is the slot of another node.
    OtherNode,
    /// It tried, failed, and waits before it tries again.
    CoolingDown,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("it is down"),
            Self::Drained => f.write_str("it is drained"),
            Self::Twin => f.write_str("another agent lives under its identity"),
            Self::WitnessOnly => f.write_str("it only witnesses, and holds no replicas"),
            Self::Constraint(constraint) => write!(f, "it does not satisfy {constraint}"),
            Self::UnknownCapacity => f.write_str("it has not said what it has"),
            Self::Capacity { needed, left } => write!(
                f,
                "it has {} cores and {} left, and the slot needs {} and {}",
                left.cpu, left.memory, needed.cpu, needed.memory
            ),
            Self::Port(port, protocol) => write!(f, "its port {port}/{protocol} is taken"),
            Self::Full(limit) => {
                write!(f, "it holds {limit} replicas of the service, as many as one node may")
            }
            Self::OtherNode => f.write_str("this slot belongs to another node"),
            Self::CoolingDown => {
                f.write_str("it tried and failed, and waits before it tries again")
            }
        }
    }
}

/// A node ranked for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    /// Which node.
    pub node: NodeId,
    /// How many other replicas of the service it holds.
    pub crowding: u32,
    /// Its rendezvous score.
    pub score: u64,
    /// Why it cannot hold the slot; empty when it can.
    pub obstacles: Vec<Obstacle>,
}

/// A node with all that decides about its rank.
#[derive(Debug, Clone)]
struct Candidate {
    /// Replicas of the service in its domain of each label that the service names for spreading.
    domain: Vec<u32>,
    ranked: Ranked,
}

impl Candidate {
    /// The better one is the smaller one.
    fn order(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.ranked, &other.ranked);
        let order = b.obstacles.is_empty().cmp(&a.obstacles.is_empty());
        order
            .then_with(|| self.domain.cmp(&other.domain))
            .then_with(|| a.crowding.cmp(&b.crowding))
            .then_with(|| b.score.cmp(&a.score))
            .then_with(|| a.node.cmp(&b.node))
    }
}

/// Ranks `places` for `slot`: those that can hold it first, the best first; then those that cannot, by score.
///
/// What a place holds must not include the slot itself.
#[must_use]
pub fn rank<'a>(
    slot: &SlotId,
    spec: &ServiceSpec,
    places: impl Iterator<Item = &'a Place> + Clone,
) -> Vec<Ranked> {
    let mut candidates = candidates(slot, spec, places, |_| false);
    candidates.sort_by(Candidate::order);
    candidates.into_iter().map(|it| it.ranked).collect()
}

/// The best nodes for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Best {
    /// The first in rank of those that can hold it, the best first.
    pub(crate) first: Vec<NodeId>,
    /// How many rank before the node that asks; `None` when that one cannot hold it.
    pub(crate) position: Option<usize>,
}

/// The best `count` of `places` for `slot`, and the rank of `me`. To sort them all would take many times as long.
pub(crate) fn rank_best<'a>(
    slot: &SlotId,
    spec: &ServiceSpec,
    places: impl Iterator<Item = &'a Place> + Clone,
    is_unfit: impl Fn(NodeId) -> bool,
    (me, count): (NodeId, usize),
) -> Best {
    let mut candidates = candidates(slot, spec, places, is_unfit);
    candidates.retain(|it| it.ranked.obstacles.is_empty());
    let own = candidates.iter().find(|it| it.ranked.node == me);
    let position =
        own.map(|own| candidates.iter().filter(|it| it.order(own) == Ordering::Less).count());
    if candidates.len() > count {
        candidates.select_nth_unstable_by(count, Candidate::order);
        candidates.truncate(count);
    }
    candidates.sort_by(Candidate::order);
    Best { first: candidates.into_iter().map(|it| it.ranked.node).collect(), position }
}

fn candidates<'a>(
    slot: &SlotId,
    spec: &ServiceSpec,
    places: impl Iterator<Item = &'a Place> + Clone,
    is_unfit: impl Fn(NodeId) -> bool,
) -> Vec<Candidate> {
    let key = (slot.app, slot.service.clone());
    let held = |place: &Place| place.held.get(&key).copied().unwrap_or(0);
    // Replicas of the service by value of each spread label: computed once, looked up for each node.
    let by_value: Vec<BTreeMap<&str, u32>> = spec
        .deploy
        .spread
        .iter()
        .map(|label| {
            let mut counts = BTreeMap::new();
            for place in places.clone().filter(|place| place.status != NodeStatus::Down) {
                let count = counts
                    .entry(place.labels.get(label).map_or("", String::as_str))
                    .or_insert(0_u32);
                *count = count.saturating_add(held(place));
            }
            counts
        })
        .collect();
    let hash = slot.digest();
    let candidate = |place: &Place| {
        let labels = spec.deploy.spread.iter().zip(&by_value);
        let domain = labels
            .map(|(label, counts)| {
                counts.get(place.labels.get(label).map_or("", String::as_str)).copied()
            })
            .map(Option::unwrap_or_default)
            .collect();
        let crowding = held(place);
        let mut obstacles = obstacles(slot, spec, place, crowding);
        if is_unfit(place.id) {
            obstacles.push(Obstacle::CoolingDown);
        }
        let score = score(&hash, place.id, place.weight);
        Candidate { domain, ranked: Ranked { node: place.id, crowding, score, obstacles } }
    };
    places.map(candidate).collect()
}

/// Why `place` cannot hold `slot`; empty when it can.
#[must_use]
pub fn obstacles(slot: &SlotId, spec: &ServiceSpec, place: &Place, held: u32) -> Vec<Obstacle> {
    let mut obstacles = lasting_obstacles(slot, spec, place);
    if place.status != NodeStatus::Alive {
        obstacles.push(Obstacle::Down);
    }
    match place.capacity {
        None => obstacles.push(Obstacle::UnknownCapacity),
        Some(capacity) => {
            let needed = spec.deploy.reservation;
            if !place.reserved.plus(needed).fits(capacity) {
                obstacles.push(Obstacle::Capacity { needed, left: capacity.minus(place.reserved) });
            }
        }
    }
    let taken = |key: &(u16, Protocol)| place.ports.get(key).is_some_and(|holder| holder != slot);
    let ports = spec.host_ports().filter(taken);
    obstacles.extend(ports.map(|(port, protocol)| Obstacle::Port(port, protocol)));
    if let Some(limit) = spec.deploy.replicas_per_node_max.filter(|limit| held >= *limit) {
        obstacles.push(Obstacle::Full(limit));
    }
    obstacles
}

/// The obstacles that also end a claim which is already held: what operators said of the node and of the service.
#[must_use]
pub fn lasting_obstacles(slot: &SlotId, spec: &ServiceSpec, place: &Place) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if matches!(slot.index, SlotIndex::Node(node) if node != place.id) {
        obstacles.push(Obstacle::OtherNode);
    }
    if place.drained {
        obstacles.push(Obstacle::Drained);
    }
    if place.witness_only {
        obstacles.push(Obstacle::WitnessOnly);
    }
    if place.has_twin && spec.guarantee.is_exclusive() {
        obstacles.push(Obstacle::Twin);
    }
    let unmet =
        spec.deploy.constraints.iter().filter(|c| !c.admits(place.id, &place.name, &place.labels));
    obstacles.extend(unmet.map(|constraint| Obstacle::Constraint(constraint.to_string())));
    obstacles
}

#[cfg(test)]
mod tests;
