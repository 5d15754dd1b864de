//! The largest numbers that a member can say, through the wire into the core: nothing overflows, and nobody wins by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::{
    Body, Entry, Genesis, Member, NodeLabels, Record, Release, Stamp,
};
use mesh_coordinator::fact::{Claim, Fact, NodeFacts, Phase, Suspicion, Vote};
use mesh_coordinator::id::{
    AppUid, Hash, Incarnation, MeshId, NodeId, Revision, SlotId, SlotIndex,
};
use mesh_coordinator::lease::exclusive::{BootId, StoreId};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::{Config, Input, Node, Output};
use mesh_coordinator::spec::{
    AppSpec, Bytes, Cpu, Deploy, Guarantee, ImageRef, Labels, Limits, Mode, Reservation,
    RestartPolicy, ServiceSpec, StopSignal, Template,
};
use mesh_coordinator::time::{Instant, Moment, Reading, WallTime};
use mesh_coordinator::view::NodeStatus;
use mesh_coordinator::workload::{Do, Observed};
use mesh_identity::fact::Codec as Facts;
use mesh_identity::keys::{KeyPair, NodeIdentity};
use mesh_identity::record;
use mesh_ports::directory::Peer;
use mesh_ports::gossip::FactCodec as _;
use prost::Message as _;

use crate::convert::message;
use crate::tests::world::{NOW, keys};

/// This node, the one that lies, and an honest one.
const MEMBERS: [u8; 3] = [11, 12, 13];

const CURRENT: Revision = Revision { number: 1, id: 1 };

/// What the liar says of everything.
const MOST: Revision = Revision { number: u64::MAX, id: u64::MAX };

fn node(n: u8) -> NodeId {
    NodeId::of(&keys(n).public())
}

fn write(mesh: MeshId, generation: u64, body: Body) -> Entry {
    let root = KeyPair::from_seed(&[1; 32]);
    let stamp = Stamp { generation, written: WallTime(NOW), tie: 0 };
    let record = Record { mesh, stamp, parent: None, author: root.public(), body };
    record::sign(&record, &root).unwrap()
}

fn at(now: Instant) -> Moment {
    let since = now.since_start();
    Moment { now, reading: Reading::new(since, since), wall: WallTime(NOW) }
}

fn service() -> ServiceSpec {
    ServiceSpec {
        template: Template {
            image: ImageRef {
                name: "hello".to_owned(),
                digest: format!("sha256:{}", Hash([1; 32])),
            },
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            labels: BTreeMap::new(),
            restart: RestartPolicy::Always,
            healthcheck: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(10),
            limits: Limits::default(),
        },
        revision: CURRENT,
        guarantee: Guarantee::Available,
        deploy: Deploy {
            mode: Mode::Replicated(3),
            constraints: Vec::new(),
            spread: Vec::new(),
            replicas_per_node_max: None,
            reservation: Reservation { cpu: Cpu { millis: 1 }, memory: Bytes(1) },
        },
        ports: Vec::new(),
    }
}

/// A mesh of three with one app of three replicas. The heaviest node that there can be is the one that lies.
fn records() -> (MeshId, AppUid, Vec<Entry>) {
    let genesis = Genesis {
        name: "prod".parse().unwrap(),
        root: keys(1).public(),
        root_name: "root".parse().unwrap(),
        recovery: keys(2).public(),
        nonce: [0; 16],
    };
    let genesis = write(MeshId(Hash([0; 32])), 1, Body::Genesis(genesis));
    let mesh = MeshId(genesis.hash);
    let mut records = vec![genesis];
    for n in MEMBERS {
        let (key, name) = (keys(n).public(), format!("n{n}").parse().unwrap());
        let member = Member { key, name, invitation: None, invited: None };
        records.push(write(mesh, 1, Body::Member(member)));
    }
    let weight = NodeLabels { node: node(12), labels: Labels::new(), weight: u32::MAX };
    records.push(write(mesh, 1, Body::Labels(weight)));
    let name = "web".parse().unwrap();
    let app = AppUid::of(mesh, &name, 0);
    let services = BTreeMap::from([("www".parse().unwrap(), service())]);
    let (spec, roster) = (AppSpec { name, services }, BTreeSet::new());
    let release = Release { app, version: 1, spec, roster };
    records.push(write(mesh, 1, Body::App(release)));
    (mesh, app, records)
}

fn facts(capacity: Reservation) -> NodeFacts {
    let (name, version) = ("node".parse().unwrap(), "0".to_owned());
    NodeFacts {
        name,
        capacity,
        version,
        restarting: false,
        clock_off_ms: 0,
        store: None,
        witness_only: false,
        has_twin: false,
    }
}

fn slot(app: AppUid, index: u32) -> SlotId {
    SlotId { app, service: "www".parse().unwrap(), index: SlotIndex::Number(index) }
}

/// The first of the three, and its time.
struct Script {
    core: Node,
    mesh: MeshId,
    app: AppUid,
    now: Instant,
    n_started: usize,
}

impl Script {
    fn new() -> Self {
        let (mesh, app, records) = records();
        let capacity = Reservation { cpu: Cpu { millis: 4_000 }, memory: Bytes(1 << 30) };
        let (me, incarnation) = (node(11), Incarnation(5));
        let config = Config {
            mesh,
            me,
            incarnation,
            facts: facts(capacity),
            seed: 1,
            store: StoreId(1),
            boot: BootId(1),
        };
        let core = Node::new(at(Instant::ZERO), config, records, []);
        let mut script = Self { core, mesh, app, now: Instant::ZERO, n_started: 0 };
        script.hear(Input::Began);
        for n in [12, 13] {
            script.hear(Input::GossipUp { node: node(n), incarnation: Incarnation(1) });
            script.publishes(n, Incarnation(1), Fact::Node(facts(capacity)));
        }
        script
    }

