//! A mesh of servers on loopback, with keys of their own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Entry, Record, Role, Run, Stamp};
use mesh_coordinator::id::{AppUid, Incarnation, NodeId, PublicKey, SlotId, SlotIndex};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{NodeStatus, NodeView, Overview};
use mesh_identity::keys::KeyPair;
use mesh_identity::{record, request, tls};
use mesh_ports::clock::WallClock;
use mesh_ports::directory::{Directory as _, Peer, Standing};
use mesh_ports::peer::Event;
use mesh_telemetry::{Refusals, Tasks};
use tokio::sync::mpsc;

use super::fakes::{
    FakeAdmission, FakeControl, FakeDirectory, FakeImages, FakeRuntime, MESH, SeenBy,
};
use crate::client::{
    Access, AgentAddress, OperatorClient, PeerPool, PoolConfig, PoolPorts, TlsFor,
};
use crate::server::{Bound, Config, Handle, Limits, Parts, Wiring, serve};

#[derive(Debug)]
pub(super) struct Fakes;

impl Wiring for Fakes {
    type Control = FakeControl;
    type Runtime = FakeRuntime;
    type Images = FakeImages;
    type Admission = FakeAdmission;
}

/// The time of the mesh in every test, in milliseconds: a quarter of a century before any clock of whoever runs it.
pub(super) const NOW: u64 = 1_000_000_000_000;
/// What the wall clock of every agent says.
pub(super) const OWN: u64 = NOW + 3_600_000;

struct Clock;

impl WallClock for Clock {
    fn own(&self) -> WallTime {
        WallTime(OWN)
    }

    fn mesh(&self) -> WallTime {
        WallTime(NOW)
    }

    fn logs_off_ms(&self) -> i64 {
        3_600_000
    }
}

/// The pause between heartbeats in tests.
pub(super) const BEAT: Duration = Duration::from_millis(50);

/// One agent.
pub(super) struct Agent {
    pub(super) id: NodeId,
    pub(super) keys: Arc<KeyPair>,
    pub(super) address: SocketAddr,
    pub(super) handle: Handle,
    pub(super) control: Arc<FakeControl>,
    pub(super) runtime: Arc<FakeRuntime>,
    pub(super) images: Arc<FakeImages>,
    pub(super) admission: Arc<FakeAdmission>,
    pub(super) peers: PeerPool,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) refusals: Refusals,
    pub(super) tasks: Tasks,
}

/// All of them, and who is who.
pub(super) struct World {
    pub(super) directory: Arc<FakeDirectory>,
    pub(super) agents: Vec<Agent>,
}

pub(super) fn keys(seed: u8) -> Arc<KeyPair> {
    Arc::new(KeyPair::from_seed(&[seed; 32]))
}

pub(super) fn limits() -> Limits {
    Limits { handshake_timeout: Duration::from_secs(2), ..Limits::default() }
}

pub(super) fn tls_for(keys: &Arc<KeyPair>) -> TlsFor {
    let keys = Arc::clone(keys);
    Arc::new(move |expected| tls::client_config(&keys, *expected).unwrap())
}

impl World {
    pub(super) async fn of(n_agents: u8) -> Self {
        Self::with_limits(n_agents, limits()).await
    }

    pub(super) async fn with_limits(n_agents: u8, limits: Limits) -> Self {
        let mut world = Self { directory: Arc::default(), agents: vec![] };
        for number in 1..=n_agents {
            let agent = start(&world.directory, number, (0, limits.clone())).await;
            world.agents.push(agent);
        }
        for agent in &world.agents {
            *agent.control.overview.lock().unwrap() = Some(world.overview(agent.id));
        }
        world
    }

    /// Starts a stopped agent again, on the same port.
    pub(super) async fn restart(&mut self, place: usize) {
        let port = self.agents[place].address.port();
        let number = u8::try_from(place).unwrap() + 1;
        self.agents[place] = start(&self.directory, number, (port, limits())).await;
    }

    /// A member that nobody runs.
    pub(super) fn ghost(&self, address: &str) -> NodeId {
        let key = keys(200).public();
        let node = NodeId::of(&key);
        let peer = Peer {
            node,
            key,
            name: "ghost".parse().unwrap(),
            api: vec![address.to_owned()],
            gossip: String::new(),
        };
        self.directory.peers.lock().unwrap().insert(node, peer);
        node
    }

    /// Lets an operator in.
    pub(super) fn operator(&self, seed: u8, role: Role) -> Arc<KeyPair> {
        let keys = keys(seed);
        self.directory.operators.lock().unwrap().insert(keys.public(), role);
        keys
    }

    /// An operator's connection to the first agent.
    pub(super) async fn connect(&self, operator: &Arc<KeyPair>) -> OperatorClient {
        let agents = [self.agents[0].as_seen()];
        OperatorClient::connect(&agents, access(operator), Duration::from_secs(5)).await.unwrap()
    }

