//! Calls by those who may not make them, and messages that are none.

use std::sync::Arc;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::fact::Claim;
use mesh_coordinator::id::{PublicKey, Revision, Signature, SlotId, SlotIndex};
use mesh_coordinator::message::Message;
use mesh_identity::keys::KeyPair;
use mesh_ports::peer::{Event, Peers as _};
use mesh_proto::v1;
use mesh_proto::v1::envelope::Message as Said;
use mesh_proto::v1::join_client::JoinClient;
use mesh_proto::v1::operator_client::OperatorClient as Wire;
use mesh_proto::v1::peer_client::PeerClient;
use mesh_telemetry::Reason;
use tokio_stream::once;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::Siege;
use crate::convert::value;
use crate::tests::fakes::digest_of;
use crate::tests::security::channel;
use crate::tests::world::{entry, keys, slot};

fn records(records: Vec<v1::SignedRecord>) -> v1::Envelope {
    v1::Envelope { message: Some(Said::Records(v1::Records { records })) }
}

/// A record of five megabytes.
fn long_record() -> v1::SignedRecord {
    v1::SignedRecord { bytes: vec![0; 5 << 20], signature: vec![0; 64] }
}

/// A record whose signature is of another one.
fn forged(author: &KeyPair) -> v1::SignedRecord {
    let mut entry = entry(author, 1);
    entry.signed.signature.0[5] ^= 1;
    value::signed_to_wire(&entry.signed)
}

async fn deliver(channel: &Channel, envelope: v1::Envelope) -> Result<(), Status> {
    PeerClient::new(channel.clone()).deliver(once(envelope)).await.map(drop)
}

#[tokio::test]
async fn whoever_may_not_call_is_counted_by_what_it_is() {
    let mut siege = Siege::new().await;
    let lost = keys(200);
    siege.world.ghost("127.0.0.1:1");
    siege.world.directory.removed.lock().unwrap().push(lost.public());
    let viewer = siege.world.operator(100, Role::Viewer);
    let member = Arc::clone(&siege.world.agents[1].keys);
    let stranger = keys(150);
    for (own, reason) in
        [(&stranger, Reason::Stranger), (&lost, Reason::RemovedMember), (&viewer, Reason::Role)]
    {
        let mut client = PeerClient::new(channel(siege.agent(), own).await);
        client.watch(v1::WatchRequest {}).await.unwrap_err();
        siege.held(reason).await;
    }
    for (own, reason) in [
        (&stranger, Reason::Stranger),
        (&lost, Reason::RemovedMember),
        (&viewer, Reason::Role),
        (&member, Reason::Role),
    ] {
        let mut client = Wire::new(channel(siege.agent(), own).await);
        client.submit(v1::SubmitRequest::default()).await.unwrap_err();
        siege.held(reason).await;
    }
    let mut client = JoinClient::new(channel(siege.agent(), &viewer).await);
    client.join(v1::JoinOffer::default()).await.unwrap_err();
    siege.held(Reason::Role).await;
}

#[tokio::test]
async fn what_is_too_long_is_not_read() {
    let mut siege = Siege::new().await;
    let member = channel(siege.agent(), &siege.world.agents[1].keys).await;
    let refused = deliver(&member, records(vec![long_record()])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    siege.held(Reason::MessageTooLong).await;
    deliver(&member, records(vec![])).await.expect("the connection goes on");

    let operator = siege.world.operator(100, Role::Admin);
    let mut client = Wire::new(channel(siege.agent(), &operator).await);
    client.submit(v1::SubmitRequest { records: vec![long_record()] }).await.unwrap_err();
    siege.held(Reason::MessageTooLong).await;
}

#[tokio::test]
async fn what_cannot_be_decoded_is_refused() {
    let mut siege = Siege::new().await;
    let member = channel(siege.agent(), &siege.world.agents[1].keys).await;
    // Of a kind that nobody knows: the stream goes on, since the other end may be newer.
    deliver(&member, v1::Envelope { message: None }).await.unwrap();
    siege.held(Reason::MessageMalformed).await;

    // No protobuf at all: a field that is longer than its message.
    let operator = siege.world.operator(100, Role::Admin);
    let raw = channel(siege.agent(), &operator).await;
    let request = Request::post("http://agent.mesh/mesh.v1.Operator/Submit")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new("\u{0}\u{0}\u{0}\u{0}\u{2}\u{a}\u{7f}".to_owned()));
    let answer = raw.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "13");
    siege.held(Reason::MessageMalformed).await;

    // A field that makes no sense.
    let mut client = Wire::new(raw);
    client.why(v1::WhyRequest { slot: None }).await.unwrap_err();
    siege.held(Reason::MessageMalformed).await;
}

