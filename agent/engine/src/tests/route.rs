//! What is published, and where it leads.

use mesh_coordinator::fact::{Claim, Fact, NodeFacts, Phase};
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_ports::control::Control;
use mesh_ports::gossip;
use mesh_ports::network::Backend;

use super::world::{Bench, Plan, revision, service};

async fn publish(bench: &Bench, node: NodeId, fact: Fact) {
    let event = gossip::Event::Published { node, incarnation: Incarnation(1), fact };
    bench.gossip.send(event).await.unwrap();
}

fn claim(bench: &Bench, phase: Phase) -> Fact {
    Fact::Claim(Claim {
        slot: bench.author.slot(0),
        revision: revision(1),
        phase,
        yielding: false,
        crowding: 0,
        failover_ms: None,
        restarts: 0,
        token: None,
        detail: String::new(),
        seq: 0,
    })
}

fn facts() -> Fact {
    Fact::Node(NodeFacts {
        name: "beta".parse().unwrap(),
        capacity: mesh_coordinator::spec::Reservation::default(),
        version: "0".to_owned(),
        restarting: false,
        clock_off_ms: 0,
        store: None,
        witness_only: false,
        has_twin: false,
    })
}

#[tokio::test(start_paused = true)]
async fn a_published_port_leads_to_the_replica_of_this_node() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let routes = bench.parts.publisher.routes.lock().unwrap().clone();
    let (route, backends) = &routes[0];
    assert_eq!((routes.len(), route.published, route.target), (1, 8080, 80));
    let address = "10.0.0.1:80".parse().unwrap();
    assert_eq!(*backends, [Backend::Local { slot: bench.author.slot(0), address }]);
    assert_eq!(bench.handle.backend(&bench.author.slot(0), 80).await, Some(address));
    // The port is published before there is a replica, so that whoever comes early is told to wait and not refused.
    assert!(bench.log.is_ordered(&["routes [0]", "start", "routes [1]"]), "{:?}", bench.log.all());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_port_leads_to_other_nodes_as_long_as_they_are_there() {
    let (mut plan, peer) = Plan::new().with_peer();
    plan.records.push(plan.author.release(0, service(1)));
    let bench = plan.start();
    let hearing = bench.keep_hearing(peer);
    let up = gossip::Event::Up { node: peer, incarnation: Incarnation(1) };
    bench.gossip.send(up).await.unwrap();
    publish(&bench, peer, claim(&bench, Phase::Starting)).await;
    publish(&bench, peer, facts()).await;
    publish(&bench, peer, claim(&bench, Phase::Ready)).await;
    bench.until("a remote backend", || !bench.backends().is_empty()).await;
    let slot = bench.author.slot(0);
    assert_eq!(bench.backends(), [Backend::Remote { slot: slot.clone(), node: peer }]);
    assert_eq!(bench.handle.backend(&slot, 80).await, None, "it is not here");
    hearing.cancel();
    bench.done(&format!("lost {peer}"), 1).await;
    bench.done("claim Ready", 1).await;
    assert_eq!(bench.log.count("lost"), 1);
    let backends = bench.backends();
    assert!(matches!(backends.as_slice(), [Backend::Local { .. }]), "{backends:?}");
    bench.stop().await;
}
