//! Whatever the core can say survives the wire, and what makes no sense is refused in words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::catalogue::RecordKey;
use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::fact::{Claim, DETAIL_LEN_MAX, Phase, Suspicion, Vote};
use mesh_coordinator::id::{
    AppUid, Hash, Incarnation, MeshId, NodeId, PublicKey, Revision, SlotId, SlotIndex,
};
use mesh_coordinator::lease::exclusive::{
    Accepted, Answer, Ballot, BootId, Configuration, Holder, Key, LeaseId, Refusal, Request,
    StoreId, Timing, Token, Value, WitnessId,
};
use mesh_coordinator::message::Message;
use mesh_coordinator::name::{AppName, NodeName, ServiceName};
use mesh_coordinator::spec::{
    Bytes, Cpu, Guarantee, LabelKey, Mode, Protocol, PublishMode, PublishedPort, Reservation,
};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{
    AppView, Candidate, ClaimView, Decision, NodeStatus, NodeView, Overview, ParkedView,
    ServiceView, SlotView, Why,
};
use mesh_identity::record::Codec;
use mesh_ports::runtime::{Exec, Window};
use mesh_proto::v1;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::world::{entry, keys};
use crate::convert::{event, exec, key, lease, message, overview, request, value, why};

const NAME: &str = "[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?";
const TEXT: &str = "\\PC{0,40}";

prop_compose! {
    fn service_name()(text in NAME) -> ServiceName { text.parse().unwrap() }
}
prop_compose! {
    fn node_name()(text in NAME) -> NodeName { text.parse().unwrap() }
}
prop_compose! {
    fn app_name()(text in NAME) -> AppName { text.parse().unwrap() }
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 10]>().prop_map(NodeId::from_bytes)
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (slot(), any::<u64>()).prop_map(|(slot, reset)| LeaseId { slot, reset })
}

fn slot() -> impl Strategy<Value = SlotId> {
    let index =
        prop_oneof![any::<u32>().prop_map(SlotIndex::Number), node().prop_map(SlotIndex::Node)];
    (any::<[u8; 16]>(), service_name(), index).prop_map(|(app, service, index)| SlotId {
        app: AppUid(app),
        service,
        index,
    })
}

fn revision() -> impl Strategy<Value = Revision> {
    any::<(u64, u64)>().prop_map(|(number, id)| Revision { number, id })
}

fn phase() -> impl Strategy<Value = Phase> {
    use Phase::{Ended, Failed, Intent, Ready, Released, Starting, Unhealthy};
    prop::sample::select(vec![Intent, Starting, Ready, Unhealthy, Failed, Ended, Released])
}

