//! Who may ask what, and what nobody may.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::{
    Body, Entry, Record, RecordKey, Release, Role, SignedBytes, Stamp,
};
use mesh_coordinator::id::{AppUid, Hash, NodeId, Signature};
use mesh_coordinator::spec::AppSpec;
use mesh_coordinator::time::WallTime;
use mesh_identity::keys::KeyPair;
use mesh_identity::{request, tls};
use mesh_ports::control::LocalReplica;
use mesh_ports::request::{Challenge, Request};
use mesh_ports::runtime::ContainerId;
use mesh_proto::v1;
use mesh_proto::v1::operator_client::OperatorClient as Wire;
use mesh_proto::v1::peer_client::PeerClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::empty;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::operator::{ALL, command};
use super::world::{Agent, NOW, World, access, entry, eventually, keys, limits, slot};
use crate::client::{Error, ExecRequest, LogsRequest, OperatorClient};
use crate::convert;
use crate::dial::{self, Dial, Names};
use crate::server::Limits;

pub(super) async fn channel(agent: &Agent, own: &Arc<KeyPair>) -> Channel {
    let address = agent.address.to_string();
    let tls = tls::client_config(own, agent.keys.public()).unwrap();
    let dial = Dial {
        address: &address,
        names: &Names::default(),
        tls,
        timeout: Duration::from_secs(5),
        witness: None,
    };
    dial::connect(&dial).await.unwrap().channel
}

#[tokio::test]
async fn a_viewer_reads_and_does_nothing_else() {
    let world = World::of(1).await;
    let viewer = world.operator(100, Role::Viewer);
    let client = world.connect(&viewer).await;
    client.overview().await.unwrap();
    let (node, slot) = (world.agents[0].id, slot(0));
    let refused = |error: Option<Error>| {
        let Some(Error::Refused { reason }) = error else { panic!("{error:?}") };
        assert!(reason.contains("needs the role deployer"), "{reason}");
    };
    refused(client.submit(&[entry(&viewer, 1).signed]).await.err());
    refused(client.push_image(&b"archive"[..]).await.err());
    refused(client.record(&RecordKey::App(AppUid([1; 16]))).await.err());
    let wanted = ExecRequest { node, slot, exec: command(&["sh"]) };
    refused(client.exec(&wanted, tokio::sync::mpsc::channel(1).1).await.err());
}