    fn overview(&self, seen_by: NodeId) -> Overview {
        let nodes = self.agents.iter().map(|agent| NodeView {
            id: agent.id,
            name: "node".parse().unwrap(),
            status: NodeStatus::Alive,
            drained: false,
            labels: BTreeMap::new(),
            weight: 100,
            capacity: None,
            reserved: mesh_coordinator::spec::Reservation::default(),
            n_claims: 0,
            version: None,
            addresses: vec![],
            heard_ago: None,
            store: None,
            witness_only: false,
        });
        Overview {
            mesh: MESH,
            mesh_name: "prod".parse().unwrap(),
            seen_by,
            nodes: nodes.collect(),
            apps: vec![],
            parked: vec![],
            leaving: vec![],
            removals: BTreeMap::new(),
            problems: vec!["none".to_owned()],
        }
    }
}

pub(super) fn access(operator: &Arc<KeyPair>) -> Access {
    Access {
        mesh: MESH,
        tls_for: tls_for(operator),
        signer: Arc::new(KeyPair::from_seed(&operator.seed())),
    }
}

impl Agent {
    pub(super) fn as_seen(&self) -> AgentAddress {
        AgentAddress { key: self.keys.public(), address: self.address.to_string() }
    }

    /// The next event that `wanted` says yes to, within a bound.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let waiting = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the event comes")
    }

    pub(super) async fn stop(&self) {
        self.tasks.stop(Duration::from_secs(5)).await;
    }
}

async fn start(directory: &Arc<FakeDirectory>, number: u8, how: (u16, Limits)) -> Agent {
    let (port, limits) = how;
    let keys = keys(number);
    let id = NodeId::of(&keys.public());
    let (tasks, refusals) = (Tasks::new("test"), Refusals::new());
    let (events, received) = mpsc::channel(1000);
    let seen: Arc<SeenBy> = Arc::new(SeenBy(id, Arc::clone(directory)));
    let ports = PoolPorts {
        directory: Arc::<SeenBy>::clone(&seen),
        records: Arc::new(record::Codec),
        tls_for: tls_for(&keys),
        refusals: refusals.clone(),
    };
    let config =
        PoolConfig { message_age_max: Duration::from_secs(2), ..PoolConfig::for_heartbeat(BEAT) };
    let peers = PeerPool::new(config, ports, events.clone(), tasks.clone());
    let (control, runtime) = (Arc::<FakeControl>::default(), Arc::<FakeRuntime>::default());
    let (images, admission) = (Arc::<FakeImages>::default(), Arc::<FakeAdmission>::default());
    let admitting = Arc::clone(&seen);
    let admit = Arc::new(move |key: &PublicKey| admitting.standing(key) != Standing::Removed);
    let parts = Parts::<Fakes> {
        control: Arc::clone(&control),
        runtime: Arc::clone(&runtime),
        images: Arc::clone(&images),
        admission: Arc::clone(&admission),
        directory: seen,
        records: Arc::new(record::Codec),
        requests: Arc::new(request::Codec),
        peers: peers.clone(),
        events,
        clock: Arc::new(Clock),
        incarnation: Arc::new(move || Incarnation(number.into())),
        refusals: refusals.clone(),
    };
    let config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: tls::server_config(&keys, admit).unwrap(),
        peer_key: tls::peer_key,
        node: id,
        version: "0.1.0-test".to_owned(),
        beat_interval: BEAT,
        limits,
    };
    let Bound { address, handle } = serve(config, parts, &tasks).await.unwrap();
    let peer = Peer {
        node: id,
        key: keys.public(),
        name: format!("node-{number}").parse().unwrap(),
        api: vec![address.to_string()],
        gossip: String::new(),
    };
    directory.peers.lock().unwrap().insert(id, peer);
    Agent {
        id,
        keys,
        address,
        handle,
        control,
        runtime,
        images,
        admission,
        peers,
        events: received,
        refusals,
        tasks,
    }
}

pub(super) fn slot(index: u32) -> SlotId {
    let (app, service) = (AppUid([3; 16]), "web".parse().unwrap());
    SlotId { app, service, index: SlotIndex::Number(index) }
}

/// A small signed record; each number makes another one.
pub(super) fn entry(author: &KeyPair, number: u8) -> Entry {
    let record = Record {
        mesh: MESH,
        stamp: Stamp { generation: 1, written: WallTime(NOW), tie: number.into() },
        parent: None,
        author: author.public(),
        body: Body::Run(Run { app: AppUid([number; 16]), running: true }),
    };
    record::sign(&record, author).unwrap()
}

/// Waits until `condition` holds, within a bound.
pub(super) async fn eventually(condition: impl Fn() -> bool) {
    for _attempt in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition never held");
}
