//! Any record that an author could want, for properties.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;

use mesh_coordinator::catalogue::{
    Body, Drain, Genesis, Invitation, KeptRecord, Member, NodeAddress, NodeLabels, Operator,
    OperatorRemoval, Record, Recovery, Release, Restart, Role, Run, Scale, Settings, SlotReset,
    Stamp,
};
use mesh_coordinator::id::{AppUid, Hash, MeshId, NodeId, PublicKey, Revision, Signature};
use mesh_coordinator::lease::exclusive::{StoreId, Token, WitnessId};
use mesh_coordinator::spec::{
    AppSpec, Bytes, Constraint, Cpu, Deploy, Guarantee, HealthTest, Healthcheck, ImageRef,
    LabelKey, Limits, Mode, Protocol, PublishMode, PublishedPort, Reservation, RestartPolicy,
    ServiceSpec, StopSignal, Subject, Template,
};
use mesh_coordinator::time::WallTime;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::keys::KeyPair;

/// Text that parses as every kind of name.
const NAME: &str = "[a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?";

fn name<T: Debug + FromStr<Err: Debug>>() -> impl Strategy<Value = T> {
    NAME.prop_map(|text| text.parse().unwrap())
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', "x"))
}

fn filled() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("x{text}"))
}

fn digest() -> impl Strategy<Value = String> {
    any::<[u8; 32]>().prop_map(|bytes| format!("sha256:{}", Hash(bytes)))
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(|seed| KeyPair::from_seed(&seed).public())
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 10]>().prop_map(NodeId::from_bytes)
}

