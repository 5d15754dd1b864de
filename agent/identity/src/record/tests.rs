//! What is signed is what is read, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Member, Record, Release, SignedBytes, Stamp};
use mesh_coordinator::id::{AppUid, Hash, MeshId, NodeId, Revision};
use mesh_coordinator::lease::exclusive::{StoreId, Timing, WitnessId};
use mesh_coordinator::spec::{
    AppSpec, Deploy, Guarantee, ImageRef, Limits, Mode, Reservation, RestartPolicy, ServiceSpec,
    StopSignal, Template,
};
use mesh_coordinator::time::WallTime;
use mesh_proto::v1;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use prost::Message as _;

use super::{RECORD_LEN_MAX, RecordError, arbitrary, open, sign};
use crate::invite::{self, Invitee};
use crate::keys::KeyPair;
use crate::{context, wire};

fn author() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn release() -> Record {
    let template = Template {
        image: ImageRef {
            name: "hello:1".to_owned(),
            digest: format!("sha256:{}", "a1".repeat(32)),
        },
        entrypoint: None,
        command: Some(vec!["serve".to_owned()]),
        environment: BTreeMap::from([("PORT".to_owned(), "80".to_owned())]),
        working_dir: None,
        user: None,
        hostname: None,
        labels: BTreeMap::new(),
        restart: RestartPolicy::Always,
        healthcheck: None,
        stop_signal: StopSignal::TERM,
        stop_grace: Duration::from_secs(10),
        limits: Limits::default(),
    };
    let deploy = Deploy {
        mode: Mode::Replicated(2),
        constraints: Vec::new(),
        spread: Vec::new(),
        replicas_per_node_max: None,
        reservation: Reservation::default(),
    };
    let revision = Revision { number: 1, id: 2 };
    let guarantee = Guarantee::Available;
    let service = ServiceSpec { template, revision, guarantee, deploy, ports: Vec::new() };
    let services = BTreeMap::from([("web".parse().unwrap(), service)]);
    let spec = AppSpec { name: "blog".parse().unwrap(), services };
    Record {
        mesh: MeshId(Hash([1; 32])),
        stamp: Stamp { generation: 3, written: WallTime(4), tie: 5 },
        parent: Some(Hash([6; 32])),
        author: author().public(),
        body: Body::App(Release {
            app: AppUid([8; 16]),
            version: 1,
            spec,
            roster: BTreeSet::new(),
        }),
    }
}

/// The release with its one service exclusive, among three witnesses.
fn exclusive() -> Record {
    let mut record = release();
    let Body::App(release) = &mut record.body else { panic!() };
    for service in release.spec.services.values_mut() {
        service.guarantee = Guarantee::Exclusive { ttl: Timing::DEFAULT_TTL };
    }
    let witness = |n| WitnessId { node: NodeId::from_bytes([n; 10]), store: StoreId(n.into()) };
    release.roster = [1, 2, 3].map(witness).into();
    record
}

/// The message of the release, changed and signed by its author.
fn changed(change: impl FnOnce(&mut v1::Record)) -> SignedBytes {
    changed_of(&release(), change)
}

fn changed_of(record: &Record, change: impl FnOnce(&mut v1::Record)) -> SignedBytes {
    let mut message = wire::record::write(record);
    change(&mut message);
    let bytes = message.encode_to_vec();
    let signature = author().sign(context::RECORD, &bytes);
    SignedBytes { bytes, signature }
}

/// Why the release with this change to its one service is refused.
fn refused_service(change: impl FnOnce(&mut v1::ServiceSpec)) -> String {
    let signed = changed(|message| {
        let Some(v1::record::Body::App(release)) = &mut message.body else { panic!() };
        change(&mut release.spec.as_mut().unwrap().services[0]);
    });
    open(signed).unwrap_err().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_record_is_read_as_it_was_signed(record in arbitrary::record(author().public())) {
        let entry = sign(&record, &author()).unwrap();
        prop_assert_eq!(&entry.record, &record);
        prop_assert_eq!(open(entry.signed.clone()).unwrap(), entry);
    }

    #[test]
    fn a_record_with_a_flipped_bit_is_refused(
        record in arbitrary::record(author().public()),
        place in any::<proptest::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut signed = sign(&record, &author()).unwrap().signed;
        let place = place.index(signed.bytes.len() + signed.signature.0.len());
        match signed.bytes.get_mut(place) {
            Some(byte) => *byte ^= 1 << bit,
            None => signed.signature.0[place - signed.bytes.len()] ^= 1 << bit,
        }
        prop_assert!(open(signed).is_err());
    }

    #[test]
    fn noise_is_refused_and_never_panics(bytes in any::<Vec<u8>>()) {
        let signature = author().sign(context::RECORD, &bytes);
        let opened = open(SignedBytes { bytes, signature });
        prop_assert!(opened.is_err());
    }
}

