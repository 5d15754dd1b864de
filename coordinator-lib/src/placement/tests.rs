//! Ranks are the same everywhere and move little.

use std::collections::BTreeMap;

use proptest::prelude::proptest;

use super::{Obstacle, Place, lasting_obstacles, obstacles, rank};
use crate::id::{AppUid, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::Timing;
use crate::prng::Prng;
use crate::spec::{Bytes, Cpu, Guarantee, Labels, Reservation, ServiceSpec, sample};
use crate::view::NodeStatus;

fn spec() -> ServiceSpec {
    let mut spec = sample::service(Revision { number: 1, id: 1 }, 3);
    spec.deploy.spread = vec!["zone".parse().unwrap()];
    spec.deploy.reservation.cpu = Cpu { millis: 100 };
    spec
}

fn slot(number: u32) -> SlotId {
    SlotId {
        app: AppUid([1; 16]),
        service: "web".parse().unwrap(),
        index: SlotIndex::Number(number),
    }
}

fn place(n: u8) -> Place {
    Place {
        id: NodeId::of(&PublicKey([n; 32])),
        name: "node".parse().unwrap(),
        labels: Labels::from([("zone".parse().unwrap(), (n % 2).to_string())]),
        weight: 100,
        capacity: Some(Reservation { cpu: Cpu { millis: 1_000 }, memory: Bytes(1 << 30) }),
        drained: false,
        witness_only: false,
        has_twin: false,
        status: NodeStatus::Alive,
        reserved: Reservation::default(),
        held: BTreeMap::new(),
        ports: BTreeMap::new(),
    }
}

fn order(slot: &SlotId, places: &[Place]) -> Vec<NodeId> {
    rank(slot, &spec(), places.iter()).into_iter().map(|ranked| ranked.node).collect()
}

proptest! {
    #[test]
    fn the_order_of_the_places_does_not_matter(n_places in 1_u8..20, number in 0_u32..50, seed: u64) {
        let mut places: Vec<Place> = (0..n_places).map(place).collect();
        let expected = order(&slot(number), &places);
        Prng::new(seed).shuffle(&mut places);
        assert_eq!(order(&slot(number), &places), expected);
    }

    #[test]
    fn a_node_that_goes_changes_nothing_among_the_others(gone in 0_usize..12, number in 0_u32..50) {
        let mut places: Vec<Place> = (0..12).map(place).collect();
        let mut expected = order(&slot(number), &places);
        let node = places.remove(gone).id;
        expected.retain(|other| *other != node);
        assert_eq!(order(&slot(number), &places), expected);
    }
}

#[test]
fn a_zone_with_fewer_replicas_comes_first() {
    let mut places: Vec<Place> = (0..6).map(place).collect();
    places[0].held.insert((AppUid([1; 16]), "web".parse().unwrap()), 1);
    let first = order(&slot(1), &places)[0];
    let first = places.iter().find(|place| place.id == first).unwrap();
    assert_ne!(first.labels, places[0].labels);
}

#[test]
fn replicas_on_dead_nodes_crowd_no_zone() {
    let mut places: Vec<Place> = (0..6).map(place).collect();
    places[0].held.insert((AppUid([1; 16]), "web".parse().unwrap()), 1);
    let is_first_of_its_zone = |slot: &SlotId, places: &[Place]| {
        let first = order(slot, places)[0];
        places.iter().find(|place| place.id == first).unwrap().labels == place(0).labels
    };
    let by_score = (0..50).map(slot).find(|slot| is_first_of_its_zone(slot, &places[1..])).unwrap();
    assert!(!is_first_of_its_zone(&by_score, &places));
    places[0].status = NodeStatus::Down;
    assert!(is_first_of_its_zone(&by_score, &places));
}

#[test]
fn who_cannot_hold_it_comes_last_with_the_reasons() {
    let mut places: Vec<Place> = (0..4).map(place).collect();
    places[1].drained = true;
    places[2].status = NodeStatus::Restarting;
    places[3].reserved = Reservation { cpu: Cpu { millis: 950 }, memory: Bytes(0) };
    let ranked = rank(&slot(0), &spec(), places.iter());
    assert_eq!(ranked[0].node, places[0].id);
    assert!(ranked[0].obstacles.is_empty());
    assert!(ranked[1..].iter().all(|ranked| ranked.obstacles.len() == 1));
}

#[test]
fn a_node_with_a_twin_suits_what_may_run_twice() {
    let twin = Place { has_twin: true, ..place(1) };
    assert_eq!(lasting_obstacles(&slot(0), &spec(), &twin), []);
    let guarantee = Guarantee::Exclusive { ttl: Timing::DEFAULT_TTL };
    let exclusive = ServiceSpec { guarantee, ..spec() };
    assert_eq!(lasting_obstacles(&slot(0), &exclusive, &twin), [Obstacle::Twin]);
}

#[test]
fn who_only_witnesses_suits_nothing_and_never_will() {
    let witness = Place { witness_only: true, ..place(1) };
    let slot = slot(0);
    assert_eq!(lasting_obstacles(&slot, &spec(), &witness), [Obstacle::WitnessOnly]);
    assert_eq!(obstacles(&slot, &spec(), &witness, 0), [Obstacle::WitnessOnly]);
    let own = SlotId { index: SlotIndex::Node(witness.id), ..slot };
    assert_eq!(lasting_obstacles(&own, &spec(), &witness), [Obstacle::WitnessOnly]);
}