    /// What the core wants started starts.
    fn hear(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.core.handle(at(self.now), input, &mut out);
            for output in out {
                if let Output::Do { slot, revision, job: Do::Start } = output {
                    self.n_started += 1;
                    inputs.push(Input::Observed { slot, revision, observed: Observed::Started });
                }
            }
        }
    }

    /// Node `n` says it over a connection.
    fn says(&mut self, n: u8, message: &Message) {
        for envelope in message::to_wire(message) {
            let bytes = envelope.encode_to_vec();
            let envelope = mesh_proto::v1::Envelope::decode(bytes.as_slice()).unwrap();
            let (message, _) = message::from_wire(envelope, &record::Codec).unwrap();
            self.hear(Input::Said { from: node(n), message });
        }
    }

    /// Node `n` signs it and says it by gossip.
    fn publishes(&mut self, n: u8, incarnation: Incarnation, fact: Fact) {
        let identity = NodeIdentity::new(KeyPair::from_seed(&[n; 32]));
        let codec = Facts::new(Arc::new(identity), self.mesh);
        let (key, name) = (keys(n).public(), "node".parse().unwrap());
        let peer = Peer { node: node(n), key, name, api: vec![], gossip: String::new() };
        let fact = codec.open(&peer, incarnation, &codec.seal(incarnation, &fact)).unwrap();
        self.hear(Input::Published { node: node(n), incarnation, fact });
    }

    /// Time passes; the honest one is heard.
    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.now = self.now + Duration::from_millis(250);
            for n in [12, 13] {
                self.hear(Input::Heard { node: node(n), incarnation: Incarnation(1) });
            }
            self.hear(Input::Wake);
            let shown = self.core.overview(self.now);
            assert!(!shown.nodes.is_empty());
            self.core.why(self.now, &slot(self.app, 0)).unwrap();
        }
    }

    /// The replicas of the current definition that this node holds.
    fn n_held(&self) -> usize {
        let held = |claim: &&Claim| claim.revision == CURRENT && claim.phase.holds();
        self.core.claims().filter(held).count()
    }
}

/// Everything that has a number in it, with the largest.
fn lies(app: AppUid) -> Vec<Message> {
    let vote = |n| Vote {
        node: node(n),
        incarnation: Incarnation(u64::MAX),
        suspicion: Suspicion::Silent,
    };
    let mut lies: Vec<Message> = (0..3).map(|index| Message::Announce(most(app, index))).collect();
    lies.extend([
        Message::Vote(vote(11)),
        Message::Vote(vote(13)),
        Message::Unvote(vote(13)),
        Message::Vote(vote(13)),
        Message::Probe { nonce: u64::MAX },
        Message::Alive { nonce: u64::MAX, incarnation: Incarnation(u64::MAX) },
        Message::Yield { slot: slot(app, 0), revision: MOST, nonce: u64::MAX },
        Message::Yield { slot: slot(app, 0), revision: CURRENT, nonce: u64::MAX },
        Message::Keep { slot: slot(app, u32::MAX), nonce: u64::MAX },
        Message::Digest(vec![u64::MAX; 2_000]),
        Message::Digest(vec![]),
        Message::Have { buckets: vec![u32::MAX; 2_000], hashes: vec![Hash([0xff; 32]); 100] },
        Message::Want(vec![Hash([0xff; 32]); 1_000]),
        Message::Stored(vec![Hash([0xff; 32]); 1_000]),
    ]);
    lies
}

/// A claim of a definition that no record knows, as large as it can be said.
fn most(app: AppUid, index: u32) -> Claim {
    Claim {
        phase: Phase::Ready,
        failover_ms: Some(u32::MAX),
        restarts: u32::MAX,
        seq: u64::MAX,
        ..Claim::intent(slot(app, index), MOST, u32::MAX)
    }
}

#[test]
fn nobody_wins_for_good_by_large_numbers() {
    let mut script = Script::new();
    let app = script.app;
    let most_of_all = Reservation { cpu: Cpu { millis: u64::MAX }, memory: Bytes(u64::MAX) };
    for life in [Incarnation(1), Incarnation(u64::MAX)] {
        script.publishes(12, life, Fact::Node(facts(most_of_all)));
        script.publishes(12, life, Fact::Root(u64::MAX));
        (0..3).for_each(|index| script.publishes(12, life, Fact::Claim(most(app, index))));
        for lie in lies(app) {
            script.says(12, &lie);
        }
        script.wait(5);
    }
    // The honest one is not down by one member's word, and holds what it says it holds.
    let honest = Claim { phase: Phase::Ready, seq: 1, ..Claim::intent(slot(app, 0), CURRENT, 0) };
    script.publishes(13, Incarnation(1), Fact::Claim(honest));
    script.wait(30);
    assert!(script.n_started > 0, "what the liar holds in no definition is taken over");
    let overview = script.core.overview(script.now);
    let alive = overview.nodes.iter().filter(|node| node.status == NodeStatus::Alive).count();
    assert_eq!(alive, 3, "{:?}", overview.nodes);
    assert!(script.n_held() > 0);
}

#[test]
fn a_message_may_have_any_number_in_it() {
    let (_, app, _) = records();
    for lie in lies(app) {
        for envelope in message::to_wire(&lie) {
            let bytes = envelope.encode_to_vec();
            let envelope = mesh_proto::v1::Envelope::decode(bytes.as_slice()).unwrap();
            assert_eq!(message::from_wire(envelope, &record::Codec).unwrap().0, lie);
        }
    }
}
