//! One engine on a bench: a faked world around it, and an operator whose signatures nobody checks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_coordinator::catalogue::{
    Body, Catalogue, Entry, Genesis, Member, Record, Release, SignedBytes, Stamp,
};
use mesh_coordinator::fact::NodeFacts;
use mesh_coordinator::id::{
    AppUid, Hash, Incarnation, MeshId, NodeId, PublicKey, Revision, Signature, SlotId, SlotIndex,
};
use mesh_coordinator::lease::exclusive::{BootId, StoreId};
use mesh_coordinator::node;
use mesh_coordinator::spec::{
    AppSpec, Bytes, Cpu, Deploy, Guarantee, HealthTest, Healthcheck, ImageRef, Limits, Mode,
    Protocol, PublishMode, PublishedPort, Reservation, RestartPolicy, ServiceSpec, StopSignal,
    Template,
};
use mesh_coordinator::time::WallTime;
use mesh_ports::control::{Control, SubmitError, Submitted};
use mesh_ports::network::Backend;
use mesh_ports::runtime::Found;
use mesh_ports::{gossip, peer, runtime};
use mesh_store::MemStore;
use mesh_telemetry::{Refusals, Tasks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fakes::{
    Fake, FakeBlobs, FakeGossip, FakeImages, FakeLeaseClock, FakePeers, FakePublisher,
    FakeRegisters, FakeRuntime, FakeStore, Give, Log,
};
use crate::directory::Live;
use crate::{Clock, Config, Handle, Inboxes, Parts};

/// The manifest of the one image, and its layers.
pub(super) const IMAGE: &str = "sha256:manifest";
pub(super) const LAYERS: [&str; 2] = ["sha256:layer1", "sha256:layer2"];

/// Writes records.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) key: PublicKey,
    pub(super) mesh: MeshId,
    n_entries: u64,
}

impl Author {
    /// The founder of a mesh, and the record of its birth.
    fn new() -> (Self, Entry) {
        let key = PublicKey([1; 32]);
        let mut author = Self { key, mesh: MeshId(Hash([0; 32])), n_entries: 0 };
        let genesis = author.write(Body::Genesis(Genesis {
            name: "bench".parse().unwrap(),
            root: key,
            root_name: "root".parse().unwrap(),
            recovery: PublicKey([5; 32]),
            nonce: [0; 16],
        }));
        author.mesh = MeshId(genesis.hash);
        (author, genesis)
    }

    /// A record that comes after all that were written before.
    pub(super) fn write(&mut self, body: Body) -> Entry {
        self.n_entries += 1;
        let generation = self.n_entries;
        let signed = SignedBytes {
            bytes: [&self.key.0[..], &generation.to_be_bytes()].concat(),
            signature: Signature([0; 64]),
        };
        let stamp = Stamp { generation, written: WallTime(generation), tie: 0 };
        let (mesh, author) = (self.mesh, self.key);
        let record = Record { mesh, stamp, parent: None, author, body };
        let hash = signed.digest();
        Entry { record, signed, hash, invitation_verified: false }
    }

    pub(super) fn member(&mut self, key: PublicKey, name: &str) -> Entry {
        let name = name.parse().unwrap();
        self.write(Body::Member(Member { key, name, invitation: None, invited: None }))
    }

    /// A release of the app `web` with one service, `www`, of which `n_removals` lives were removed before.
    pub(super) fn release(&mut self, n_removals: u64, service: ServiceSpec) -> Entry {
        let app = self.app(n_removals);
        let services = BTreeMap::from([("www".parse().unwrap(), service)]);
        let spec = AppSpec { name: "web".parse().unwrap(), services };
        self.write(Body::App(Release { app, version: 3, spec, roster: BTreeSet::new() }))
    }

    pub(super) fn app(&self, n_removals: u64) -> AppUid {
        AppUid::of(self.mesh, &"web".parse().unwrap(), n_removals)
    }

    pub(super) fn remove(&mut self, n_removals: u64) -> Entry {
        let app = self.app(n_removals);
        self.write(Body::AppRemoval { app, name: "web".parse().unwrap() })
    }

    pub(super) fn slot(&self, n_removals: u64) -> SlotId {
        SlotId {
            app: self.app(n_removals),
            service: "www".parse().unwrap(),
            index: SlotIndex::Number(0),
        }
    }
}

