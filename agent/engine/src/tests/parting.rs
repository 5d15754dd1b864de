//! A node that was removed while nobody reached it, and learns of it later.

use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Entry, Operator, Role};
use mesh_coordinator::id::{NodeId, PublicKey};
use mesh_coordinator::message::Message;
use mesh_ports::control::Control;
use mesh_ports::peer;

use super::world::{Author, Bench, Plan, service};

fn removal(author: &mut Author, node: NodeId) -> Entry {
    author.write(Body::MemberRemoval { node, keep: Vec::new(), destroyed: false })
}

async fn told(bench: &Bench, from: NodeId, records: Vec<Entry>) {
    let message = Message::Records(records);
    bench.peers.send(peer::Event::Said { from, message }).await.unwrap();
}

/// A node that runs what it can, alone.
async fn alone() -> (Bench, NodeId) {
    let (plan, peer) = Plan::new().with_peer();
    let mut bench = plan.start();
    bench.place(service(1)).await;
    (bench, peer)
}

async fn goes_on(bench: &Bench) {
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.log.count("stop"), 0, "{:?}", bench.log.all());
    let problems = bench.handle.overview().await.unwrap().problems;
    assert!(!problems.iter().any(|problem| problem.contains("removed")), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_that_learns_of_it_late_stops_and_says_so() {
    let (mut bench, peer) = alone().await;
    let removal = removal(&mut bench.author, bench.me);
    told(&bench, peer, vec![removal.clone()]).await;
    bench.done("withdraw claim", 1).await;
    assert_eq!(bench.log.count("stop"), 1);
    bench.done("watch 0", 1).await;
    let overview = bench.handle.overview().await.unwrap();
    assert!(overview.problems[0].contains("removed from the mesh"), "{:?}", overview.problems);
    let mut events = bench.handle.events(100, false).await;
    let mut said = 0;
    while let Some(event) = events.recv().await {
        said += usize::from(event.text.starts_with("this node was removed from the mesh"));
    }
    assert_eq!(said, 1);
    assert!(bench.handle.records().await.contains(&removal), "it would forget it with a restart");
    // Answering would bring the same farewell again, for ever.
    bench.done("send stored", 1).await;
    let n_sent = bench.log.count("send");
    for _ in 0..3 {
        told(&bench, peer, vec![removal.clone()]).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.log.count("send"), n_sent);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_removed_on_a_word_without_a_right() {
    let (mut bench, peer) = alone().await;
    let me = bench.me;
    for author in [PublicKey([9; 32]), PublicKey([2; 32]), PublicKey([3; 32])] {
        let mut forged = removal(&mut bench.author, me);
        forged.record.author = author;
        told(&bench, peer, vec![forged]).await;
    }
    let mut elsewhere = removal(&mut bench.author, me);
    elsewhere.record.mesh.0.0[0] ^= 1;
    told(&bench, peer, vec![elsewhere]).await;
    goes_on(&bench).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_later_days_can_prove_the_right() {
    let (mut bench, peer) = alone().await;
    let key = PublicKey([8; 32]);
    let operator =
        Operator { key, name: "ann".parse().unwrap(), role: Role::Admin, keep: Vec::new() };
    let grant = bench.author.write(Body::Operator(operator));
    let mut removal = removal(&mut bench.author, bench.me);
    removal.record.author = key;
    told(&bench, peer, vec![removal.clone()]).await;
    goes_on(&bench).await;
    told(&bench, peer, vec![grant, removal]).await;
    bench.done("withdraw claim", 1).await;
    bench.stop().await;
}
