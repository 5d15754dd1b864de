//! Messages between agents, heartbeats, and what a broken connection says.

use std::net::Ipv4Addr;
use std::time::Duration;

use mesh_coordinator::id::{Hash, Incarnation, NodeId};
use mesh_coordinator::message::Message;
use mesh_coordinator::time::WallTime;
use mesh_ports::peer::{Blobs as _, Event, FetchError, Peers as _};
use tokio::net::TcpListener;

use super::fakes::digest_of;
use super::proxy::{Proxy, Wire};
use super::world::{BEAT, OWN, World, entry, eventually};
use crate::client::fetch_from;

fn is_about(event: &Event, wanted: NodeId) -> bool {
    match event {
        Event::Heard { node, .. } | Event::Refused { node } => *node == wanted,
        Event::Said { from, .. } => *from == wanted,
    }
}

#[tokio::test]
async fn messages_arrive_in_order_with_their_sender() {
    let mut world = World::of(2).await;
    let (from, to) = (world.agents[0].id, world.agents[1].id);
    for nonce in 0..100 {
        world.agents[0].peers.send(to, Message::Probe { nonce });
    }
    for nonce in 0..100 {
        let said = world.agents[1].until(|event| is_about(event, from)).await;
        assert_eq!(said, Event::Said { from, message: Message::Probe { nonce } });
    }
}

#[tokio::test]
async fn records_that_do_not_open_are_left_out_and_the_others_arrive() {
    let mut world = World::of(2).await;
    let (from, to) = (world.agents[0].id, world.agents[1].id);
    let author = super::world::keys(100);
    let (good, mut bad) = (entry(&author, 1), entry(&author, 2));
    bad.signed.signature.0[5] ^= 1;
    world.agents[0].peers.send(to, Message::Records(vec![bad, good.clone()]));
    let said = world.agents[1].until(|event| is_about(event, from)).await;
    assert_eq!(said, Event::Said { from, message: Message::Records(vec![good]) });
}

#[tokio::test]
async fn a_watched_node_is_heard_in_its_life_and_not_after_the_watch() {
    let mut world = World::of(2).await;
    let watched = world.agents[1].id;
    world.agents[0].peers.watch([watched].into());
    for _ in 0..3 {
        let heard = world.agents[0].until(|event| is_about(event, watched)).await;
        let wall = Some(WallTime(OWN));
        assert_eq!(heard, Event::Heard { node: watched, incarnation: Incarnation(2), wall });
    }
    world.agents[0].peers.watch([].into());
    // Whatever was on its way.
    tokio::time::sleep(BEAT * 2).await;
    while world.agents[0].events.try_recv().is_ok() {}
    tokio::time::sleep(BEAT * 4).await;
    assert!(world.agents[0].events.try_recv().is_err());
}

