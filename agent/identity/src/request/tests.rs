//! A request is the operator's or nobody's.

use mesh_coordinator::id::{AppUid, Hash, MeshId, NodeId, SlotId, SlotIndex};
use mesh_ports::request::{Challenge, Request, RequestCodec as _, RequestSigner as _};
use mesh_proto::v1;
use prost::Message as _;

use super::{Codec, REQUEST_LEN_MAX, RequestError, nonce, sign, verify};
use crate::context;
use crate::keys::KeyPair;

fn operator() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn request() -> Request {
    let service = "web".parse().unwrap();
    Request {
        mesh: MeshId(Hash([2; 32])),
        operator: operator().public(),
        target: NodeId::from_bytes([3; 10]),
        action: "mesh.v1.OperatorApi/Exec".to_owned(),
        slot: Some(SlotId { app: AppUid([4; 16]), service, index: SlotIndex::Number(0) }),
        arguments: Hash([5; 32]),
        nonce: nonce().unwrap(),
        challenge: Challenge([6; 24]),
    }
}

#[test]
fn a_request_is_opened_as_it_was_signed() {
    for slot in [None, request().slot] {
        let request = Request { slot, ..request() };
        let signed = operator().seal(&request);
        assert_eq!(Codec.open(&signed), Ok(request));
    }
}

#[test]
fn a_request_names_the_key_that_signed_it() {
    let other = KeyPair::from_seed(&[9; 32]);
    let opened = verify(&sign(&other, &request())).unwrap();
    assert_eq!(opened.operator, other.public());
    let mut forged = sign(&operator(), &request());
    forged.signature = other.sign(context::REQUEST, &forged.bytes);
    assert_eq!(verify(&forged), Err(RequestError::Signature));
}

#[test]
fn an_altered_request_is_refused() {
    let signed = sign(&operator(), &request());
    for place in 0..signed.bytes.len() {
        let mut altered = signed.clone();
        altered.bytes[place] ^= 1;
        assert!(verify(&altered).is_err(), "byte {place}");
    }
}

#[test]
fn an_endless_request_is_refused_unread() {
    let mut signed = sign(&operator(), &request());
    signed.bytes = vec![0; REQUEST_LEN_MAX + 1];
    assert_eq!(verify(&signed), Err(RequestError::Long { found: REQUEST_LEN_MAX + 1 }));
}

#[test]
fn a_request_from_before_there_were_challenges_is_opened_and_has_none() {
    let without = |challenge: Vec<u8>| {
        let signed = sign(&operator(), &request());
        let mut statement = v1::RequestStatement::decode(signed.bytes.as_slice()).unwrap();
        statement.challenge = challenge;
        let bytes = statement.encode_to_vec();
        let signature = operator().sign(context::REQUEST, &bytes);
        verify(&mesh_coordinator::catalogue::SignedBytes { bytes, signature })
    };
    assert_eq!(without(Vec::new()).unwrap().challenge, Challenge::NONE);
    assert!(matches!(without(vec![1; 23]), Err(RequestError::Field(_))));
}
