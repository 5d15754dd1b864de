//! Commands in containers that no operator asked for: a member passes on what it likes, as a stolen server would.

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{Hash, NodeId};
use mesh_identity::keys::KeyPair;
use mesh_identity::request;
use mesh_ports::control::LocalReplica;
use mesh_ports::request::{Challenge, Request};
use mesh_ports::runtime::ContainerId;
use mesh_proto::v1;
use mesh_proto::v1::exec_input::Piece;
use mesh_proto::v1::peer_client::PeerClient;
use mesh_telemetry::Reason;
use tokio_stream::once;
use tonic::{Code, Status};

use super::Siege;
use crate::convert;
use crate::tests::fakes::MESH;
use crate::tests::operator::command;
use crate::tests::security::channel;
use crate::tests::world::{keys, slot};

/// What an operator asks, with whatever is wrong about it.
fn order(
    (target, challenge): (NodeId, Challenge),
    operator: &KeyPair,
    spoil: impl FnOnce(&mut Request),
) -> v1::SignedRequest {
    let mut request = Request {
        mesh: MESH,
        operator: operator.public(),
        target,
        action: convert::request::EXEC.to_owned(),
        slot: Some(slot(0)),
        arguments: convert::request::exec_arguments(&command(&["sh"])),
        nonce: [1; 16],
        challenge,
    };
    spoil(&mut request);
    convert::request::to_wire(request::sign(operator, &request))
}

/// What the attacked agent gives out to the attacking one.
async fn challenge(siege: &Siege) -> (NodeId, Challenge) {
    let channel = channel(siege.agent(), &siege.world.agents[1].keys).await;
    let answer = PeerClient::new(channel).challenge(v1::Nothing {}).await.unwrap();
    (siege.agent().id, Challenge(answer.into_inner().challenge.try_into().unwrap()))
}

async fn exec(siege: &Siege, request: Option<v1::SignedRequest>) -> Result<(), Status> {
    let signed = v1::SignedRequest::default();
    let open = v1::ExecOpen { request, ..convert::exec::exec_to_wire(&command(&["sh"]), signed) };
    let input = once(v1::ExecInput { piece: Some(Piece::Open(open)) });
    let channel = channel(siege.agent(), &siege.world.agents[1].keys).await;
    PeerClient::new(channel).exec(input).await.map(drop)
}

#[tokio::test]
async fn a_command_that_nobody_signed_like_this_is_refused() {
    let mut siege = Siege::new().await;
    let replica = LocalReplica { container: ContainerId("c".to_owned()), name: String::new() };
    siege.agent().control.replicas.lock().unwrap().insert(slot(0), replica);
    let deployer = siege.world.operator(100, Role::Deployer);
    let viewer = siege.world.operator(101, Role::Viewer);
    let removed = siege.world.operator(102, Role::Admin);
    siege.world.directory.removed.lock().unwrap().push(removed.public());
    let challenged = challenge(&siege).await;
    let right = |spoil: fn(&mut Request)| Some(order(challenged, &deployer, spoil));
    let mut forged = right(|_| ()).unwrap();
    forged.signature[7] ^= 1;
    let unsigned = v1::SignedRequest { signature: vec![], ..forged.clone() };
    let attacks = [
        (None, Reason::RequestSignature),
        (Some(unsigned), Reason::RequestSignature),
        (Some(forged), Reason::RequestSignature),
        (right(|r| r.arguments = Hash([0; 32])), Reason::RequestSignature),
        (right(|r| convert::request::LOGS.clone_into(&mut r.action)), Reason::RequestSignature),
        (right(|r| r.target = NodeId::from_bytes([0; 10])), Reason::RequestSignature),
        (right(|r| r.mesh.0 = Hash([0; 32])), Reason::WrongMesh),
        (right(|r| r.challenge = Challenge([0; 24])), Reason::RequestExpired),
        (right(|r| r.challenge.0[0] ^= 1), Reason::RequestExpired),
        (Some(order(challenged, &viewer, |_| ())), Reason::Role),
        (Some(order(challenged, &removed, |_| ())), Reason::RemovedOperator),
        (Some(order(challenged, &keys(150), |_| ())), Reason::Stranger),
    ];
    for (request, reason) in attacks {
        let status = exec(&siege, request).await.unwrap_err();
        let codes = [Code::PermissionDenied, Code::Unauthenticated, Code::InvalidArgument];
        assert!(codes.contains(&status.code()), "{reason:?}: {status:?}");
        siege.held(reason).await;
    }
    let good = Some(order(challenged, &deployer, |_| ()));
    exec(&siege, good.clone()).await.unwrap();
    exec(&siege, good).await.unwrap_err();
    siege.held(Reason::RequestReplayed).await;
}

#[tokio::test]
async fn what_another_agent_refuses_is_counted_there() {
    let mut siege = Siege::new().await;
    let deployer = siege.world.operator(100, Role::Deployer);
    // Through the second agent, to the first.
    let challenged = challenge(&siege).await;
    let mut spoiled = order(challenged, &deployer, |r| r.challenge.0[23] ^= 1);
    let open = convert::exec::exec_to_wire(&command(&["sh"]), std::mem::take(&mut spoiled));
    let input = once(v1::ExecInput { piece: Some(Piece::Open(open)) });
    let channel = channel(&siege.world.agents[1], &deployer).await;
    let mut client = v1::operator_client::OperatorClient::new(channel);
    client.exec(input).await.unwrap_err();
    siege.held(Reason::RequestExpired).await;
    assert!(siege.world.agents[1].refusals.counts().is_empty());
}