#[test]
fn the_form_of_a_record_does_not_change_unnoticed() {
    // The bytes that an agent of the first version signs: later versions must read and write them alike.
    let entry = sign(&release(), &author()).unwrap();
    assert_eq!(entry.hash.to_string(), GOLDEN_HASH);
}

const GOLDEN_HASH: &str = "dc1ba45f1c3349e61f71aa695937c4f4269315efb24d6ff05681ceaf251267bd";

#[test]
fn the_form_of_an_exclusive_release_does_not_change_unnoticed() {
    let entry = sign(&exclusive(), &author()).unwrap();
    assert_eq!(entry.hash.to_string(), GOLDEN_HASH_EXCLUSIVE);
}

const GOLDEN_HASH_EXCLUSIVE: &str =
    "34b8b18dde22529339ffb71f3a4d4d8937459e88d55795b5571ff9748cc1b130";

/// An agent of the first version would read such a release and run it as an available one.
#[test]
fn only_what_older_agents_must_not_read_has_a_higher_format() {
    let format = |record: &Record| wire::record::write(record).format;
    assert_eq!((format(&release()), format(&exclusive())), (1, 2));
    let Body::App(Release { app, spec, .. }) = exclusive().body else { panic!() };
    let removal = Body::AppRemoval { app, name: spec.name };
    assert_eq!(format(&Record { body: removal, ..release() }), 1);
    let refused = open(changed_of(&exclusive(), |message| message.format = 1)).unwrap_err();
    let reason = "format: is 1; a release with exclusive services has 2";
    assert_eq!(refused.to_string(), reason);
}

#[test]
fn an_impossible_roster_or_guarantee_is_refused_by_the_name_of_its_field() {
    type Change = fn(&mut v1::record::Release);
    fn service(release: &mut v1::record::Release) -> &mut v1::ServiceSpec {
        &mut release.spec.as_mut().unwrap().services[0]
    }
    let cases: [(&str, Change); 8] = [
        ("roster: there is none, and a service is exclusive", |it| it.roster.clear()),
        ("roster: 65 witnesses are more than 64", |it| it.roster = vec![it.roster[0].clone(); 65]),
        ("roster: aeaqcaibaeaqcaib comes twice or out of order", |it| {
            it.roster.insert(0, it.roster[0].clone());
        }),
        ("roster: has a node twice", |it| {
            let again = v1::Witness { store: vec![9; 16], ..it.roster[0].clone() };
            it.roster.insert(1, again);
        }),
        ("roster.store: 3 bytes, not 16", |it| it.roster[0].store = vec![0; 3]),
        (
            "spec.services.web.exclusive.ttl_ms: a lease of 5.999s is not between 6s and 300s",
            |it| {
                service(it).exclusive = Some(v1::Exclusive { ttl_ms: 5_999 });
            },
        ),
        ("spec.services.web.exclusive.ttl_ms: a lease of 300.001s is not between", |it| {
            service(it).exclusive = Some(v1::Exclusive { ttl_ms: 300_001 });
        }),
        ("spec.services.web.exclusive: a global service cannot be exclusive", |it| {
            let deploy = service(it).deploy.as_mut().unwrap();
            deploy.mode = Some(v1::deploy::Mode::Global(true));
        }),
    ];
    for (reason, change) in cases {
        let signed = changed_of(&exclusive(), |message| {
            let Some(v1::record::Body::App(release)) = &mut message.body else { panic!() };
            change(release);
        });
        let refused = open(signed).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("app.{reason}")), "{refused}");
    }
}

#[test]
fn nobody_signs_in_anothers_name() {
    let other = KeyPair::from_seed(&[9; 32]);
    assert_eq!(sign(&release(), &other), Err(RecordError::Author));
    let mut signed = changed(|_| {});
    signed.signature = other.sign(context::RECORD, &signed.bytes);
    assert_eq!(open(signed), Err(RecordError::Signature));
}

#[test]
fn a_signature_for_another_use_is_refused() {
    let mut signed = changed(|_| {});
    signed.signature = author().sign(context::FACT, &signed.bytes);
    assert_eq!(open(signed), Err(RecordError::Signature));
}