/// Brackets that are opened and never closed, in a field that nobody knows: read by a function that calls itself for each, they
/// would end the process.
#[tokio::test]
async fn what_is_nested_without_end_is_refused() {
    let mut siege = Siege::new().await;
    let operator = siege.world.operator(100, Role::Admin);
    let raw = channel(siege.agent(), &operator).await;
    // The length of the message in the first bytes, and for each bracket the byte 0x7b: all of it is text.
    let message = ["\u{0}\u{0}\u{f}\u{7f}\u{7f}", &"{".repeat(0x000f_7f7f)].concat();
    for path in ["mesh.v1.Operator/Submit", "mesh.v1.Join/Join", "mesh.v1.Peer/Deliver"] {
        let request = Request::post(format!("http://agent.mesh/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(message.clone()));
        let answer = raw.clone().oneshot(request.unwrap()).await.unwrap();
        let status = answer.headers().get("grpc-status").unwrap().to_str().unwrap().to_owned();
        if path.contains("Operator") || path.contains("Join") {
            assert_eq!(status, "13", "{path}");
            siege.held(Reason::MessageMalformed).await;
        } else {
            assert_eq!(status, "7", "who may not call is not read: {path}");
            siege.held(Reason::Role).await;
        }
    }
    let member = channel(siege.agent(), &siege.world.agents[1].keys).await;
    let record = v1::SignedRecord { bytes: message.into_bytes(), signature: vec![0; 64] };
    deliver(&member, records(vec![record])).await.unwrap();
    siege.held(Reason::RecordSignature).await;
}

#[tokio::test]
async fn who_claims_the_slot_of_another_node_is_not_heard() {
    let mut siege = Siege::new().await;
    let liar = siege.world.agents[1].id;
    let claim = |owner| {
        let slot = SlotId { index: SlotIndex::Node(owner), ..slot(0) };
        Message::Announce(Claim::intent(slot, Revision { number: 1, id: 1 }, 0))
    };
    let to = siege.agent().id;
    siege.world.agents[1].peers.send(to, claim(to));
    siege.held(Reason::FactSignature).await;
    siege.world.agents[1].peers.send(to, claim(liar));
    let said = Event::Said { from: liar, message: claim(liar) };
    let heard = siege.world.agents[0].until(|event| matches!(event, Event::Said { .. })).await;
    assert_eq!(heard, said, "its own is heard, and nothing before it");
}

#[tokio::test]
async fn a_record_that_its_author_may_not_write_is_refused() {
    let mut siege = Siege::new().await;
    let operator = siege.world.operator(100, Role::Deployer);
    let record = value::signed_to_wire(&entry(&operator, 1).signed);
    let may_not = "this needs the role admin".to_owned();
    *siege.agent().control.refuses.lock().unwrap() = Some(may_not);
    let mut client = Wire::new(channel(siege.agent(), &operator).await);
    let request = v1::SubmitRequest { records: vec![record] };
    let answer = client.submit(request).await.unwrap().into_inner();
    assert_eq!(answer.refused.len(), 1);
    siege.held(Reason::RecordRefused).await;
}

#[tokio::test]
async fn records_that_nobody_signed_are_refused_whoever_brings_them() {
    let mut siege = Siege::new().await;
    let operator = siege.world.operator(100, Role::Admin);
    let member = channel(siege.agent(), &siege.world.agents[1].keys).await;
    deliver(&member, records(vec![forged(&operator)])).await.unwrap();
    siege.held(Reason::RecordSignature).await;

    let mut client = Wire::new(channel(siege.agent(), &operator).await);
    let request = v1::SubmitRequest { records: vec![forged(&operator)] };
    let answer = client.submit(request).await.unwrap().into_inner();
    assert_eq!(answer.refused.len(), 1);
    siege.held(Reason::RecordSignature).await;

    let newcomer = keys(150);
    let offer = v1::JoinOffer {
        name: "good".to_owned(),
        invitation: PublicKey([1; 32]).0.to_vec(),
        invited: Signature([2; 64]).0.to_vec(),
        address: Some(forged(&newcomer)),
    };
    JoinClient::new(channel(siege.agent(), &newcomer).await).join(offer).await.unwrap_err();
    siege.held(Reason::RecordSignature).await;
    assert!(siege.agent().control.records.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_that_is_another_one_is_not_kept() {
    let mut siege = Siege::new().await;
    let digest = digest_of(b"good");
    let thief = &siege.world.agents[1];
    thief.images.0.lock().unwrap().insert(digest.clone(), b"evil".as_slice().into());
    let mut peer = PeerClient::new(channel(siege.agent(), &thief.keys).await);
    let wanted = v1::FetchImageRequest { digest };
    peer.fetch_image(wanted).await.unwrap_err();
    assert!(siege.agent().images.0.lock().unwrap().is_empty());
    siege.held(Reason::BlobDigest).await;
}
