//! A fact counts where its author said it, and nowhere else.

use std::sync::Arc;

use mesh_coordinator::fact::{Claim, DETAIL_LEN_MAX, Fact, NodeFacts, Phase, Suspicion, Vote};
use mesh_coordinator::id::{
    AppUid, Hash, Incarnation, MeshId, NodeId, Revision, SlotId, SlotIndex,
};
use mesh_coordinator::lease::exclusive::{StoreId, Token};
use mesh_coordinator::spec::{Bytes, Cpu, Reservation};
use mesh_ports::directory::Signer as _;
use mesh_ports::gossip::FactCodec as _;

use super::{Codec, FACT_LEN_MAX, FactError, Speaker, open};
use crate::keys::{KeyPair, NodeIdentity};

const MESH: MeshId = MeshId(Hash([1; 32]));
const LIFE: Incarnation = Incarnation(1_700_000_000_000);

fn identity(seed: u8) -> Arc<NodeIdentity> {
    Arc::new(NodeIdentity::new(KeyPair::from_seed(&[seed; 32])))
}

fn speaker(seed: u8) -> Speaker {
    Speaker { mesh: MESH, key: identity(seed).key(), incarnation: LIFE }
}

fn claim(detail: String, service: &str) -> Claim {
    let node = NodeId::from_bytes([3; 10]);
    let service = service.parse().unwrap();
    Claim {
        slot: SlotId { app: AppUid([2; 16]), service, index: SlotIndex::Node(node) },
        revision: Revision { number: 4, id: u64::MAX },
        phase: Phase::Ready,
        yielding: true,
        crowding: 5,
        failover_ms: Some(0),
        restarts: 6,
        token: Some(Token(u64::MAX)),
        detail,
        seq: 7,
    }
}

fn facts() -> Vec<Fact> {
    let node = NodeId::from_bytes([3; 10]);
    let capacity = Reservation { cpu: Cpu { millis: 2_000 }, memory: Bytes(1 << 34) };
    let phases = [
        Phase::Intent,
        Phase::Starting,
        Phase::Ready,
        Phase::Unhealthy,
        Phase::Ended,
        Phase::Failed,
        Phase::Released,
    ];
    let number = SlotIndex::Number(0);
    let claims = phases.map(|phase| {
        let slot = SlotId { index: number, ..claim(String::new(), "web").slot };
        let claim = claim(String::new(), "web");
        Fact::Claim(Claim { phase, slot, failover_ms: None, token: None, ..claim })
    });
    let votes = [Suspicion::Silent, Suspicion::Refused]
        .map(|suspicion| Fact::Vote(Vote { node, incarnation: LIFE, suspicion }));
    let facts = NodeFacts {
        name: "web1".parse().unwrap(),
        capacity,
        version: "0.1.0".to_owned(),
        restarting: true,
        clock_off_ms: -3_600_000,
        store: Some(StoreId(u128::MAX)),
        witness_only: false,
        has_twin: false,
    };
    let rest = [
        Fact::Claim(claim("exit code 1".to_owned(), "web")),
        Fact::Root(0),
        Fact::Root(u64::MAX),
        Fact::Node(NodeFacts { store: None, ..facts.clone() }),
        Fact::Node(facts),
    ];
    claims.into_iter().chain(votes).chain(rest).collect()
}

#[test]
fn every_fact_is_opened_as_it_was_sealed() {
    let codec = Codec::new(identity(1), MESH);
    for fact in facts() {
        let sealed = codec.seal(LIFE, &fact);
        assert!(sealed.chars().all(|c| c.is_ascii_graphic()), "{sealed}");
        assert_eq!(open(&sealed, &speaker(1)), Ok(fact));
    }
}

#[test]
fn a_fact_cannot_be_moved() {
    let sealed = Codec::new(identity(1), MESH).seal(LIFE, &Fact::Root(7));
    let elsewhere = [
        speaker(2),
        Speaker { mesh: MeshId(Hash([2; 32])), ..speaker(1) },
        Speaker { incarnation: Incarnation(LIFE.0 + 1), ..speaker(1) },
    ];
    for place in elsewhere {
        assert_eq!(open(&sealed, &place), Err(FactError::Signature), "{place:?}");
    }
}

#[test]
fn an_altered_fact_is_refused() {
    let sealed = Codec::new(identity(1), MESH).seal(LIFE, &Fact::Root(7));
    for place in 0..sealed.len() {
        let mut altered = sealed.clone().into_bytes();
        altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
        assert!(open(&String::from_utf8(altered).unwrap(), &speaker(1)).is_err(), "{place}");
        assert!(open(sealed.split_at(place).0, &speaker(1)).is_err(), "{place} characters");
    }
}

#[test]
fn the_largest_claim_fits_and_a_larger_one_is_refused() {
    let codec = Codec::new(identity(1), MESH);
    let name = "s".repeat(63);
    let most = Fact::Claim(claim("d".repeat(DETAIL_LEN_MAX), &name));
    let sealed = codec.seal(LIFE, &most);
    assert!(sealed.len() <= 600, "{} characters", sealed.len());
    assert_eq!(open(&sealed, &speaker(1)), Ok(most));
    let more = Fact::Claim(claim("d".repeat(DETAIL_LEN_MAX + 1), &name));
    let refused = open(&codec.seal(LIFE, &more), &speaker(1)).unwrap_err();
    assert_eq!(refused.to_string(), "fact.claim.detail: is longer than 160 bytes");
    let found = FACT_LEN_MAX + 1;
    assert_eq!(open(&"1".repeat(found), &speaker(1)), Err(FactError::Long { found }));
}