#[test]
fn an_impossible_service_is_refused_by_the_name_of_its_field() {
    type Change = Box<dyn FnOnce(&mut v1::ServiceSpec)>;
    let template = |service: &mut v1::ServiceSpec| service.template.clone().unwrap();
    let cases: [(&str, Change); 8] = [
        (
            "deploy.replicas: 1001 are more than 1000",
            Box::new(|service| {
                let deploy = service.deploy.as_mut().unwrap();
                deploy.mode = Some(v1::deploy::Mode::Replicated(1001));
            }),
        ),
        (
            "template.image.digest: \"sha256:A\" is not sha256: and 64 digits",
            Box::new(|service| {
                let image = service.template.as_mut().unwrap().image.as_mut().unwrap();
                image.digest = "sha256:A".to_owned();
            }),
        ),
        (
            "template.environment.A=B: is not the name of a variable",
            Box::new(|service| {
                let pair = v1::Pair { key: "A=B".to_owned(), value: String::new() };
                service.template.as_mut().unwrap().environment = vec![pair];
            }),
        ),
        (
            "template.environment.A: comes twice",
            Box::new(|service| {
                let pair = v1::Pair { key: "A".to_owned(), value: String::new() };
                service.template.as_mut().unwrap().environment = vec![pair.clone(), pair];
            }),
        ),
        (
            "template.stop_signal: 65 is not a signal",
            Box::new(move |service| {
                service.template = Some(v1::Template { stop_signal: 65, ..template(service) });
            }),
        ),
        (
            "template.limits.pids: is zero",
            Box::new(|service| {
                service.template.as_mut().unwrap().limits.as_mut().unwrap().pids = Some(0);
            }),
        ),
        (
            "ports.published: 70000 is not a port",
            Box::new(|service| {
                let (protocol, mode) = (1, 1);
                service.ports =
                    vec![v1::PublishedPort { published: 70_000, target: 1, protocol, mode }];
            }),
        ),
        (
            "ports.mode: datagrams are published only",
            Box::new(|service| {
                let (protocol, mode) = (2, 1);
                service.ports =
                    vec![v1::PublishedPort { published: 53, target: 53, protocol, mode }];
            }),
        ),
    ];
    for (reason, change) in cases {
        let refused = refused_service(change);
        assert!(refused.starts_with(&format!("app.spec.services.web.{reason}")), "{refused}");
    }
}

#[test]
fn an_impossible_record_is_refused_by_the_name_of_its_field() {
    type Change = fn(&mut v1::Record);
    let cases: [(&str, Change); 8] = [
        ("format: is missing", |message| message.format = 0),
        ("the record has format 3, and this agent knows", |message| message.format = 3),
        ("mesh: 3 bytes, not 32", |message| message.mesh = vec![0; 3]),
        ("mesh: is missing", |message| message.mesh = vec![0; 32]),
        ("author: is not an Ed25519 public key", |message| message.author = vec![0; 32]),
        ("body: is missing", |message| message.body = None),
        ("stamp: is missing", |message| message.stamp = None),
        ("labels.weight: is zero", |message| {
            let labels = v1::record::NodeLabels { node: vec![0; 10], labels: vec![], weight: 0 };
            message.body = Some(v1::record::Body::Labels(labels));
        }),
    ];
    for (reason, change) in cases {
        let refused = open(changed(change)).unwrap_err().to_string();
        assert!(refused.starts_with(reason), "{refused}");
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_before_it_is_signed() {
    let mut record = release();
    let Body::App(release) = &mut record.body else { panic!() };
    let service = release.spec.services.values_mut().next().unwrap();
    service.template.command = Some(vec!["x".repeat(RECORD_LEN_MAX)]);
    let refused = sign(&record, &author()).unwrap_err();
    assert!(matches!(refused, RecordError::Long { found } if found > RECORD_LEN_MAX));
}

#[test]
fn an_oversized_record_is_refused_before_it_is_decoded() {
    // Its author signed it, and what follows the record is one long field that nobody knows.
    let mut signed = changed(|_| {});
    signed.bytes.extend([0xfa, 0x3f, 0x80, 0x80, 0x10]);
    signed.bytes.extend(vec![0; 256 << 10]);
    signed.signature = author().sign(context::RECORD, &signed.bytes);
    assert!(matches!(open(signed), Err(RecordError::Long { found }) if found > RECORD_LEN_MAX));
}

#[test]
fn a_deeply_nested_record_is_refused() {
    // Groups inside groups, in a field that nobody knows: a reader that followed them would run out of stack.
    let (open_group, close_group) = ([0xfb, 0x3f], [0xfc, 0x3f]);
    let depth = RECORD_LEN_MAX / 4 - 256;
    let mut signed = changed(|_| {});
    signed.bytes.extend(open_group.repeat(depth));
    signed.bytes.extend(close_group.repeat(depth));
    assert!(signed.bytes.len() <= RECORD_LEN_MAX);
    signed.signature = author().sign(context::RECORD, &signed.bytes);
    assert!(matches!(open(signed), Err(RecordError::Malformed { .. })));
}

#[test]
fn an_invitation_counts_only_for_whom_it_was_signed() {
    let invitation = KeyPair::from_seed(&[3; 32]);
    let mesh = MeshId(Hash([1; 32]));
    let joining = KeyPair::from_seed(&[4; 32]).public();
    let invitee = Invitee { mesh, key: joining, name: "web1".parse().unwrap() };
    let verified = |name: &str, by: &KeyPair| {
        let member = Member {
            key: joining,
            name: name.parse().unwrap(),
            invitation: Some(invitation.public()),
            invited: Some(invite::sign(by, &invitee)),
        };
        let record = Record { body: Body::Member(member), ..release() };
        sign(&record, &author()).unwrap().invitation_verified
    };
    assert!(verified("web1", &invitation));
    assert!(!verified("web2", &invitation));
    assert!(!verified("web1", &KeyPair::from_seed(&[5; 32])));
}
