//! A register is read as it was written, by this version and by later ones.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_coordinator::id::{AppUid, Hash, Incarnation, NodeId, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::{
    Accepted, Ballot, BootId, Configuration, Holder, Key, Register, StoreId, Timing, Token, Value,
    WitnessId,
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
    fn every_register_is_read_as_it_was_written(slot in slot(), register in register()) {
        let (key, value) = encode(&slot, &register);
        prop_assert_eq!(decode(&key, &value), Ok((slot, register)));
    }

    #[test]
    fn no_two_slots_have_one_key(left in slot(), right in slot(), register in register()) {
        let (one, other) = (encode(&left, &register).0, encode(&right, &register).0);
        prop_assert_eq!(left == right, one == other);
    }

    #[test]
    fn half_a_register_is_none(slot in slot(), register in register()) {
        let (key, value) = encode(&slot, &register);
        let half = value.split_at(value.len() / 2).0;
        prop_assert!(decode(&key, half) != Ok((slot, register)));
    }
}

/// Everything that there is in one.
fn whole() -> (SlotId, Register) {
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
    (SlotId { app: AppUid([1; 16]), service, index: SlotIndex::Number(0) }, register)
}

#[test]
fn the_form_of_a_register_does_not_change_unnoticed() {
    let (slot, register) = whole();
    let (key, value) = encode(&slot, &register);
    assert_eq!(Hash::of(&[&key, &value]).to_string(), GOLDEN_HASH);
}

const GOLDEN_HASH: &str = "d2625398b305e4609286fac7de6f11a800dc297d2da3a73c5a517c5d7c62d640";

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
    let (slot, register) = whole();
    let (key, _) = encode(&slot, &register);
    for (reason, change) in cases {
        let mut message = wire::lease::write_register(&register);
        change(&mut message);
        let refused = decode(&key, &message.encode_to_vec()).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("register.{reason}")), "{refused}");
    }
    assert!(decode(&[], &encode(&slot, &register).1).is_err(), "and one of no slot");
}
