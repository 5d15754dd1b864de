//! Whole meshes of a few agents, on real sockets of the loopback interface.

mod forgery;
pub(crate) mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_coordinator::fact::Fact;
use mesh_coordinator::id::{Incarnation, NodeId, PublicKey};
use mesh_ports::directory::Peer;
use mesh_ports::gossip::{Event, Gossip as _};
use mesh_telemetry::Tasks;
use tokio::net::UdpSocket;

use self::world::{Agent, Book, MESH, World, config, key, node, ports, until_all_meet, vote};
use crate::{IntervalError, Medium, Memory, StartError, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_appear_change_and_go() {
    let world = World::of(&[1, 2, 3]);
    let mut agents = Agent::start_all(&world, &[1, 2, 3]).await;
    agents[0].handle.publish(vote(0, 1)).await;
    agents[0].handle.publish(Fact::Root(5)).await;
    until_all_meet(&mut agents).await;
    for agent in &mut agents[1..] {
        agent.until("two facts", |agent| agent.facts(1) == [Fact::Root(5), vote(0, 1)]).await;
    }
    agents[0].handle.publish(vote(0, 2)).await;
    agents[0].handle.withdraw(Fact::Root(5).key()).await;
    for agent in &mut agents[1..] {
        agent.until("the changed fact", |agent| agent.facts(1) == [vote(0, 2)]).await;
    }
    let counters = agents[0].handle.counters();
    assert!(counters.datagrams_sent > 0 && counters.datagrams_received > 0);
    assert_eq!((counters.facts_unpublished, counters.respawns, counters.twins), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_goes_down_and_comes_back_with_what_it_says_then() {
    let world = World::of(&[1, 2, 3]);
    let mut agents = Agent::start_all(&world, &[1, 2, 3]).await;
    agents[0].handle.publish(vote(0, 1)).await;
    agents[0].handle.publish(vote(1, 1)).await;
    until_all_meet(&mut agents).await;
    agents[1].until("two facts", |agent| agent.facts(1).len() == 2).await;
    world.cut_off(&[1]);
    agents[1].until("its death", |agent| !agent.sees(1)).await;
    agents[0].handle.withdraw(vote(0, 1).key()).await;
    world.cut_off(&[]);
    agents[1].until("its return", |agent| agent.sees(1) && agent.facts(1) == [vote(1, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_has_only_the_facts_of_its_new_life() {
    let world = World::of(&[1, 2, 3]);
    let mut agents = Agent::start_all(&world, &[1, 2, 3]).await;
    for index in 0..5 {
        agents[2].handle.publish(vote(index, 1)).await;
    }
    until_all_meet(&mut agents).await;
    agents[0].until("five facts", |agent| agent.facts(3).len() == 5).await;
    let former = agents.remove(2);
    let old_life = former.handle.incarnation();
    let book = former.stop().await;
    let mut back = Agent::start_with(&world, config(&world, 3), book, 3).await;
    back.handle.publish(vote(7, 1)).await;
    let life = back.handle.incarnation();
    for agent in &mut agents {
        let anew = |agent: &Agent| agent.life(3) == life && agent.facts(3) == [vote(7, 1)];
        agent.until("the new life", anew).await;
    }
    back.until("its peers", |agent| agent.sees(1) && agent.sees(2)).await;
    assert!(old_life < life);
    // What it says after it has met everybody is still only its own.
    back.handle.publish(Fact::Root(1)).await;
    for agent in &mut agents {
        agent.until("root", |agent| agent.facts(3) == [Fact::Root(1), vote(7, 1)]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_disappears_with_its_facts() {
    let world = World::of(&[1, 2, 3]);
    let mut agents = Agent::start_all(&world, &[1, 2, 3]).await;
    agents[2].handle.publish(vote(0, 1)).await;
    until_all_meet(&mut agents).await;
    agents[0].until("its fact", |agent| agent.facts(3).len() == 1).await;
    world.remove(3);
    agents[0].until("its end", |agent| !agent.sees(3) && agent.facts(3).is_empty()).await;
    let before = agents[0].handle.counters().datagrams_refused;
    let refuses = |agent: &Agent| agent.handle.counters().datagrams_refused > before + 3;
    agents[0].until("refused datagrams", refuses).await;
    let downs = agents[0].log.iter().filter(|event| matches!(event, Event::Down { .. }));
    assert_eq!(downs.count(), 1, "told once");
    assert!(agents[0].sees(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_datagrams_are_refused_and_gossip_goes_on() {
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    until_all_meet(&mut agents).await;
    let target = agents[0].handle.local_address();
    let wire = world.wire.lock().unwrap().clone();
    let (_, _, sealed) =
        wire.iter().rfind(|(from, to, _)| (*from, *to) == (key(2), key(1))).unwrap();
    let packet = |sender: u8, sealed: &[u8]| {
        let tag = MESH.0.head().to_be_bytes();
        [&[1], tag.as_slice(), node(sender).as_bytes(), sealed].concat()
    };
    let mut altered = sealed.clone();
    *altered.last_mut().unwrap() ^= 1;
    let attacks = [
        ("a replay", packet(2, sealed)),
        ("a forged sender", packet(9, sealed)),
        ("our own name", packet(1, sealed)),
        ("an altered seal", packet(2, &altered)),
        ("a truncated packet", packet(2, &sealed[..sealed.len() - 1])),
        ("a bare header", packet(2, &[])),
        ("random bytes", (0..1_400_u32).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect()),
        ("an empty datagram", Vec::new()),
        ("an overlong packet", vec![1; 9_000]),
    ];
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (what, attack) in attacks {
        let before = agents[0].handle.counters().datagrams_refused;
        attacker.send_to(&attack, target).await.unwrap();
        let refused = |agent: &Agent| agent.handle.counters().datagrams_refused > before;
        agents[0].until(what, refused).await;
    }
    agents[1].handle.publish(vote(3, 1)).await;
    agents[0].until("the next fact", |agent| agent.facts(2) == [vote(3, 1)]).await;
    assert_eq!(agents[0].handle.counters().respawns, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_longer_than_the_grace_heals_by_the_address_book() {
    let world = World::of(&[1, 2, 3]);
    let mut agents = Vec::new();
    for n in [1, 2, 3] {
        let config = crate::Config { grace: Duration::from_millis(800), ..config(&world, n) };
        let agent = Agent::start_with(&world, config, Arc::default(), n).await;
        world.admit(n, agent.handle.local_address().to_string());
        agents.push(agent);
    }
    agents[0].handle.publish(vote(0, 1)).await;
    until_all_meet(&mut agents).await;
    let together = agents[0].handle.counters().digest_bytes;
    // From here on only the book knows where anybody is.
    for n in [1, 2, 3] {
        world.admit(n, String::new());
    }
    world.cut_off(&[1]);
    agents[0].until("loneliness", |agent| !agent.sees(2) && !agent.sees(3)).await;
    agents[1].until("its death", |agent| !agent.sees(1)).await;
    let forgot = |agent: &Agent| agent.handle.counters().digest_bytes + 30 < together;
    agents[0].until("oblivion", forgot).await;
    world.cut_off(&[]);
    until_all_meet(&mut agents).await;
    agents[1].until("its fact", |agent| agent.facts(1) == [vote(0, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_the_mesh_by_the_book_alone() {
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    until_all_meet(&mut agents).await;
    agents[1].until("a saved book", |agent| agent.book.0.lock().unwrap().len() == 1).await;
    let book = agents.remove(1).stop().await;
    agents[0].until("its death", |agent| !agent.sees(2)).await;
    for n in [1, 2] {
        world.admit(n, String::new());
    }
    let mut back = Agent::start_with(&world, config(&world, 2), book, 2).await;
    back.until("its peer", |agent| agent.sees(1)).await;
    agents[0].until("its peer", |agent| agent.sees(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_resolved_by_the_closure() {
    let world = World::of(&[1, 2]);
    let first = Agent::start(&world, 1).await;
    let port = first.handle.local_address().port();
    world.admit(1, format!("peer.test:{port}"));
    let mut agents = vec![first, Agent::start(&world, 2).await];
    until_all_meet(&mut agents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_larger_than_any_datagram_converges() {
    const N_CLAIMS: u32 = 400;
    let world = World::of(&[1, 2, 3]);
    let mut agents = Agent::start_all(&world, &[1, 2, 3]).await;
    for agent in &agents {
        for index in 0..N_CLAIMS {
            agent.handle.publish(vote(index, u64::from(agent.n))).await;
        }
    }
    until_all_meet(&mut agents).await;
    for agent in &mut agents {
        let others: Vec<u8> = [1, 2, 3].into_iter().filter(|n| *n != agent.n).collect();
        let all = usize::try_from(N_CLAIMS).unwrap();
        let complete = |agent: &Agent| others.iter().all(|n| agent.facts(*n).len() == all);
        agent.until("every fact", complete).await;
    }
    assert!(agents[0].handle.counters().datagrams_sent > 100, "it took many packets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_engine_misses_nothing_that_still_holds() {
    const N_FACTS: u32 = 1_500;
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    for index in 0..N_FACTS {
        agents[0].handle.publish(vote(index, 1)).await;
    }
    agents[1].until_full().await;
    for index in 0..N_FACTS {
        agents[0].handle.publish(vote(index, 2)).await;
    }
    agents[0].handle.withdraw(vote(0, 2).key()).await;
    let all = usize::try_from(N_FACTS).unwrap() - 1;
    let is_new =
        |fact: &Fact| matches!(fact, Fact::Vote(vote) if vote.incarnation == Incarnation(2));
    let latest = |agent: &Agent| {
        let facts = agent.facts(1);
        facts.len() == all && facts.iter().all(is_new)
    };
    agents[1].until("the latest of all", latest).await;
}

#[expect(clippy::print_stdout, reason = "whoever runs the tests must see what they did not test")]
fn skip(what: &str) {
    println!("skipped: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_for_both_families_reaches_both() {
    let world = World::of(&[1, 2, 3]);
    let both = SocketAddr::from(([0; 16], 0));
    if UdpSocket::bind(both).await.is_err() || UdpSocket::bind("[::1]:0").await.is_err() {
        skip("no IPv6 on this machine");
        return;
    }
    let (v4, v6) = (SocketAddr::from(([127, 0, 0, 1], 0)), "[::1]:0".parse().unwrap());
    let mut agents = Vec::new();
    for (n, bind, advertise) in [(1, both, v6), (2, v4, v4), (3, v6, v6)] {
        let config = crate::Config { bind, advertise, ..config(&world, n) };
        let agent = Agent::start_with(&world, config, Arc::default(), n).await;
        let port = agent.handle.local_address().port();
        world.admit(n, SocketAddr::new(advertise.ip(), port).to_string());
        agents.push(agent);
    }
    agents[0].until("both", |agent| agent.sees(2) && agent.sees(3)).await;
    agents[1].until("it", |agent| agent.sees(1)).await;
    agents[2].until("it", |agent| agent.sees(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_interval_begins_a_life_and_loses_nothing() {
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    for agent in &agents {
        agent.handle.publish(vote(0, u64::from(agent.n))).await;
    }
    until_all_meet(&mut agents).await;
    agents[0].until("a fact", |agent| agent.facts(2).len() == 1).await;
    agents[1].until("a fact", |agent| agent.facts(1).len() == 1).await;
    let life = agents[0].handle.incarnation();
    let slow = Duration::from_millis(80);
    agents[0].handle.set_interval(slow).await.unwrap();
    agents[0].until("a new life", |agent| agent.handle.incarnation() > life).await;
    let life = agents[0].handle.incarnation();
    agents[1].until("it", |agent| agent.life(1) == life && agent.facts(1) == [vote(0, 1)]).await;
    agents[1].handle.publish(vote(0, 9)).await;
    agents[0].until("news", |agent| agent.facts(2) == [vote(0, 9)]).await;
    for agent in &agents {
        assert!(!agent.log.iter().any(|event| matches!(event, Event::Down { .. })));
        assert_eq!(agent.handle.counters().respawns, 0);
    }
    let never = Duration::from_secs(60);
    assert_eq!(agents[0].handle.set_interval(never).await, Err(IntervalError(never)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_for_a_while_delays_the_next_life_and_loses_nothing() {
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    agents[0].handle.publish(vote(0, 1)).await;
    until_all_meet(&mut agents).await;
    agents[1].until("a fact", |agent| agent.facts(1) == [vote(0, 1)]).await;
    let mut lives = agents[0].handle.incarnations();
    let life = *lives.borrow_and_update();
    world.n_disk_faults.store(3, Ordering::SeqCst);
    agents[0].handle.set_interval(Duration::from_millis(50)).await.unwrap();
    agents[0].handle.publish(vote(0, 2)).await;
    agents[0].handle.publish(Fact::Root(1)).await;
    lives.changed().await.unwrap();
    assert!(*lives.borrow() > life && agents[0].handle.incarnation() == *lives.borrow());
    assert_eq!(world.n_disk_faults.load(Ordering::SeqCst), 0);
    let both = [Fact::Root(1), vote(0, 2)];
    let anew = |agent: &Agent| agent.life(1) > life && agent.facts(1) == both;
    agents[1].until("what was published between two lives", anew).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_agents_share_a_network_in_memory() {
    let members: Vec<u8> = (1..=8).collect();
    let world = World::of(&members);
    let memory = Memory::default();
    let mut agents = Vec::new();
    for n in &members {
        let address = SocketAddr::from(([10, 0, 0, *n], 7_000));
        let medium = Medium::Memory(memory.clone());
        let config =
            crate::Config { bind: address, advertise: address, medium, ..config(&world, *n) };
        agents.push(Agent::start_with(&world, config, Arc::default(), *n).await);
        world.admit(*n, address.to_string());
    }
    agents[0].handle.publish(vote(0, 1)).await;
    until_all_meet(&mut agents).await;
    agents[7].until("the fact", |agent| agent.facts(1).len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_with_the_same_identity_raises_the_alarm() {
    let world = World::of(&[1, 2, 3]);
    let mut agents = Agent::start_all(&world, &[1, 2, 3]).await;
    until_all_meet(&mut agents).await;
    let mut clone = Agent::start(&world, 1).await;
    agents[0].until("its twin", |agent| agent.handle.counters().twins == 1).await;
    let is_told = |agent: &Agent| agent.log.iter().any(|it| matches!(it, Event::Twin { .. }));
    agents[0].until("that it is told", is_told).await;
    clone.until("its peers", |agent| agent.sees(2) && agent.sees(3)).await;
}

#[tokio::test]
async fn a_start_that_cannot_be_leaves_nothing() {
    let world = World::of(&[1]);
    let tasks = Tasks::new("gossip");
    let book = Arc::new(Book::default());
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bind = taken.local_addr().unwrap();
    let config = crate::Config { bind, ..config(&world, 1) };
    let error = start(config.clone(), ports(&world, 1, &book), &tasks).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { address, .. } if address == bind), "{error:?}");
    let config = crate::Config { interval: Duration::ZERO, ..config };
    let error = start(config, ports(&world, 1, &book), &tasks).await.unwrap_err();
    assert!(matches!(error, StartError::Interval(Duration::ZERO)), "{error:?}");
    let peer = world.members.lock().unwrap().values().next().cloned().unwrap();
    for n in 0..crate::NODES_MAX {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        let key = PublicKey(bytes);
        let stranger = Peer { node: NodeId::of(&key), key, ..peer.clone() };
        world.members.lock().unwrap().insert(stranger.node, stranger);
    }
    let error = start(self::config(&world, 1), ports(&world, 1, &book), &tasks).await.unwrap_err();
    assert!(matches!(error, StartError::Size(1_501)), "{error:?}");
    assert_eq!(tasks.stop(Duration::from_secs(1)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_packet_fits_a_path_and_names_nobody_twice() {
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    for index in 0..100 {
        agents[0].handle.publish(vote(index, 1)).await;
    }
    until_all_meet(&mut agents).await;
    agents[1].until("every fact", |agent| agent.facts(1).len() == 100).await;
    let wire = world.wire.lock().unwrap();
    assert!(wire.iter().all(|(_, _, sealed)| sealed.len() + 19 <= 1_400));
    let distinct: BTreeSet<_> = wire.iter().collect();
    assert_eq!(distinct.len(), wire.len(), "no two datagrams are alike");
}