/// One replica of a service that publishes port 80 of its container as 8080.
pub(super) fn service(number: u64) -> ServiceSpec {
    ServiceSpec {
        template: Template {
            image: ImageRef { name: "hello".to_owned(), digest: IMAGE.to_owned() },
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
        revision: revision(number),
        guarantee: Guarantee::Available,
        deploy: Deploy {
            mode: Mode::Replicated(1),
            constraints: Vec::new(),
            spread: Vec::new(),
            replicas_per_node_max: None,
            reservation: Reservation { cpu: Cpu { millis: 100 }, memory: Bytes(1 << 20) },
        },
        ports: vec![PublishedPort {
            published: 8080,
            target: 80,
            protocol: Protocol::Tcp,
            mode: PublishMode::Mesh,
        }],
    }
}

pub(super) const fn revision(number: u64) -> Revision {
    Revision { number, id: number * 1_000 }
}

/// A check that runs `program`.
pub(super) fn check(program: &str) -> Healthcheck {
    Healthcheck {
        test: HealthTest::Exec(vec![program.to_owned()]),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        retries: 2,
        start_period: Duration::ZERO,
        start_interval: Duration::from_secs(1),
    }
}

/// What a bench is made from.
pub(super) struct Plan {
    pub(super) author: Author,
    pub(super) records: Vec<Entry>,
    pub(super) found: Vec<Found>,
    pub(super) me: PublicKey,
    pub(super) doubtful: bool,
}

impl Plan {
    /// A mesh of one node.
    pub(super) fn new() -> Self {
        let (mut author, genesis) = Author::new();
        let me = PublicKey([2; 32]);
        let member = author.member(me, "alpha");
        Self { author, records: vec![genesis, member], found: Vec::new(), me, doubtful: false }
    }

    /// And another member.
    pub(super) fn with_peer(mut self) -> (Self, NodeId) {
        let key = PublicKey([3; 32]);
        let member = self.author.member(key, "beta");
        self.records.push(member);
        (self, NodeId::of(&key))
    }

    pub(super) fn start(self) -> Bench {
        let log = Log::default();
        let tasks = Tasks::new("bench");
        let me = NodeId::of(&self.me);
        let mut catalogue = Catalogue::new(self.author.mesh);
        catalogue.extend(self.records.clone());
        let directory = Arc::new(Live::new(self.author.mesh, me, catalogue.state()));
        let parts = parts(&log, &tasks, directory, self.found);
        let capacity = Reservation { cpu: Cpu { millis: 4_000 }, memory: Bytes(1 << 30) };
        let facts = NodeFacts {
            name: "alpha".parse().unwrap(),
            capacity,
            version: "0".to_owned(),
            restarting: false,
            clock_off_ms: 0,
            store: Some(StoreId(1)),
            witness_only: false,
            has_twin: false,
        };
        let node = node::Config {
            mesh: self.author.mesh,
            me,
            incarnation: Incarnation(1),
            facts,
            seed: 1,
            store: StoreId(1),
            boot: BootId(1),
        };
        let (ended, runtime) = mpsc::channel(8);
        let (gossip, gossip_inbox) = mpsc::channel(64);
        let (peers, peers_inbox) = mpsc::channel(64);
        let inboxes = Inboxes { runtime, gossip: gossip_inbox, peers: peers_inbox };
        let (records, doubtful) = (self.records, self.doubtful);
        let news = if doubtful { vec!["the store was damaged".to_owned()] } else { Vec::new() };
        let (clock, registers) = (Clock::new(0), Vec::new());
        let config = Config { node, records, registers, clock, doubtful, news };
        let handle = crate::start(config, copy(&parts), inboxes, &tasks);
        Bench { me, author: self.author, log, tasks, handle, parts, ended, gossip, peers }
    }
}

fn parts(log: &Log, tasks: &Tasks, directory: Arc<Live>, found: Vec<Found>) -> Parts<Fake> {
    let whole = || VecDeque::from([Give::Whole]);
    let names = [IMAGE].into_iter().chain(LAYERS);
    Parts {
        runtime: Arc::new(FakeRuntime {
            log: log.clone(),
            starts: Mutex::default(),
            found: Mutex::new(found),
            started: Mutex::default(),
            healthy: AtomicBool::new(true),
            stops_in: Mutex::default(),
            survive: AtomicBool::new(false),
        }),
        images: Arc::new(FakeImages {
            log: log.clone(),
            layers: BTreeMap::from([(IMAGE.to_owned(), LAYERS.map(str::to_owned).to_vec())]),
            here: Mutex::new(BTreeSet::new()),
            rotten: Mutex::default(),
            damaged: Mutex::default(),
            unusable: Mutex::default(),
        }),
        blobs: Arc::new(FakeBlobs {
            log: log.clone(),
            tasks: tasks.clone(),
            peers: Mutex::new(names.map(|name| (name.to_owned(), whole())).collect()),
        }),
        gossip: Arc::new(FakeGossip(log.clone())),
        peers: Arc::new(FakePeers { log: log.clone(), sent: Mutex::default() }),
        store: Arc::new(FakeStore {
            log: log.clone(),
            memory: MemStore::new(),
            gate: tokio::sync::Mutex::default(),
            broken: AtomicBool::new(false),
        }),
        registers: Arc::new(FakeRegisters),
        lease_clock: Arc::new(FakeLeaseClock(tokio::time::Instant::now())),
        publisher: Arc::new(FakePublisher { log: log.clone(), routes: Mutex::default() }),
        directory,
        refusals: Refusals::new(),
    }
}

fn copy(parts: &Parts<Fake>) -> Parts<Fake> {
    Parts {
        runtime: Arc::clone(&parts.runtime),
        images: Arc::clone(&parts.images),
        blobs: Arc::clone(&parts.blobs),
        gossip: Arc::clone(&parts.gossip),
        peers: Arc::clone(&parts.peers),
        store: Arc::clone(&parts.store),
        registers: Arc::clone(&parts.registers),
        lease_clock: Arc::clone(&parts.lease_clock),
        publisher: Arc::clone(&parts.publisher),
        directory: Arc::clone(&parts.directory),
        refusals: parts.refusals.clone(),
    }
}

/// A running engine and all that is around it.
pub(super) struct Bench {
    pub(super) me: NodeId,
    pub(super) author: Author,
    pub(super) log: Log,
    pub(super) tasks: Tasks,
    pub(super) handle: Handle,
    pub(super) parts: Parts<Fake>,
    pub(super) ended: mpsc::Sender<runtime::Event>,
    pub(super) gossip: mpsc::Sender<gossip::Event>,
    pub(super) peers: mpsc::Sender<peer::Event>,
}

impl Bench {
    /// Waits, in virtual time, until something that begins like this was done `n` times.
    pub(super) async fn done(&self, beginning: &str, n: usize) {
        self.until(beginning, || self.log.count(beginning) >= n).await;
    }

    /// Waits, in virtual time, for a condition; ten minutes at the most.
    pub(super) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..60_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} does not come: {:#?}", self.log.all());
    }

    pub(super) fn submit(
        &self,
        entry: Entry,
    ) -> impl Future<Output = Result<Submitted, SubmitError>> + use<> {
        let handle = self.handle.clone();
        async move { handle.submit(vec![entry]).await }
    }

    /// Places the app `web`, and waits until its replica was claimed to be ready.
    pub(super) async fn place(&mut self, service: ServiceSpec) {
        let n_ready = self.log.count("claim Ready");
        let release = self.author.release(0, service);
        self.submit(release).await.unwrap();
        self.done("claim Ready", n_ready + 1).await;
    }

    /// The backends of the one route.
    pub(super) fn backends(&self) -> Vec<Backend> {
        let routes = self.parts.publisher.routes.lock().unwrap();
        routes.first().map(|(_, backends)| backends.clone()).unwrap_or_default()
    }

    /// Heartbeats of `node` from now on, until the token is cancelled.
    pub(super) fn keep_hearing(&self, node: NodeId) -> CancellationToken {
        let (silence, peers) = (CancellationToken::new(), self.peers.clone());
        let silent = silence.clone();
        self.tasks.spawn("heartbeats", async move {
            let heard = peer::Event::Heard { node, incarnation: Incarnation(1), wall: None };
            while !silent.is_cancelled() && peers.send(heard.clone()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        silence
    }

    /// What the bench was asked to start last.
    pub(super) fn last_started(&self) -> runtime::Container {
        self.parts.runtime.started.lock().unwrap().last().cloned().unwrap()
    }

    /// Stops the engine, and checks that it leaves nothing behind.
    pub(super) async fn stop(self) {
        assert_eq!(self.tasks.stop(Duration::from_secs(5)).await, 0);
    }
}

/// What `future` says without any time passing; `None` when it waits for something. For moments at which a commit is held up,
/// since virtual time stands still then.
pub(super) async fn at_once<F: Future + Unpin>(future: F) -> Option<F::Output> {
    let yields = async {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        output = future => Some(output),
        () = yields => None,
    }
}