fn status() -> impl Strategy<Value = NodeStatus> {
    use NodeStatus::{Alive, Down, Restarting, Unknown};
    prop::sample::select(vec![Alive, Restarting, Down, Unknown])
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn reservation() -> impl Strategy<Value = Reservation> {
    any::<(u64, u64)>()
        .prop_map(|(millis, memory)| Reservation { cpu: Cpu { millis }, memory: Bytes(memory) })
}

prop_compose! {
    fn claim()(
        slot in slot(), revision in revision(), phase in phase(), yielding: bool, crowding: u32,
        failover_ms: Option<u32>, restarts: u32, token in option::of(token()),
        detail in "[ -~]{0,160}", seq: u64,
    ) -> Claim {
        Claim {
            slot, revision, phase, yielding, crowding, failover_ms, restarts, token, detail, seq,
        }
    }
}

prop_compose! {
    fn vote()(node in node(), incarnation: u64, silent: bool) -> Vote {
        let suspicion = if silent { Suspicion::Silent } else { Suspicion::Refused };
        Vote { node, incarnation: Incarnation(incarnation), suspicion }
    }
}

fn token() -> impl Strategy<Value = Token> {
    (1..=u64::MAX).prop_map(Token)
}

fn store() -> impl Strategy<Value = StoreId> {
    any::<u128>().prop_map(StoreId)
}

fn holder() -> impl Strategy<Value = Holder> {
    (node(), any::<(u128, u64)>()).prop_map(|(node, (boot, life))| Holder {
        node,
        boot: BootId(boot),
        incarnation: Incarnation(life),
    })
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (1..=u64::MAX, holder()).prop_map(|(counter, holder)| Ballot { counter, holder })
}

fn lease_key() -> impl Strategy<Value = Key> {
    (ballot(), 1..=u32::MAX).prop_map(|(ballot, sub)| Key { ballot, sub })
}

/// To the nanosecond: who asks and who grants must count the same time.
fn ttl() -> impl Strategy<Value = Duration> {
    (Timing::TTL_MIN.as_nanos()..=Timing::TTL_MAX.as_nanos())
        .prop_map(|ns| Duration::from_nanos(u64::try_from(ns).unwrap()))
}

fn witnesses() -> impl Strategy<Value = BTreeSet<WitnessId>> {
    let witness = (node(), store()).prop_map(|(node, store)| WitnessId { node, store });
    btree_set(witness, 1..6)
}

prop_compose! {
    fn configuration()(
        version: u32, current in witnesses(), next in option::of(witnesses()), ttl in ttl(),
    ) -> Configuration {
        Configuration { version, current, next, ttl }
    }
}

prop_compose! {
    fn lease_value()(configuration in configuration(), token in token()) -> Value {
        Value { configuration, token }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let grant = || {
        (1..=Timing::TTL_MAX.as_nanos())
            .prop_map(|ns| Duration::from_nanos(u64::try_from(ns).unwrap()))
    };
    prop_oneof![
        (lease_key(), any::<u64>(), lease_value(), grant())
            .prop_map(|(key, round, value, ttl)| Request::Accept { key, round, value, ttl }),
        ballot().prop_map(|ballot| Request::Prepare { ballot }),
        Just(Request::Locate),
        token().prop_map(|token| Request::Release { token }),
        (lease_key(), any::<u64>(), grant()).prop_map(|(key, round, ttl)| Request::Renew {
            key,
            round,
            ttl
        }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let refusal = prop_oneof![
        Just(Refusal::Leap),
        ballot().prop_map(Refusal::Promised),
        Just(Refusal::Removed),
        Just(Refusal::Stranger),
        Just(Refusal::Unknown),
        Just(Refusal::Unaccepted),
    ];
    let accepted = (lease_key(), lease_value()).prop_map(|(key, value)| Accepted { key, value });
    prop_oneof![
        (ballot(), holder(), token(), duration(), option::of(configuration())).prop_map(
            |(ballot, holder, token, remaining, configuration)| Answer::Busy {
                ballot,
                holder,
                token,
                remaining,
                configuration
            }
        ),
        (lease_key(), any::<u64>()).prop_map(|(key, round)| Answer::Granted { key, round }),
        (ballot(), option::of(accepted))
            .prop_map(|(ballot, accepted)| Answer::Promise { ballot, accepted }),
        (ballot(), refusal, option::of(configuration())).prop_map(
            |(ballot, refusal, configuration)| Answer::Refused { ballot, refusal, configuration }
        ),
        option::of(configuration()).prop_map(|configuration| Answer::Located { configuration }),
        token().prop_map(|token| Answer::Released { token }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        claim().prop_map(Message::Announce),
        vote().prop_map(Message::Vote),
        vote().prop_map(Message::Unvote),
        any::<u64>().prop_map(|nonce| Message::Probe { nonce }),
        any::<(u64, u64)>().prop_map(|(nonce, incarnation)| Message::Alive {
            nonce,
            incarnation: Incarnation(incarnation)
        }),
        (slot(), revision(), any::<u64>()).prop_map(|(slot, revision, nonce)| Message::Yield {
            slot,
            revision,
            nonce
        }),
        (slot(), any::<u64>()).prop_map(|(slot, nonce)| Message::Keep { slot, nonce }),
        vec(any::<u8>(), 0..4).prop_map(|numbers| {
            let author = keys(100);
            Message::Records(numbers.into_iter().map(|number| entry(&author, number)).collect())
        }),
        vec(hash(), 0..10).prop_map(Message::Stored),
        vec(any::<u64>(), 0..10).prop_map(Message::Digest),
        (vec(any::<u32>(), 0..10), vec(hash(), 0..10))
            .prop_map(|(buckets, hashes)| Message::Have { buckets, hashes }),
        vec(hash(), 0..10).prop_map(Message::Want),
        (slot(), token()).prop_map(|(slot, token)| Message::Free { slot, token }),
        (node(), any::<u128>()).prop_map(|(node, boot)| Message::Twin { node, boot: BootId(boot) }),
        vec((lease(), request()), 0..4).prop_map(Message::Ask),
        (store(), vec((lease(), answer()), 0..4))
            .prop_map(|(store, answers)| Message::Word { store, answers }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    use Severity::{Error, Info, Warning};
    let subject = prop_oneof![
        Just(Subject::Mesh),
        node().prop_map(Subject::Node),
        slot().prop_map(Subject::Slot)
    ];
    (any::<u64>(), node(), prop::sample::select(vec![Info, Warning, Error]), subject, TEXT)
        .prop_map(|(at, seen_by, severity, subject, text)| Event {
            at: WallTime(at),
            seen_by,
            severity,
            subject,
            text,
        })
}

prop_compose! {
    fn claim_view()(
        (node, node_name, node_status) in (node(), node_name(), status()),
        revision in revision(), current: bool, phase in phase(), yielding: bool, restarts: u32,
        failover_ms: Option<u32>, token in option::of(token()), detail in TEXT,
    ) -> ClaimView {
        ClaimView {
            node, node_name, node_status, revision, current, phase, yielding, restarts,
            failover_ms, token, detail,
        }
    }
}

prop_compose! {
    fn slot_view()(slot in slot(), name in TEXT, wanted: bool, claims in vec(claim_view(), 0..3))
        -> SlotView
    {
        SlotView { slot, name, wanted, claims }
    }
}

prop_compose! {
    fn port()(published in 1_u16.., target in 1_u16.., udp: bool, host: bool) -> PublishedPort {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let mode = if host { PublishMode::Host } else { PublishMode::Mesh };
        PublishedPort { published, target, protocol, mode }
    }
}

prop_compose! {
    fn service_view()(
        name in service_name(), image in TEXT, digest in TEXT, revision in revision(),
        guarantee in guarantee(), mode in option::of(any::<u32>()), (n_wanted, n_ready) in any::<(u32, u32)>(),
        ports in vec(port(), 0..3), failover_bound in duration(), slots in vec(slot_view(), 0..3),
    ) -> ServiceView {
        let mode = mode.map_or(Mode::Global, Mode::Replicated);
        ServiceView {
            name, image, digest, revision, guarantee, mode, n_wanted, n_ready, ports, failover_bound,
            slots,
        }
    }
}

fn guarantee() -> impl Strategy<Value = Guarantee> {
    let exclusive = (6_u64..300).prop_map(|ttl| {
        let ttl = Duration::from_secs(ttl);
        Guarantee::Exclusive { ttl }
    });
    prop_oneof![Just(Guarantee::Available), exclusive]
}

prop_compose! {
    fn parked_view()(
        (uid, runs) in any::<([u8; 16], [u8; 16])>(), name in app_name(), version: u64,
        author: [u8; 32], written: u64, services in vec(service_name(), 0..3),
    ) -> ParkedView {
        let (author, written) = (PublicKey(author), WallTime(written));
        ParkedView { uid: AppUid(uid), name, version, author, written, services, runs: AppUid(runs) }
    }
}

prop_compose! {
    fn app_view()(
        uid: [u8; 16], name in app_name(), version: u64, running: bool, author: [u8; 32],
        written: u64, services in vec(service_view(), 0..3),
    ) -> AppView {
        let (uid, author, written) = (AppUid(uid), PublicKey(author), WallTime(written));
        AppView { uid, name, version, running, author, written, services }
    }
}

prop_compose! {
    fn node_view()(
        (id, name, status) in (node(), node_name(), status()), drained: bool,
        labels in btree_map("[a-z./_-]{1,10}", TEXT, 0..3), (weight, n_claims) in any::<(u32, u32)>(),
        capacity in option::of(reservation()), reserved in reservation(),
        version in option::of(TEXT), addresses in vec(TEXT, 0..3),
        heard_ago in option::of(duration()), store in option::of(store()), witness_only: bool,
    ) -> NodeView {
        let label = |(key, value): (String, String)| (key.parse::<LabelKey>().unwrap(), value);
        let labels = labels.into_iter().map(label).collect();
        NodeView {
            id, name, status, drained, labels, weight, capacity, reserved, n_claims, version,
            addresses, heard_ago, store, witness_only,
        }
    }
}

prop_compose! {
    fn any_overview()(
        mesh in hash(), mesh_name in NAME, seen_by in node(), nodes in vec(node_view(), 0..3),
        apps in vec(app_view(), 0..3), removals in btree_map(app_name(), any::<u64>(), 0..3),
        problems in vec(TEXT, 0..3), parked in vec(parked_view(), 0..3),
        leaving in vec(slot_view(), 0..3),
    ) -> Overview {
        let (mesh, mesh_name) = (MeshId(mesh), mesh_name.parse().unwrap());
        Overview { mesh, mesh_name, seen_by, nodes, apps, parked, leaving, removals, problems }
    }
}

prop_compose! {
    fn candidate()(
        node in node(), node_name in node_name(), rank: Option<u32>, crowding: u32, score: u64,
        refusals in vec(TEXT, 0..3),
    ) -> Candidate {
        Candidate { node, node_name, rank, crowding, score, refusals }
    }
}

fn any_why() -> impl Strategy<Value = Why> {
    let decision = (duration(), TEXT).prop_map(|(ago, text)| Decision { ago, text });
    (slot_view(), vec(candidate(), 0..4), vec(decision, 0..4))
        .prop_map(|(slot, candidates, decisions)| Why { slot, candidates, decisions })
}

fn any_key() -> impl Strategy<Value = RecordKey> {
    let public = || any::<[u8; 32]>().prop_map(PublicKey);
    let app = || any::<[u8; 16]>().prop_map(AppUid);
    prop_oneof![
        Just(RecordKey::Genesis),
        Just(RecordKey::Settings),
        public().prop_map(RecordKey::Operator),
        Just(RecordKey::Recovery),
        public().prop_map(RecordKey::OperatorRemoval),
        public().prop_map(RecordKey::Invitation),
        node().prop_map(RecordKey::Member),
        node().prop_map(RecordKey::MemberRemoval),
        node().prop_map(RecordKey::Address),
        node().prop_map(RecordKey::Labels),
        node().prop_map(RecordKey::Drain),
        app().prop_map(RecordKey::App),
        app().prop_map(RecordKey::AppRemoval),
        (app(), service_name()).prop_map(|(app, service)| RecordKey::Scale(app, service)),
        (app(), service_name()).prop_map(|(app, service)| RecordKey::Restart(app, service)),
        app().prop_map(RecordKey::Run),
        TEXT.prop_map(RecordKey::Image),
    ]
}

/// Through the bytes, as on the way.
fn sent<T: prost::Message + Default>(message: &T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive(said in any_message()) {
        let envelopes = message::to_wire(&said);
        prop_assert_eq!(envelopes.len(), 1);
        let (read, rejected) = message::from_wire(sent(&envelopes[0]), &Codec).unwrap();
        prop_assert_eq!(read, said);
        prop_assert!(rejected.is_empty());
    }

    #[test]
    fn events_survive(seen in any_event()) {
        prop_assert_eq!(event::from_wire(sent(&event::to_wire(&seen))), Ok(seen));
    }

    #[test]
    fn overviews_survive(view in any_overview()) {
        prop_assert_eq!(overview::from_wire(sent(&overview::to_wire(&view))), Ok(view));
    }

    #[test]
    fn reasons_survive(reasons in any_why()) {
        prop_assert_eq!(why::from_wire(sent(&why::to_wire(&reasons))), Ok(reasons));
    }

    #[test]
    fn keys_survive(wanted in any_key()) {
        prop_assert_eq!(key::from_wire(sent(&key::to_wire(&wanted))), Ok(wanted));
    }

    #[test]
    fn commands_survive(
        args in vec("[^\0]{0,10}", 1..5), environment in btree_map(TEXT, TEXT, 0..3),
        user in option::of(TEXT), working_dir in option::of(TEXT), size in option::of((1..=u16::MAX, 1..=u16::MAX)),
    ) {
        let terminal = size.map(|(columns, rows)| Window { columns, rows });
        let command = Exec { args, environment, user, working_dir, terminal };
        let open = exec::exec_to_wire(&command, v1::SignedRequest::default());
        prop_assert_eq!(exec::exec(sent(&open)), Ok(command));
    }

    #[test]
    fn bytes_that_are_anything_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(envelope) = v1::Envelope::decode(bytes.as_slice()) {
            drop(message::from_wire(envelope, &Codec));
        }
        if let Ok(answer) = v1::OverviewAnswer::decode(bytes.as_slice()) {
            drop(overview::from_wire(answer));
        }
        if let Ok(item) = v1::EventItem::decode(bytes.as_slice()) {
            drop(event::from_wire(item));
        }
    }
}

#[test]
fn what_a_newer_version_says_is_refused_in_words() {
    let error = message::from_wire(v1::Envelope { message: None }, &Codec).unwrap_err();
    assert!(error.to_string().contains("does not know"), "{error}");
    let error = value::phase("phase", 99).unwrap_err();
    assert_eq!(error.to_string(), "phase: this version does not know the value 99");
    let error = value::node("node", &[0; 9]).unwrap_err();
    assert_eq!(error.to_string(), "node: has 9 bytes where 10 are needed");
    assert!(value::port_number("port", 0).is_err() && value::port_number("port", 65_536).is_err());
    assert!(value::digest("digest", "sha256:../../etc/passwd").is_err());
}

#[test]
fn a_claims_detail_is_bounded() {
    let slot = value::slot_to_wire(&super::world::slot(0));
    let claim = v1::Claim {
        slot: Some(slot),
        revision: Some(v1::Revision::default()),
        phase: v1::claim::Phase::Ready.into(),
        detail: "x".repeat(DETAIL_LEN_MAX + 1),
        ..v1::Claim::default()
    };
    let envelope = v1::Envelope { message: Some(v1::envelope::Message::Announce(claim)) };
    let error = message::from_wire(envelope, &Codec).unwrap_err();
    assert!(error.to_string().starts_with("claim.detail"), "{error}");
}

/// Why an accept with this change is refused.
fn refused_accept(change: impl FnOnce(&mut v1::lease_request::Accept)) -> String {
    let me =
        Holder { node: NodeId::from_bytes([1; 10]), boot: BootId(1), incarnation: Incarnation(1) };
    let witness = |n| WitnessId { node: NodeId::from_bytes([n; 10]), store: StoreId(n.into()) };
    let configuration = Configuration::first([1, 2, 3].map(witness).into(), Timing::DEFAULT_TTL);
    let key = Key { ballot: Ballot { counter: 7, holder: me }, sub: 1 };
    let value = Value { configuration, token: Token(7) };
    let request = Request::Accept { key, round: 1, value, ttl: Timing::DEFAULT_TTL };
    let mut ask = lease::ask_to_wire(&[(LeaseId::first(super::world::slot(0)), request)]);
    let asked = ask.requests[0].request.as_mut();
    let Some(v1::lease_request::Request::Accept(accept)) = asked else { panic!() };
    change(accept);
    let envelope = v1::Envelope { message: Some(v1::envelope::Message::Ask(ask)) };
    message::from_wire(envelope, &Codec).unwrap_err().to_string()
}

#[test]
fn what_no_honest_node_asks_of_a_witness_is_refused_by_the_name_of_its_field() {
    fn value(accept: &mut v1::lease_request::Accept) -> &mut v1::LeaseValue {
        accept.value.as_mut().unwrap()
    }
    fn configuration(accept: &mut v1::lease_request::Accept) -> &mut v1::LeaseConfiguration {
        value(accept).configuration.as_mut().unwrap()
    }
    type Change = fn(&mut v1::lease_request::Accept);
    let cases: [(&str, Change); 10] = [
        ("accept.ttl_ns: 0ns is no time for a grant", |it| it.ttl_ns = 0),
        ("accept.ttl_ns: 301s is no time for a grant", |it| it.ttl_ns = 301_000_000_000),
        ("accept.value: is missing", |it| it.value = None),
        ("key.sub: is zero", |it| it.key.as_mut().unwrap().sub = 0),
        ("value.token: is zero", |it| value(it).token = 0),
        ("configuration.ttl_ns: a lease of 1s is not between", |it| {
            configuration(it).ttl_ns = 1_000_000_000;
        }),
        ("configuration.current: there is none", |it| configuration(it).current.clear()),
        ("configuration.current: 17 witnesses are more than 16", |it| {
            let first = configuration(it).current[0].clone();
            configuration(it).current = vec![first; 17];
        }),
        ("configuration.current: ", |it| {
            let first = configuration(it).current[0].clone();
            configuration(it).current.insert(0, first);
        }),
        ("witness.store: has 3 bytes where 16 are needed", |it| {
            configuration(it).current[0].store = vec![0; 3];
        }),
    ];
    for (reason, change) in cases {
        let refused = refused_accept(change);
        assert!(refused.starts_with(reason), "{refused}");
    }
}

#[test]
fn more_records_than_fit_travel_in_several_messages() {
    let record = || v1::SignedRecord { bytes: vec![0; 400_000], signature: vec![0; 64] };
    let batches = message::batches(vec![record(), record(), record(), record(), record()]);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(message::batches(vec![]).len(), 1);
}

#[test]
fn different_arguments_have_different_hashes() {
    let at = |args: &[&str], user: Option<&str>, working_dir: Option<&str>, terminal| {
        request::exec_arguments(&Exec {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            environment: BTreeMap::new(),
            user: user.map(str::to_owned),
            working_dir: working_dir.map(str::to_owned),
            terminal,
        })
    };
    let command = |args: &[&str], user, working_dir| at(args, user, working_dir, None);
    let size = |columns| Some(Window { columns, rows: 24 });
    assert_eq!(at(&["a"], None, None, size(80)), at(&["a"], None, None, size(132)));
    let hashes = [
        at(&["a"], None, None, size(80)),
        command(&["a", "b"], None, None),
        command(&["ab"], None, None),
        command(&["a"], Some("b"), None),
        command(&["a"], None, Some("b")),
        command(&["a"], Some(""), None),
        command(&["a"], None, None),
    ];
    let distinct: BTreeSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}
