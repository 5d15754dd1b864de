//! What all nodes know of leases, through any of them.

use std::net::Ipv4Addr;
use std::time::Duration;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{AppUid, NodeId, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{Configuration, StoreId, Timing, Token, WitnessId};
use mesh_coordinator::view::{Grant, LeaseView, Pursuit, Testimony};
use mesh_proto::v1;
use proptest::option;
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::world::World;
use crate::client::{Lease, LeasesItem};
use crate::convert::leases;

fn view(app: u8, number: u32) -> LeaseView {
    let witness = WitnessId { node: NodeId::from_bytes([1; 10]), store: StoreId(1) };
    let (service, index) = ("db".parse().unwrap(), SlotIndex::Number(number));
    LeaseView {
        slot: SlotId { app: AppUid([app; 16]), service, index },
        name: format!("app/db/{number}"),
        wanted: true,
        reset: 0,
        configuration: Configuration::first([witness].into(), Timing::DEFAULT_TTL),
        pursuit: None,
        testimony: None,
    }
}

fn held(app: u8, number: u32) -> LeaseView {
    LeaseView { pursuit: Some(Pursuit::Asking), ..view(app, number) }
}

/// What an operator is told, and by whom; who is silent at the end.
async fn ask(world: &World, app: Option<AppUid>) -> (Vec<(NodeId, u32)>, Vec<NodeId>) {
    let client = world.connect(&world.operator(100, Role::Viewer)).await;
    let mut items = client.leases(app).await.unwrap();
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    while let Some(item) = items.next().await {
        match item.unwrap() {
            LeasesItem::Told(one) => {
                let Lease { node, lease } = *one;
                let SlotIndex::Number(number) = lease.slot.index else { panic!("a number") };
                told.push((node, number));
            }
            LeasesItem::Silent(node) => silent.push(node.node),
        }
    }
    told.sort_unstable_by_key(|(node, number)| (world.agents[0].id != *node, *number));
    (told, silent)
}

#[tokio::test]
async fn all_nodes_tell_what_they_know_in_parts_and_a_dead_one_is_named() {
    let world = World::of(2).await;
    let [a, b] = [world.agents[0].id, world.agents[1].id];
    // Five do not fit into one part of the double's two.
    world.agents[0].control.leases.lock().unwrap().extend((0..5).map(|n| view(1, n)));
    world.agents[1].control.leases.lock().unwrap().extend([held(1, 0), view(1, 1), held(1, 2)]);
    let all = [(a, 0), (a, 1), (a, 2), (a, 3), (a, 4), (b, 0), (b, 2)];
    assert_eq!(ask(&world, None).await, (all.to_vec(), vec![]), "of others what concerns them");

    // Listens and never answers: the worst kind of dead.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ghost = world.ghost(&mute.local_addr().unwrap().to_string());
    assert_eq!(ask(&world, None).await, (all.to_vec(), vec![ghost]));
}

#[tokio::test]
async fn only_what_is_asked_for_is_told() {
    let world = World::of(2).await;
    for agent in &world.agents {
        agent.control.leases.lock().unwrap().extend([held(1, 0), held(2, 1)]);
    }
    let [a, b] = [world.agents[0].id, world.agents[1].id];
    let (told, _) = ask(&world, Some(AppUid([2; 16]))).await;
    assert_eq!(told, [(a, 1), (b, 1)]);
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 10]>().prop_map(NodeId::from_bytes)
}

prop_compose! {
    fn grant()(node in node(), token in 1_u64.., left: u32) -> Grant {
        Grant { node, token: Token(token), left: Duration::from_nanos(left.into()) }
    }
}

prop_compose! {
    fn testimony()(
        vouches: bool, grant in option::of(grant()), ended in option::of(any::<u32>()),
        promised in option::of(node()),
    ) -> Testimony {
        let ended_ago = ended.map(|nanos| Duration::from_nanos(nanos.into()));
        Testimony { vouches, grant, ended_ago, promised }
    }
}

fn pursuit() -> impl Strategy<Value = Pursuit> {
    let left = || any::<u32>().prop_map(|nanos| Duration::from_nanos(nanos.into()));
    prop_oneof![
        Just(Pursuit::Asking),
        (1_u64.., left()).prop_map(|(token, left)| Pursuit::Holding { token: Token(token), left }),
        left().prop_map(|left| Pursuit::Waiting { left }),
    ]
}

proptest! {
    #[test]
    fn leases_survive(
        pursuit in option::of(pursuit()), testimony in option::of(testimony()), wanted: bool,
        change: bool, reset: u64,
    ) {
        let mut lease = LeaseView { wanted, reset, pursuit, testimony, ..view(1, 7) };
        lease.configuration.next = change.then(|| lease.configuration.current.clone());
        prop_assert_eq!(leases::from_wire(leases::to_wire(&lease)), Ok(lease));
    }
}

#[test]
fn what_no_node_can_know_is_refused_by_the_name_of_its_field() {
    let told = |change: fn(&mut v1::LeaseSeen)| {
        let mut seen = leases::to_wire(&held(1, 0));
        change(&mut seen);
        leases::from_wire(seen).unwrap_err().to_string()
    };
    assert!(told(|seen| seen.slot = None).starts_with("lease.slot: "));
    assert!(told(|seen| seen.configuration = None).starts_with("lease.configuration: "));
    assert!(told(|seen| seen.pursuit = Some(Default::default())).starts_with("lease.pursuit: "));
    let query = v1::LeasesQuery { app: vec![1; 15] };
    assert!(leases::query(&query).unwrap_err().to_string().starts_with("leases.app: "));
}