fn app() -> impl Strategy<Value = AppUid> {
    any::<[u8; 16]>().prop_map(AppUid)
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn signature() -> impl Strategy<Value = Signature> {
    (any::<[u8; 32]>(), any::<[u8; 32]>())
        .prop_map(|(left, right)| Signature([left, right].concat().try_into().unwrap()))
}

fn span() -> impl Strategy<Value = Duration> {
    (0..31_536_000_u64, 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
}

fn pause() -> impl Strategy<Value = Duration> {
    span().prop_map(|span| span + Duration::from_nanos(1))
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        ("[a-z][a-z0-9.-]{0,20}", 1..=u16::MAX).prop_map(|(host, port)| format!("{host}:{port}")),
        (any::<std::net::SocketAddr>(), 1..=u16::MAX).prop_map(|(mut address, port)| {
            address.set_port(port);
            if let std::net::SocketAddr::V6(v6) = &mut address {
                v6.set_scope_id(0);
            }
            address.to_string()
        }),
    ]
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<LabelKey, String>> {
    btree_map("[A-Za-z0-9._/-]{1,12}".prop_map(|key| key.parse().unwrap()), text(), 0..4)
}

fn restart_policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::Never),
        any::<Option<u32>>().prop_map(|attempts_max| RestartPolicy::OnFailure { attempts_max }),
    ]
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    let test = prop_oneof![
        (filled(), vec(text(), 0..3)).prop_map(|(program, mut words)| {
            words.insert(0, program);
            HealthTest::Exec(words)
        }),
        filled().prop_map(HealthTest::Shell),
    ];
    (test, pause(), pause(), 1..u32::MAX, span(), pause()).prop_map(
        |(test, interval, timeout, retries, start_period, start_interval)| Healthcheck {
            test,
            interval,
            timeout,
            retries,
            start_period,
            start_interval,
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    let positive = || option::of(1..u64::MAX);
    (positive(), positive(), option::of(1..u32::MAX)).prop_map(|(cpu, memory, pids)| Limits {
        cpu: cpu.map(|millis| Cpu { millis }),
        memory: memory.map(Bytes),
        pids,
    })
}

fn template() -> impl Strategy<Value = Template> {
    let words = || option::of(vec(text(), 0..3));
    let image = (filled(), digest()).prop_map(|(name, digest)| ImageRef { name, digest });
    let what = (image, words(), words(), option::of(text()), option::of(text()));
    let more = (
        option::of(text()),
        btree_map("[A-Za-z_]{1,8}", text(), 0..4),
        btree_map("[a-z.]{1,8}", text(), 0..4),
    );
    let how = (restart_policy(), option::of(healthcheck()), 1..=64_u8, span(), limits());
    (what, more, how).prop_map(|(what, more, how)| {
        let (image, entrypoint, command, working_dir, user) = what;
        let (hostname, environment, labels) = more;
        let (restart, healthcheck, signal, stop_grace, limits) = how;
        Template {
            image,
            entrypoint,
            command,
            environment,
            working_dir,
            user,
            hostname,
            labels,
            restart,
            healthcheck,
            stop_signal: StopSignal::from_number(signal).unwrap(),
            stop_grace,
            limits,
        }
    })
}

fn constraint() -> impl Strategy<Value = Constraint> {
    let label = "[A-Za-z0-9._/-]{1,12}".prop_map(|key| Subject::Label(key.parse().unwrap()));
    let subject = prop_oneof![label, Just(Subject::Name), Just(Subject::Id)];
    (subject, any::<bool>(), text()).prop_map(|(subject, equal, value)| Constraint {
        subject,
        equal,
        value,
    })
}

fn reservation() -> impl Strategy<Value = Reservation> {
    any::<(u64, u64)>()
        .prop_map(|(millis, memory)| Reservation { cpu: Cpu { millis }, memory: Bytes(memory) })
}

fn deploy() -> impl Strategy<Value = Deploy> {
    let mode = prop_oneof![(0..=1_000_u32).prop_map(Mode::Replicated), Just(Mode::Global)];
    let spread = vec("[a-z.]{1,8}".prop_map(|key| key.parse().unwrap()), 0..3);
    let most = option::of(1..u32::MAX);
    (mode, vec(constraint(), 0..3), spread, most, reservation()).prop_map(
        |(mode, constraints, spread, replicas_per_node_max, reservation)| Deploy {
            mode,
            constraints,
            spread,
            replicas_per_node_max,
            reservation,
        },
    )
}

fn port() -> impl Strategy<Value = PublishedPort> {
    let way = prop_oneof![
        Just((Protocol::Tcp, PublishMode::Mesh)),
        Just((Protocol::Tcp, PublishMode::Host)),
        Just((Protocol::Udp, PublishMode::Host)),
    ];
    (1..=u16::MAX, 1..=u16::MAX, way).prop_map(|(published, target, (protocol, mode))| {
        PublishedPort { published, target, protocol, mode }
    })
}

fn guarantee() -> impl Strategy<Value = Guarantee> {
    prop_oneof![
        Just(Guarantee::Available),
        (6_000..=300_000_u64)
            .prop_map(|ms| Guarantee::Exclusive { ttl: Duration::from_millis(ms) }),
    ]
}

fn service() -> impl Strategy<Value = ServiceSpec> {
    (template(), any::<(u64, u64)>(), guarantee(), deploy(), vec(port(), 0..3)).prop_map(
        |(template, (number, id), guarantee, deploy, ports)| ServiceSpec {
            template,
            revision: Revision { number, id },
            // A slot that belongs to one node is nobody else's anyway.
            guarantee: if deploy.mode == Mode::Global { Guarantee::Available } else { guarantee },
            deploy,
            ports,
        },
    )
}

/// Each node once.
fn roster(len_min: usize) -> impl Strategy<Value = BTreeSet<WitnessId>> {
    btree_map(node(), any::<u128>(), len_min..=5).prop_map(|stores| {
        let witness = |(node, store)| WitnessId { node, store: StoreId(store) };
        stores.into_iter().map(witness).collect()
    })
}

fn release() -> impl Strategy<Value = Release> {
    let spec = (name(), btree_map(name(), service(), 1..3))
        .prop_map(|(name, services)| AppSpec { name, services });
    (app(), 1..u64::MAX, spec).prop_flat_map(|(app, version, spec)| {
        let needs_roster = spec.services.values().any(|it| it.guarantee.is_exclusive());
        roster(usize::from(needs_roster)).prop_map(move |roster| Release {
            app,
            version,
            spec: spec.clone(),
            roster,
        })
    })
}

fn kept() -> impl Strategy<Value = KeptRecord> {
    hash().prop_map(|hash| KeptRecord { hash })
}

fn people() -> impl Strategy<Value = Body> {
    let role = prop_oneof![Just(Role::Viewer), Just(Role::Deployer), Just(Role::Admin)];
    prop_oneof![
        (name(), key(), name(), key(), any::<[u8; 16]>()).prop_map(
            |(name, root, root_name, recovery, nonce)| Body::Genesis(Genesis {
                name,
                root,
                root_name,
                recovery,
                nonce
            })
        ),
        (50..=60_000_u32)
            .prop_map(|gossip_interval_ms| Body::Settings(Settings { gossip_interval_ms })),
        (key(), name(), role, vec(kept(), 0..4)).prop_map(|(key, name, role, keep)| {
            Body::Operator(Operator { key, name, role, keep })
        }),
        (key(), name(), key(), vec(kept(), 0..4)).prop_map(|(root, root_name, recovery, keep)| {
            Body::Recovery(Recovery { root, root_name, recovery, keep })
        }),
        (key(), vec(kept(), 0..4))
            .prop_map(|(key, keep)| Body::OperatorRemoval(OperatorRemoval { key, keep })),
        (key(), node(), any::<u64>(), 1..u32::MAX).prop_map(|(key, redeemer, expires, uses)| {
            Body::Invitation(Invitation { key, redeemer, expires: WallTime(expires), uses })
        }),
    ]
}

fn nodes() -> impl Strategy<Value = Body> {
    prop_oneof![
        (key(), name(), option::of((key(), signature()))).prop_map(|(key, name, by)| {
            let (invitation, invited) = by.unzip();
            Body::Member(Member { key, name, invitation, invited })
        }),
        (node(), vec(kept(), 0..4), any::<bool>())
            .prop_map(|(node, keep, destroyed)| Body::MemberRemoval { node, keep, destroyed }),
        (node(), vec(address(), 0..4), address())
            .prop_map(|(node, api, gossip)| Body::Address(NodeAddress { node, api, gossip })),
        (node(), labels(), 1..u32::MAX)
            .prop_map(|(node, labels, weight)| Body::Labels(NodeLabels { node, labels, weight })),
        (node(), any::<bool>()).prop_map(|(node, drained)| Body::Drain(Drain { node, drained })),
    ]
}

fn apps() -> impl Strategy<Value = Body> {
    prop_oneof![
        release().prop_map(Body::App),
        (app(), name()).prop_map(|(app, name)| Body::AppRemoval { app, name }),
        (app(), name(), 0..=1_000_u32).prop_map(|(app, service, replicas)| Body::Scale(Scale {
            app,
            service,
            replicas
        })),
        (app(), name(), any::<u32>(), 1..u64::MAX, roster(1)).prop_map(
            |(app, service, number, after, roster)| {
                let after = Token(after);
                Body::SlotReset(SlotReset { app, service, number, after, roster })
            }
        ),
        (app(), name(), any::<u64>()).prop_map(|(app, service, count)| Body::Restart(Restart {
            app,
            service,
            count
        })),
        (app(), any::<bool>()).prop_map(|(app, running)| Body::Run(Run { app, running })),
        (filled(), digest()).prop_map(|(name, digest)| Body::Image { name, digest }),
    ]
}

/// Any record by `author`.
pub(super) fn record(author: PublicKey) -> impl Strategy<Value = Record> {
    let body = prop_oneof![people(), nodes(), apps()];
    (hash(), any::<(u64, u64, u32)>(), option::of(hash()), body).prop_map(
        move |(mesh, (generation, written, tie), parent, body)| {
            let born = matches!(body, Body::Genesis(_));
            let mesh = MeshId(if born { Hash([0; 32]) } else { mesh });
            let stamp = Stamp { generation, written: WallTime(written), tie };
            Record { mesh, stamp, parent, author, body }
        },
    )
}