#[tokio::test]
async fn an_agent_that_stops_is_refused_by_its_host_and_heard_when_it_is_back() {
    let mut world = World::of(2).await;
    let watched = world.agents[1].id;
    world.agents[0].peers.watch([watched].into());
    world.agents[0].until(|event| is_about(event, watched)).await;
    world.agents[1].stop().await;
    let refused = Event::Refused { node: watched };
    world.agents[0].until(|event| *event == refused).await;
    world.restart(1).await;
    world.agents[0].until(|event| matches!(event, Event::Heard { .. })).await;
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_silent_and_not_refused() {
    let mut world = World::of(1).await;
    // Accepts in the kernel's queue and never answers the handshake, as behind a cut link.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ghost = world.ghost(&mute.local_addr().unwrap().to_string());
    world.agents[0].peers.watch([ghost].into());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(world.agents[0].events.try_recv().is_err());
    // And when its agent is gone, the host says so.
    drop(mute);
    world.agents[0].until(|event| *event == Event::Refused { node: ghost }).await;
}

#[tokio::test]
async fn a_refusal_at_one_of_several_addresses_says_nothing() {
    let mut world = World::of(1).await;
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ghost = world.ghost("127.0.0.1:1");
    let silent = mute.local_addr().unwrap().to_string();
    world.directory.peers.lock().unwrap().get_mut(&ghost).unwrap().api.push(silent);
    world.agents[0].peers.watch([ghost].into());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(world.agents[0].events.try_recv().is_err());
}

/// The first agent watches the second over a wire.
async fn watched_over_a_wire() -> (World, NodeId, Proxy) {
    let mut world = World::of(2).await;
    let watched = world.agents[1].id;
    let proxy = Proxy::to(world.agents[1].address, &world.agents[0].tasks).await;
    let address = proxy.address.to_string();
    world.directory.peers.lock().unwrap().get_mut(&watched).unwrap().api = vec![address];
    world.agents[0].peers.watch([watched].into());
    world.agents[0].until(|event| matches!(event, Event::Heard { .. })).await;
    (world, watched, proxy)
}

#[tokio::test]
async fn a_cut_wire_is_silent_and_the_node_is_heard_when_it_is_mended() {
    let (mut world, _watched, proxy) = watched_over_a_wire().await;
    proxy.wire.send(Wire::Cut).unwrap();
    tokio::time::sleep(BEAT * 2).await;
    while world.agents[0].events.try_recv().is_ok() {}
    // Long enough for the connection to be given up and to be tried again.
    tokio::time::sleep(BEAT * 30).await;
    assert!(world.agents[0].events.try_recv().is_err(), "neither heard nor refused");
    proxy.wire.send(Wire::Whole).unwrap();
    world.agents[0].until(|event| matches!(event, Event::Heard { .. })).await;
}

#[tokio::test]
async fn a_reset_connection_is_told_at_once_and_made_again() {
    let (mut world, node, proxy) = watched_over_a_wire().await;
    // A connection is whole for a moment before its end is worth a word.
    tokio::time::sleep(BEAT).await;
    proxy.wire.send(Wire::Reset).unwrap();
    world.agents[0].until(|event| *event == Event::Refused { node }).await;
    world.agents[0].until(|event| matches!(event, Event::Heard { .. })).await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_keeps_a_bounded_number_of_messages() {
    let mut world = World::of(2).await;
    let (from, to) = (world.agents[0].id, world.agents[1].id);
    let proxy = Proxy::to(world.agents[1].address, &world.agents[0].tasks).await;
    proxy.wire.send(Wire::Cut).unwrap();
    let address = proxy.address.to_string();
    world.directory.peers.lock().unwrap().get_mut(&to).unwrap().api = vec![address];
    for nonce in 0..10_000 {
        world.agents[0].peers.send(to, Message::Probe { nonce });
    }
    proxy.wire.send(Wire::Whole).unwrap();
    let mut n_arrived = 0;
    while n_arrived == 0 || !world.agents[1].events.is_empty() {
        world.agents[1].until(|event| is_about(event, from)).await;
        n_arrived += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!((1..=600).contains(&n_arrived), "{n_arrived}");
}

#[tokio::test]
async fn a_peer_is_found_at_its_second_address() {
    let mut world = World::of(2).await;
    let (from, to) = (world.agents[0].id, world.agents[1].id);
    let first = "127.0.0.1:1".to_owned();
    world.directory.peers.lock().unwrap().get_mut(&to).unwrap().api.insert(0, first);
    world.agents[0].peers.send(to, Message::Probe { nonce: 1 });
    world.agents[1].until(|event| is_about(event, from)).await;
}

#[tokio::test]
async fn a_dead_peers_queue_is_bounded_and_forgets_what_is_old() {
    let mut world = World::of(2).await;
    let (from, to) = (world.agents[0].id, world.agents[1].id);
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let dead = mute.local_addr().unwrap().to_string();
    let alive = {
        let mut peers = world.directory.peers.lock().unwrap();
        std::mem::replace(&mut peers.get_mut(&to).unwrap().api, vec![dead])
    };
    for nonce in 0..10_000 {
        world.agents[0].peers.send(to, Message::Probe { nonce });
    }
    // Older than the pool keeps a message.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    world.agents[0].peers.send(to, Message::Probe { nonce: u64::MAX });
    world.directory.peers.lock().unwrap().get_mut(&to).unwrap().api = alive;
    let said = world.agents[1].until(|event| is_about(event, from)).await;
    assert_eq!(said, Event::Said { from, message: Message::Probe { nonce: u64::MAX } });
}

#[tokio::test]
async fn a_blob_is_fetched_from_whoever_has_it_and_resumed_at_another() {
    let world = World::of(3).await;
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    let digest = digest_of(&data);
    let nowhere = world.agents[0].peers.fetch(&digest).await;
    assert!(matches!(nowhere, Err(FetchError::Nowhere(_))));

    for agent in &world.agents[1..] {
        agent.images.0.lock().unwrap().insert(digest.clone(), data.clone().into());
    }
    *world.agents[1].images.1.lock().unwrap() = Some(100);
    let first = Some(world.agents[1].id);
    let mut pieces = fetch_from(&world.agents[0].peers, first, &digest).await.unwrap();
    let mut found = Vec::new();
    while found.len() < 1_000_000 {
        found.extend_from_slice(&pieces.recv().await.unwrap().unwrap());
    }
    world.agents[1].stop().await;
    while let Some(piece) = pieces.recv().await {
        found.extend_from_slice(&piece.unwrap());
    }
    assert!(found == data);
}

#[tokio::test]
async fn a_blob_that_nobody_can_finish_ends_with_an_error() {
    let world = World::of(2).await;
    let data = vec![1; 1_000_000];
    let digest = digest_of(&data);
    let holder = &world.agents[1];
    holder.images.0.lock().unwrap().insert(digest.clone(), data.into());
    *holder.images.1.lock().unwrap() = Some(10);
    let mut pieces = world.agents[0].peers.fetch(&digest).await.unwrap();
    for _piece in 0..10 {
        pieces.recv().await.unwrap().unwrap();
    }
    holder.stop().await;
    let end = pieces.recv().await.unwrap();
    assert!(matches!(end, Err(FetchError::Interrupted { node, .. }) if node == holder.id));
    assert!(pieces.recv().await.is_none());
}

#[tokio::test]
async fn connections_to_former_members_are_given_up() {
    let world = World::of(2).await;
    let (from, to) = (&world.agents[0], &world.agents[1]);
    from.peers.watch([to.id].into());
    eventually(|| to.handle.n_connections() == 1).await;
    world.directory.peers.lock().unwrap().remove(&to.id);
    from.peers.watch([].into());
    eventually(|| to.handle.n_connections() == 0).await;
}

#[tokio::test]
async fn digests_and_hashes_survive_the_way() {
    let mut world = World::of(2).await;
    let (from, to) = (world.agents[0].id, world.agents[1].id);
    let hashes: Vec<_> = (0..=255).map(|byte| Hash([byte; 32])).collect();
    let messages = [
        Message::Digest(vec![u64::MAX; 1024]),
        Message::Have { buckets: vec![0, u32::MAX], hashes: hashes.clone() },
        Message::Want(hashes.clone()),
        Message::Stored(hashes),
    ];
    for message in messages {
        world.agents[0].peers.send(to, message.clone());
        let said = world.agents[1].until(|event| is_about(event, from)).await;
        assert_eq!(said, Event::Said { from, message });
    }
}
