//! A node that was removed while it was away is told so, with the proof, and gets nothing else.

use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Entry, Operator, Record, Role, Stamp};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::message::Message;
use mesh_coordinator::time::WallTime;
use mesh_identity::keys::KeyPair;
use mesh_identity::{record, tls};
use mesh_ports::peer::{Event, Peers as _};
use mesh_proto::v1;
use mesh_proto::v1::join_client::JoinClient;
use mesh_proto::v1::peer_client::PeerClient;
use mesh_telemetry::Reason;
use tonic::Code;
use tonic::transport::Channel;

use super::fakes::MESH;
use super::world::{NOW, World, eventually, keys};
use crate::client::{Error, catalogue};
use crate::dial::{self, Dial, Names};

fn signed(author: &KeyPair, body: Body) -> Entry {
    let stamp = Stamp { generation: 1, written: WallTime(NOW), tie: 0 };
    let record = Record { mesh: MESH, stamp, parent: None, author: author.public(), body };
    record::sign(&record, author).unwrap()
}

fn grant(author: &KeyPair, to: &KeyPair) -> Entry {
    let operator = Operator {
        key: to.public(),
        name: "ann".parse().unwrap(),
        role: Role::Admin,
        keep: Vec::new(),
    };
    signed(author, Body::Operator(operator))
}

fn removal(author: &KeyPair, node: NodeId) -> Entry {
    signed(author, Body::MemberRemoval { node, keep: Vec::new(), destroyed: false })
}

/// Two agents, of which the first knows that the second was removed by the last of three operators.
async fn removed() -> (World, Vec<Entry>) {
    let world = World::of(2).await;
    let (root, first, second) = (keys(100), keys(101), keys(102));
    let lost = &world.agents[1];
    let chain = vec![grant(&root, &first), grant(&first, &second), removal(&second, lost.id)];
    let mut records = vec![removal(&second, world.agents[0].id), grant(&root, &keys(103))];
    records.extend(chain.iter().rev().cloned());
    world.agents[0].control.records.lock().unwrap().extend(records);
    world.directory.removed.lock().unwrap().push(lost.keys.public());
    (world, chain)
}

async fn channel(world: &World, own: &KeyPair) -> Channel {
    let agent = &world.agents[0];
    let address = agent.address.to_string();
    let tls = tls::client_config(own, agent.keys.public()).unwrap();
    let timeout = Duration::from_secs(5);
    let dial = Dial { address: &address, names: &Names::default(), tls, timeout, witness: None };
    dial::connect(&dial).await.unwrap().channel
}

#[tokio::test]
async fn whoever_dials_a_member_after_its_removal_gets_the_proof() {
    let (mut world, chain) = removed().await;
    let member = world.agents[0].id;
    let proof = Event::Said { from: member, message: Message::Records(chain) };
    let lost = &mut world.agents[1];
    lost.peers.watch([member].into());
    assert_eq!(lost.until(|_any| true).await, proof, "nothing else, and no heartbeat before");
    lost.peers.watch([].into());
    lost.peers.send(member, Message::Probe { nonce: 1 });
    lost.until(|event| *event == proof).await;
    assert!(world.agents[0].events.try_recv().is_err(), "what it says arrives nowhere");
}

#[tokio::test]
async fn a_proof_that_nobody_signed_does_not_arrive() {
    let (mut world, _chain) = removed().await;
    let member = world.agents[0].id;
    for entry in world.agents[0].control.records.lock().unwrap().iter_mut() {
        entry.signed.signature.0[7] ^= 1;
    }
    let lost = &mut world.agents[1];
    lost.peers.watch([member].into());
    let nothing = Event::Said { from: member, message: Message::Records(Vec::new()) };
    assert_eq!(lost.until(|_any| true).await, nothing);
    assert!(lost.refusals.count(Reason::RecordSignature) >= 3, "one for each link");
}

#[tokio::test]
async fn only_who_was_removed_is_told_so_and_may_ask_nothing_else() {
    let (world, chain) = removed().await;
    for other in [keys(1), keys(100), keys(150)] {
        let mut client = JoinClient::new(channel(&world, &other).await);
        let refused = client.part(v1::Nothing {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let removed = channel(&world, &world.agents[1].keys).await;
    let refused = PeerClient::new(removed.clone()).watch(v1::WatchRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut client = JoinClient::new(removed);
    let told = client.part(v1::Nothing {}).await.unwrap().into_inner().message().await.unwrap();
    assert_eq!(told.unwrap().records.len(), chain.len());
    // It does not keep its place either: a moment is enough for what it may ask.
    eventually(|| world.agents[0].handle.n_connections() == 0).await;
}

#[tokio::test]
async fn a_member_that_has_lost_its_store_gets_all_and_a_removed_one_what_it_has_to_know() {
    let (world, chain) = removed().await;
    let agent = &world.agents[0];
    let ask = async |own: &KeyPair| {
        let tls = tls::client_config(own, agent.keys.public()).unwrap();
        let address = agent.address.to_string();
        catalogue(&address, tls, &record::Codec, Duration::from_secs(5)).await
    };
    let all = agent.control.records.lock().unwrap().clone();
    assert_eq!(ask(&agent.keys).await, Ok(all));
    assert_eq!(ask(&world.agents[1].keys).await, Ok(chain));
    let refused = ask(&keys(150)).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}