#[tokio::test]
async fn a_viewer_gets_no_release_since_it_holds_the_values_of_variables() {
    let world = World::of(1).await;
    let (deployer, viewer) =
        (world.operator(100, Role::Deployer), world.operator(101, Role::Viewer));
    let app = AppUid([1; 16]);
    let spec = AppSpec { name: "blog".parse().unwrap(), services: BTreeMap::new() };
    let release = Record {
        mesh: super::fakes::MESH,
        stamp: Stamp { generation: 1, written: WallTime(NOW), tie: 0 },
        parent: None,
        author: deployer.public(),
        body: Body::App(Release { app, version: 1, spec, roster: BTreeSet::new() }),
    };
    // Put there as it is: whether the form is right is asked where records arrive.
    let signed = SignedBytes { bytes: vec![7; 10], signature: Signature([0; 64]) };
    let hash = signed.digest();
    let known = Entry { record: release, signed, hash, invitation_verified: false };
    let (release, other) = (known.signed.clone(), entry(&deployer, 2));
    world.agents[0].control.records.lock().unwrap().extend([known, other.clone()]);
    let other = other.signed;
    let (as_deployer, as_viewer) = (world.connect(&deployer).await, world.connect(&viewer).await);
    assert_eq!(as_deployer.catalogue().await.unwrap().len(), 2);
    assert_eq!(as_viewer.catalogue().await, Ok(vec![other]));
    assert_eq!(as_deployer.record(&RecordKey::App(app)).await, Ok(Some(release)));
    let refused = as_viewer.record(&RecordKey::App(app)).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_recovery_key_reads_and_hands_in_and_does_nothing_else() {
    let world = World::of(2).await;
    let recovery = keys(120);
    *world.directory.recovery.lock().unwrap() = Some(recovery.public());
    let client = world.connect(&recovery).await;
    client.catalogue().await.unwrap();
    client.overview().await.unwrap();
    client.submit(&[entry(&recovery, 1).signed]).await.unwrap();
    let (node, slot) = (world.agents[0].id, slot(0));
    let refused = |error: Option<Error>| {
        let Some(Error::Refused { reason }) = error else { panic!("{error:?}") };
        assert!(reason.contains("does one thing only"), "{reason}");
    };
    let wanted = LogsRequest { node, slot: slot.clone(), query: ALL };
    refused(client.logs(&wanted).await.err());
    let wanted = ExecRequest { node, slot, exec: command(&["sh"]) };
    refused(client.exec(&wanted, tokio::sync::mpsc::channel(1).1).await.err());
    refused(client.push_image(&b"archive"[..]).await.err());

    // It is spent: whoever holds it still gets the answer, and no other.
    *world.directory.recovery.lock().unwrap() = None;
    world.agents[0].handle.recheck();
    assert!(!matches!(client.catalogue().await, Ok(_) | Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn operators_are_no_peers_and_peers_are_no_operators() {
    let world = World::of(2).await;
    let admin = world.operator(100, Role::Admin);
    let mut as_peer = PeerClient::new(channel(&world.agents[0], &admin).await);
    let status = as_peer.watch(v1::WatchRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut as_operator = Wire::new(channel(&world.agents[0], &world.agents[1].keys).await);
    let status = as_operator.overview(v1::Nothing {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut as_stranger = Wire::new(channel(&world.agents[0], &keys(150)).await);
    let status = as_stranger.who(v1::Nothing {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_removed_keys_open_connection_is_closed_and_a_new_one_refused() {
    let world = World::of(2).await;
    let admin = world.operator(100, Role::Admin);
    let client = world.connect(&admin).await;
    client.who().await.unwrap();
    let member = &world.agents[1].keys;
    let mut peer = PeerClient::new(channel(&world.agents[0], member).await);
    let mut beats = peer.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    beats.message().await.unwrap().unwrap();
    world.agents[0].handle.recheck();
    beats.message().await.unwrap().expect("a key in good standing keeps its connection");

    world.directory.removed.lock().unwrap().extend([admin.public(), member.public()]);
    assert_eq!(client.who().await, Err(Error::Removed), "before it is closed, too");
    world.agents[0].handle.recheck();
    while let Ok(Some(_beat)) = beats.message().await {}
    assert!(matches!(client.who().await, Err(Error::Unreachable { .. })));
    eventually(|| world.agents[0].handle.n_connections() == 0).await;

    let again = [world.agents[0].as_seen()];
    let timeout = Duration::from_secs(2);
    // The handshake ends before the other end has looked at the key, so either may be where the refusal arrives.
    for _attempt in 0..20 {
        let refused = match OperatorClient::connect(&again, access(&admin), timeout).await {
            Ok(client) => client.who().await.err(),
            Err(error) => Some(error),
        };
        assert_eq!(refused, Some(Error::Removed), "told in words each time");
    }
}

/// A client says its first words before it hears that it is refused. If that broke its connection, it would not read why.
#[tokio::test]
async fn whoever_is_refused_can_go_on_writing_and_reads_why() {
    let world = World::of(1).await;
    let agent = &world.agents[0];
    let admin = world.operator(100, Role::Admin);
    world.directory.removed.lock().unwrap().push(admin.public());
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, agent.address.port())).await.unwrap();
    let tls = tls::client_config(&admin, agent.keys.public()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls);
    let mut client = connector.connect(tls::server_name(), tcp).await.unwrap();
    // The alert is there, and the handshake over for the agent.
    client.get_ref().0.peek(&mut [0]).await.unwrap();
    for _word in 0..10 {
        client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        client.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let error = client.read(&mut [0]).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

/// What the second agent gives out to the first one.
async fn challenge(world: &World) -> Challenge {
    let mut peer = PeerClient::new(channel(&world.agents[1], &world.agents[0].keys).await);
    let answer = peer.challenge(v1::Nothing {}).await.unwrap();
    Challenge(answer.into_inner().challenge.try_into().unwrap())
}

/// A request for logs, with whatever the test makes wrong about it.
fn order(
    (world, challenge): (&World, Challenge),
    operator: &KeyPair,
    spoil: impl FnOnce(&mut Request),
) -> v1::LogsRequest {
    let mut request = Request {
        mesh: super::fakes::MESH,
        operator: operator.public(),
        target: world.agents[1].id,
        action: convert::request::LOGS.to_owned(),
        slot: Some(slot(0)),
        arguments: convert::request::logs_arguments(&ALL),
        nonce: [1; 16],
        challenge,
    };
    spoil(&mut request);
    let signed = convert::request::to_wire(request::sign(operator, &request));
    convert::exec::query_to_wire(ALL, signed)
}

async fn ask(world: &World, wanted: v1::LogsRequest) -> Result<(), Status> {
    // As a stolen entry agent would: a member that passes on what it likes.
    let mut peer = PeerClient::new(channel(&world.agents[1], &world.agents[0].keys).await);
    peer.logs(wanted).await.map(drop)
}

#[tokio::test]
async fn an_agent_can_pass_on_nothing_but_what_an_operator_signed_for_that_node_once() {
    let world = World::of(2).await;
    let container = ContainerId("c".to_owned());
    let replica = LocalReplica { container, name: String::new() };
    world.agents[1].control.replicas.lock().unwrap().insert(slot(0), replica);
    let deployer = world.operator(100, Role::Deployer);
    let viewer = world.operator(101, Role::Viewer);
    let removed = world.operator(102, Role::Admin);
    world.directory.removed.lock().unwrap().push(removed.public());
    let stranger = keys(103);
    let challenged = (&world, challenge(&world).await);

    let denied = [
        (order(challenged, &removed, |_| ()), "was removed"),
        (order(challenged, &stranger, |_| ()), "not an operator"),
        (order(challenged, &deployer, |r| r.target = NodeId::from_bytes([0; 10])), "another node"),
        (order(challenged, &deployer, |r| r.mesh.0 = Hash([0; 32])), "another mesh"),
        (
            order(challenged, &deployer, |r| "mesh.v1.Operator/Exec".clone_into(&mut r.action)),
            "not the one",
        ),
        (order(challenged, &deployer, |r| r.arguments = Hash([0; 32])), "not the one"),
        (order(challenged, &deployer, |r| r.challenge.0[0] ^= 1), "expired"),
        (v1::LogsRequest { follow: true, ..order(challenged, &deployer, |_| ()) }, "not the one"),
    ];
    for (wanted, reason) in denied {
        let status = ask(&world, wanted).await.expect_err(reason);
        let codes = [Code::PermissionDenied, Code::Unauthenticated];
        assert!(codes.contains(&status.code()), "{status:?}");
        assert!(status.message().contains(reason), "{reason}: {status:?}");
    }
    ask(&world, order(challenged, &viewer, |_| ())).await.expect("whoever may look may read logs");
    let good = order(challenged, &deployer, |_| ());
    ask(&world, good.clone()).await.unwrap();
    let again = ask(&world, good).await.unwrap_err();
    assert!(again.message().contains("used before"), "{again:?}");
}

#[tokio::test]
async fn what_was_signed_for_an_earlier_life_of_an_agent_is_worth_nothing_to_the_next() {
    let mut world = World::of(2).await;
    let container = ContainerId("c".to_owned());
    let replica = LocalReplica { container, name: String::new() };
    let deployer = world.operator(100, Role::Deployer);
    let kept = order((&world, challenge(&world).await), &deployer, |_| ());
    world.agents[1].stop().await;
    world.restart(1).await;
    world.agents[1].control.replicas.lock().unwrap().insert(slot(0), replica);
    let refused = ask(&world, kept).await.unwrap_err();
    assert!(refused.message().contains("restarted meanwhile"), "{refused:?}");
    // The operator notices nothing of the restart.
    let client = world.connect(&deployer).await;
    let wanted = LogsRequest { node: world.agents[1].id, slot: slot(0), query: ALL };
    client.logs(&wanted).await.unwrap();
}

#[tokio::test]
async fn an_operator_cannot_use_what_another_signed() {
    let world = World::of(2).await;
    let (one, other) = (world.operator(100, Role::Deployer), world.operator(101, Role::Deployer));
    let mut client = Wire::new(channel(&world.agents[0], &other).await);
    let status =
        client.logs(order((&world, challenge(&world).await), &one, |_| ())).await.unwrap_err();
    assert!(status.message().contains("another operator"), "{status:?}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused() {
    let world = World::of(1).await;
    let admin = world.operator(100, Role::Admin);
    let client = world.connect(&admin).await;
    let mut long = entry(&admin, 1).signed;
    long.bytes = vec![0; 5 << 20];
    assert!(matches!(
        client.submit(&[long]).await,
        Err(Error::Invalid { .. } | Error::Busy { .. })
    ));
    client.who().await.expect("the connection goes on");
}

#[tokio::test]
async fn those_who_never_speak_are_cut_off_and_cannot_take_all_places() {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        stranger_timeout: Duration::from_millis(600),
        connections_per_address: 4,
        ..limits()
    };
    let world = World::with_limits(1, limits).await;
    let agent = &world.agents[0];
    let mut mute = Vec::new();
    for _ in 0..4 {
        mute.push(TcpStream::connect(agent.address).await.unwrap());
    }
    eventually(|| agent.handle.n_connections() == 4).await;
    let _fifth = TcpStream::connect(agent.address).await.unwrap();
    let first = tokio::time::timeout(Duration::from_millis(200), mute[0].read(&mut [0])).await;
    assert!(matches!(first.expect("at once"), Ok(0) | Err(_)), "the first makes room");
    eventually(|| agent.handle.n_connections() == 0).await;

    // A handshake, and then no HTTP/2.
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, agent.address.port())).await.unwrap();
    let operator = world.operator(100, Role::Admin);
    let tls = tls::client_config(&operator, agent.keys.public()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls);
    let mut quiet = connector.connect(tls::server_name(), tcp).await.unwrap();
    quiet.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    eventually(|| agent.handle.n_connections() == 1).await;
    eventually(|| agent.handle.n_connections() == 0).await;

    // A stranger may stay only as long as joining takes; an operator stays.
    let client = world.connect(&operator).await;
    let stranger = channel(agent, &keys(150)).await;
    eventually(|| agent.handle.n_connections() == 2).await;
    eventually(|| agent.handle.n_connections() == 1).await;
    client.who().await.unwrap();
    drop(stranger);
}

#[tokio::test]
async fn a_stranger_that_became_a_member_stays() {
    let limits = Limits { stranger_timeout: Duration::from_millis(300), ..limits() };
    let world = World::with_limits(1, limits).await;
    let agent = &world.agents[0];
    let newcomer = keys(200);
    let mut peer = PeerClient::new(channel(agent, &newcomer).await);
    let status = peer.watch(v1::WatchRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(world.ghost("127.0.0.1:1"), NodeId::of(&newcomer.public()));
    let mut beats = peer.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    let much_later = tokio::time::Instant::now() + Duration::from_millis(900);
    while tokio::time::Instant::now() < much_later {
        beats.message().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_operator_that_is_demoted_loses_what_is_open() {
    let world = World::of(1).await;
    let operator = world.operator(100, Role::Admin);
    let client = world.connect(&operator).await;
    let mut events = client.events(0, true).await.unwrap();
    world.operator(100, Role::Viewer);
    world.agents[0].handle.recheck();
    assert!(!matches!(events.next().await, Some(Ok(_))));
    world.connect(&operator).await.who().await.unwrap();
}

#[tokio::test]
async fn strangers_leave_room_for_members() {
    let limits = Limits { strangers: 2, ..limits() };
    let world = World::with_limits(1, limits).await;
    let agent = &world.agents[0];
    let operator = world.operator(100, Role::Viewer);
    let clients = [world.connect(&operator).await, world.connect(&operator).await];
    let strangers = [channel(agent, &keys(150)).await, channel(agent, &keys(151)).await];
    eventually(|| agent.handle.n_connections() == 4).await;
    let third = world.connect(&operator).await;
    third.who().await.unwrap();
    eventually(|| agent.handle.n_connections() == 4).await;
    for client in &clients {
        client.who().await.unwrap();
    }
    // Those who never finish their handshakes push out each other.
    let mut mute = Vec::new();
    for _ in 0..8 {
        mute.push(TcpStream::connect(agent.address).await.unwrap());
        assert!(agent.handle.n_connections() <= 5);
    }
    assert!(matches!(mute[0].read(&mut [0]).await, Ok(0) | Err(_)), "the oldest went first");
    world.connect(&operator).await.who().await.unwrap();
    drop(strangers);
}

/// The codes of all calls that members may make, in the name of `own`.
async fn peer_calls(agent: &Agent, own: &Arc<KeyPair>) -> Vec<(&'static str, Option<Code>)> {
    let mut peer = PeerClient::new(channel(agent, own).await);
    let blob = || v1::BlobRequest { digest: super::fakes::digest_of(b""), offset: 0 };
    let image = || v1::FetchImageRequest { digest: super::fakes::digest_of(b"") };
    vec![
        ("deliver", peer.deliver(empty()).await.err()),
        ("watch", peer.watch(v1::WatchRequest {}).await.err()),
        ("tunnel", peer.tunnel(empty()).await.err()),
        ("has_blob", peer.has_blob(blob()).await.err()),
        ("read_blob", peer.read_blob(blob()).await.err()),
        ("fetch_image", peer.fetch_image(image()).await.err()),
        ("events", peer.events(v1::EventsQuery::default()).await.err()),
        ("leases", peer.leases(v1::LeasesQuery::default()).await.err()),
        ("logs", peer.logs(v1::LogsRequest::default()).await.err()),
        ("exec", peer.exec(empty()).await.err()),
    ]
    .into_iter()
    .map(|(call, status)| (call, status.map(|status| status.code())))
    .collect()
}

/// The codes of all calls that operators may make, in the name of `own`; first those that a viewer may make.
async fn operator_calls(agent: &Agent, own: &Arc<KeyPair>) -> Vec<(&'static str, Option<Code>)> {
    let mut client = Wire::new(channel(agent, own).await);
    let slot = || Some(convert::value::slot_to_wire(&slot(0)));
    vec![
        ("who", client.who(v1::Nothing {}).await.err()),
        ("record", client.record(v1::RecordQuery::default()).await.err()),
        ("catalogue", client.catalogue(v1::Nothing {}).await.err()),
        ("overview", client.overview(v1::Nothing {}).await.err()),
        ("why", client.why(v1::WhyRequest { slot: slot() }).await.err()),
        ("events", client.events(v1::EventsQuery::default()).await.err()),
        ("leases", client.leases(v1::LeasesQuery::default()).await.err()),
        ("images", client.images(v1::Nothing {}).await.err()),
        ("logs", client.logs(v1::LogsRequest::default()).await.err()),
        ("submit", client.submit(v1::SubmitRequest::default()).await.err()),
        ("exec", client.exec(empty()).await.err()),
        ("push_image", client.push_image(empty()).await.err()),
    ]
    .into_iter()
    .map(|(call, status)| (call, status.map(|status| status.code())))
    .collect()
}

/// How many of the calls of operators a viewer may make.
const N_READS: usize = 9;

#[tokio::test]
async fn every_call_asks_for_the_standing_of_the_caller() {
    let world = World::of(2).await;
    let agent = &world.agents[0];
    let denied = Some(Code::PermissionDenied);
    let member = Arc::clone(&world.agents[1].keys);
    let viewer = world.operator(100, Role::Viewer);
    let deployer = world.operator(101, Role::Deployer);
    for nobody in [&keys(150), &viewer, &deployer] {
        for (call, code) in peer_calls(agent, nobody).await {
            assert_eq!(code, denied, "{call}");
        }
    }
    for (call, code) in peer_calls(agent, &member).await {
        assert_ne!(code, denied, "{call}");
    }
    for nobody in [&keys(150), &member] {
        for (call, code) in operator_calls(agent, nobody).await {
            assert_eq!(code, Some(Code::Unauthenticated), "{call}");
        }
    }
    for (place, (call, code)) in operator_calls(agent, &viewer).await.into_iter().enumerate() {
        assert_eq!(code == denied, place >= N_READS, "{call}: {code:?}");
    }
    for (call, code) in operator_calls(agent, &deployer).await {
        assert_ne!(code, denied, "{call}");
    }
}
