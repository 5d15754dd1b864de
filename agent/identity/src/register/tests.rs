//! A register is read as it was written, by this version and by later ones.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_coordinator::id::{AppUid, Hash, Incarnation, NodeId, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{
    Accepted, Ballot, BootId, Configuration, Holder, Key, LeaseId, Register, StoreId, Timing,
    Token, Value, WitnessId,
};
use mesh_proto::v1;
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::prop_oneof;
use prost::Message as _;

use super::{decode, encode};
use crate::wire;

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 10]>().prop_map(NodeId::from_bytes)
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (1..=u64::MAX, node(), any::<(u128, u64)>()).prop_map(|(counter, node, (boot, life))| Ballot {
        counter,
        holder: Holder { node, boot: BootId(boot), incarnation: Incarnation(life) },
    })
}

fn nanos(least: Duration) -> impl Strategy<Value = Duration> {
    (least.as_nanos()..=Timing::TTL_MAX.as_nanos())
        .prop_map(|ns| Duration::from_nanos(u64::try_from(ns).unwrap()))
}

fn witnesses() -> impl Strategy<Value = BTreeSet<WitnessId>> {
    let witness = (node(), any::<u128>());
    btree_set(witness.prop_map(|(node, store)| WitnessId { node, store: StoreId(store) }), 1..=16)
}

fn accepted() -> impl Strategy<Value = Accepted> {
    let configuration = (any::<u32>(), witnesses(), option::of(witnesses()));
    let key = (ballot(), 1..=u32::MAX).prop_map(|(ballot, sub)| Key { ballot, sub });
    (key, configuration, nanos(Timing::TTL_MIN), 1..=u64::MAX).prop_map(
        |(key, (version, current, next), ttl, token)| {
            let configuration = Configuration { version, current, next, ttl };
            Accepted { key, value: Value { configuration, token: Token(token) } }
        },
    )
}

fn register() -> impl Strategy<Value = Register> {
    let released = option::of((1..=u64::MAX).prop_map(Token));
    (ballot(), option::of(accepted()), released, nanos(Duration::ZERO)).prop_map(
        |(promised, accepted, released, ttl_max)| Register {
            promised,
            accepted,
            released,
            ttl_max,
        },
    )
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (slot(), any::<u64>()).prop_map(|(slot, reset)| LeaseId { slot, reset })
}

fn slot() -> impl Strategy<Value = SlotId> {
    let index =
        prop_oneof![any::<u32>().prop_map(SlotIndex::Number), node().prop_map(SlotIndex::Node)];
    (any::<[u8; 16]>(), "[a-z0-9]{1,63}", index).prop_map(|(app, service, index)| SlotId {
        app: AppUid(app),
        service: service.parse().unwrap(),
        index,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_register_is_read_as_it_was_written(lease in lease(), register in register()) {
        let (key, value) = encode(&lease, &register);
        prop_assert_eq!(decode(&key, &value), Ok((lease, register)));
    }

    #[test]
    fn no_two_leases_have_one_key(left in lease(), right in lease(), register in register()) {
        let (one, other) = (encode(&left, &register).0, encode(&right, &register).0);
        prop_assert_eq!(left == right, one == other);
    }

    #[test]
    fn half_a_register_is_none(lease in lease(), register in register()) {
        let (key, value) = encode(&lease, &register);
        let half = value.split_at(value.len() / 2).0;
        prop_assert!(decode(&key, half) != Ok((lease, register)));
    }
}

/// Everything that there is in one.
fn whole() -> (LeaseId, Register) {
    let node = |n| NodeId::from_bytes([n; 10]);
    let holder = Holder { node: node(1), boot: BootId(2), incarnation: Incarnation(3) };
    let witness = |n| WitnessId { node: node(n), store: StoreId(n.into()) };
    let configuration = Configuration {
        version: 4,
        current: [1, 2, 3].map(witness).into(),
        next: Some([2, 3, 4].map(witness).into()),
        ttl: Timing::DEFAULT_TTL,
    };
    let key = Key { ballot: Ballot { counter: 5, holder }, sub: 6 };
    let register = Register {
        promised: Ballot { counter: 7, holder },
        accepted: Some(Accepted { key, value: Value { configuration, token: Token(8) } }),
        released: Some(Token(9)),
        ttl_max: Duration::from_secs(30),
    };
    let service = "db".parse().unwrap();
    let slot = SlotId { app: AppUid([1; 16]), service, index: SlotIndex::Number(0) };
    (LeaseId { slot, reset: 6 }, register)
}

#[test]
fn the_form_of_a_register_does_not_change_unnoticed() {
    let (lease, register) = whole();
    let (key, value) = encode(&lease, &register);
    assert_eq!(Hash::of(&[&key, &value]).to_string(), GOLDEN_HASH);
}

const GOLDEN_HASH: &str = "38279e7e2cc170d249191a2b37d4a389f9291db92f6540168e10aa5c77854ce2";

#[test]
fn an_impossible_register_is_refused_by_the_name_of_its_field() {
    type Change = fn(&mut v1::Register);
    let cases: [(&str, Change); 6] = [
        ("format: is 2, and this agent knows 1", |it| it.format = 2),
        ("promised: is missing", |it| it.promised = None),
        ("promised.counter: is zero", |it| it.promised.as_mut().unwrap().counter = 0),
        ("released: is zero", |it| it.released = Some(0)),
        ("ttl_max_ns: 301s is longer than any lease", |it| it.ttl_max_ns = 301_000_000_000),
        ("accepted.value: is missing", |it| it.accepted.as_mut().unwrap().value = None),
    ];
    let (lease, register) = whole();
    let (key, _) = encode(&lease, &register);
    for (reason, change) in cases {
        let mut message = wire::lease::write_register(&register);
        change(&mut message);
        let refused = decode(&key, &message.encode_to_vec()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("register.{reason}")), "{refused}");
    }
    assert!(decode(&[], &encode(&lease, &register).1).is_err(), "and one of no slot");
}
