//! A world in memory that writes down what is done to it, in one list, so that tests see the order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_coordinator::lease::exclusive::{BootId, Fence, LeaseId, Register};
use mesh_coordinator::message::Message;
use mesh_coordinator::spec::{HealthTest, Reservation, StopSignal};
use mesh_coordinator::time::{Reading, WallTime};
use mesh_ports::clock::LeaseClock;
use mesh_ports::gossip::{Counters, Gossip};
use mesh_ports::network::{Backend, Publisher, Route};
use mesh_ports::peer::{Blobs, FetchError, Peers};
use mesh_ports::runtime::{
    Container, ContainerError, ContainerId, Exec, ExecStreams, Found, Health, Image, ImageError,
    Images, LogLine, LogQuery, Running, Runtime, StartError, Usage,
};
use mesh_ports::store::{Change, Pairs, RegisterCodec, Store, StoreError, Table};
use mesh_store::MemStore;
use tokio::sync::mpsc;

use crate::World;

/// What was done, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// How often something that begins like this was done.
    pub(super) fn count(&self, beginning: &str) -> usize {
        self.all().iter().filter(|what| what.starts_with(beginning)).count()
    }

    /// Whether these were done, the first time in this order.
    pub(super) fn is_ordered(&self, beginnings: &[&str]) -> bool {
        let all = self.all();
        let first = |beginning: &&str| all.iter().position(|what| what.starts_with(*beginning));
        let places: Vec<Option<usize>> = beginnings.iter().map(first).collect();
        places.iter().all(Option::is_some) && places.is_sorted()
    }
}

/// The engine's world in tests.
#[derive(Debug)]
pub(super) struct Fake;

impl World for Fake {
    type Runtime = FakeRuntime;
    type Images = FakeImages;
    type Blobs = FakeBlobs;
    type Gossip = FakeGossip;
    type Peers = FakePeers;
    type Store = FakeStore;
    type Registers = FakeRegisters;
    type LeaseClock = FakeLeaseClock;
    type Publisher = FakePublisher;
}

/// Registers that nobody reads again.
#[derive(Debug)]
pub(super) struct FakeRegisters;

impl RegisterCodec for FakeRegisters {
    fn encode(&self, lease: &LeaseId, register: &Register) -> (Vec<u8>, Vec<u8>) {
        (format!("{lease:?}").into_bytes(), format!("{register:?}").into_bytes())
    }

    fn decode(&self, _key: &[u8], _value: &[u8]) -> Result<(LeaseId, Register), String> {
        Err("nobody reads it again".to_owned())
    }
}

/// Lease clocks that go as tokio's does.
#[derive(Debug)]
pub(super) struct FakeLeaseClock(pub(super) tokio::time::Instant);

impl LeaseClock for FakeLeaseClock {
    fn reading(&self) -> Reading {
        Reading::new(self.0.elapsed(), self.0.elapsed())
    }

    fn boot(&self) -> BootId {
        BootId(1)
    }
}

/// How a start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Never ends.
    Hangs,
    /// Fails now.
    Fails,
    /// The driver breaks down.
    Panics,
}

#[derive(Debug)]
pub(super) struct FakeRuntime {
    pub(super) log: Log,
    /// How the next starts go; well when there are none left.
    pub(super) starts: Mutex<VecDeque<Start>>,
    pub(super) found: Mutex<Vec<Found>>,
    pub(super) started: Mutex<Vec<Container>>,
    pub(super) healthy: AtomicBool,
    /// How long containers take to stop.
    pub(super) stops_in: Mutex<Duration>,
    /// Whether they survive every kill.
    pub(super) survive: AtomicBool,
}

impl Runtime for FakeRuntime {
    fn capacity(&self) -> Reservation {
        Reservation::default()
    }

    async fn list(&self) -> Vec<Found> {
        self.log.note("list");
        self.found.lock().unwrap().clone()
    }

    async fn start(&self, container: &Container) -> Result<Running, StartError> {
        let script = self.starts.lock().unwrap().pop_front();
        self.log.note(format!("start {} {script:?}", container.id));
        match script {
            Some(Start::Hangs) => std::future::pending().await,
            Some(Start::Fails) => Err(StartError::Host {
                attempt: "make a network namespace".to_owned(),
                source: "no room".into(),
            }),
            Some(Start::Panics) => panic!("the driver broke down, as the test wants"),
            None => {
                let mut started = self.started.lock().unwrap();
                started.push(container.clone());
                let last = u8::try_from(started.len()).unwrap();
                Ok(Running { pid: 1, address: Ipv4Addr::new(10, 0, 0, last), started: WallTime(0) })
            }
        }
    }

    async fn extend(&self, id: &ContainerId, fence: Fence) -> Result<(), ContainerError> {
        self.log.note(format!("extend {id} {}", fence.token));
        Ok(())
    }

    async fn stop(
        &self,
        id: &ContainerId,
        signal: StopSignal,
        grace: Duration,
    ) -> Result<(), ContainerError> {
        self.log.note(format!("stop {id} {} {grace:?}", signal.number()));
        let stops_in = *self.stops_in.lock().unwrap();
        tokio::time::sleep(stops_in).await;
        if self.survive.load(Ordering::SeqCst) {
            let [left, network] =
                ["process 5 (db) in state D", "its network is cut"].map(str::to_owned);
            return Err(ContainerError::Stuck { id: id.clone(), left, network });
        }
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        self.log.note(format!("remove {id}"));
        Ok(())
    }

    async fn probe(&self, id: &ContainerId, test: &HealthTest, _: Duration) -> Health {
        self.log.note(format!("probe {id} {test:?}"));
        if self.healthy.load(Ordering::SeqCst) {
            Health::Passed
        } else {
            Health::Failed("exit code 1: refused".to_owned())
        }
    }

    async fn exec(&self, id: &ContainerId, _: Exec) -> Result<ExecStreams, ContainerError> {
        Err(ContainerError::NotRunning(id.clone()))
    }

    async fn logs(
        &self,
        id: &ContainerId,
        _: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, ContainerError> {
        Err(ContainerError::Unknown(id.clone()))
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage, ContainerError> {
        Err(ContainerError::Unknown(id.clone()))
    }
}

/// Images whose manifests have no form: which blobs belong to an image is told beforehand. A whole blob consists of its name.
#[derive(Debug)]
pub(super) struct FakeImages {
    pub(super) log: Log,
    /// The layers of each image, by the digest of its manifest.
    pub(super) layers: BTreeMap<String, Vec<String>>,
    pub(super) here: Mutex<BTreeSet<String>>,
    /// Blobs that are here, and that unpacking finds damaged.
    pub(super) rotten: Mutex<BTreeSet<String>>,
    /// Found rotten, and not told yet.
    pub(super) damaged: Mutex<Vec<String>>,
    /// Images that this host cannot use at all.
    pub(super) unusable: Mutex<BTreeSet<String>>,
}

impl Images for FakeImages {
    async fn images(&self) -> Vec<Image> {
        Vec::new()
    }

    async fn missing(&self, digest: &str) -> Result<Vec<String>, ImageError> {
        if self.unusable.lock().unwrap().contains(digest) {
            return Err(ImageError::Invalid { reason: "made for another processor".to_owned() });
        }
        let here = self.here.lock().unwrap();
        if !here.contains(digest) {
            return Ok(vec![digest.to_owned()]);
        }
        let layers = self.layers.get(digest).into_iter().flatten();
        Ok(layers.filter(|layer| !here.contains(*layer)).cloned().collect())
    }

    async fn import(&self, _: mpsc::Receiver<Bytes>) -> Result<Vec<Image>, ImageError> {
        Ok(Vec::new())
    }

    async fn put_blob(
        &self,
        digest: &str,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), ImageError> {
        let mut content = Vec::new();
        while let Some(piece) = pieces.recv().await {
            content.extend_from_slice(&piece);
        }
        if content != digest.as_bytes() {
            self.log.note(format!("refuse {digest}"));
            let found = String::from_utf8_lossy(&content).into_owned();
            return Err(ImageError::Digest { expected: digest.to_owned(), found });
        }
        self.log.note(format!("keep {digest}"));
        self.here.lock().unwrap().insert(digest.to_owned());
        Ok(())
    }

    async fn read_blob(&self, digest: &str) -> Result<mpsc::Receiver<Bytes>, ImageError> {
        Err(ImageError::Missing(digest.to_owned()))
    }

    fn damaged(&self) -> Vec<String> {
        std::mem::take(&mut self.damaged.lock().unwrap())
    }

    async fn unpack(&self, digest: &str) -> Result<(), ImageError> {
        let mut layers = self.layers.get(digest).into_iter().flatten();
        let mut rotten = self.rotten.lock().unwrap();
        if let Some(layer) = layers.find(|layer| rotten.remove(*layer)) {
            self.log.note(format!("damaged {layer}"));
            self.here.lock().unwrap().remove(layer);
            self.damaged.lock().unwrap().push(layer.clone());
            return Err(ImageError::Digest { expected: layer.clone(), found: "rot".to_owned() });
        }
        self.log.note(format!("unpack {digest}"));
        Ok(())
    }
}

/// How a peer gives a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Give {
    Whole,
    /// With other bytes.
    Damaged,
    /// It stops in the middle.
    Half,
    /// Whole, after so many seconds.
    Late(u64),
}

#[derive(Debug)]
pub(super) struct FakeBlobs {
    pub(super) log: Log,
    pub(super) tasks: mesh_telemetry::Tasks,
    /// What peers have, and how they give it each time; the last way stays.
    pub(super) peers: Mutex<BTreeMap<String, VecDeque<Give>>>,
}

impl Blobs for FakeBlobs {
    async fn fetch(
        &self,
        digest: &str,
    ) -> Result<mpsc::Receiver<Result<Bytes, FetchError>>, FetchError> {
        self.log.note(format!("fetch {digest}"));
        let give = {
            let mut peers = self.peers.lock().unwrap();
            let gives = peers.get_mut(digest);
            let gives = gives.ok_or_else(|| FetchError::Nowhere(digest.to_owned()))?;
            if gives.len() > 1 { gives.pop_front().unwrap() } else { gives[0] }
        };
        let (sender, receiver) = mpsc::channel(1);
        let (digest, log) = (digest.to_owned(), self.log.clone());
        self.tasks.spawn("give", async move {
            let (first, second) = digest.as_bytes().split_at(3);
            drop(sender.send(Ok(Bytes::copy_from_slice(first))).await);
            let second = match give {
                Give::Whole => Ok(Bytes::copy_from_slice(second)),
                Give::Damaged => Ok(Bytes::from_static(b"something else")),
                Give::Half => {
                    let node = NodeId::from_bytes([7; 10]);
                    Err(FetchError::Interrupted { node, digest: digest.clone() })
                }
                Give::Late(seconds) => {
                    tokio::select! {
                        () = sender.closed() => return log.note(format!("hung up {digest}")),
                        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
                    }
                    Ok(Bytes::copy_from_slice(second))
                }
            };
            drop(sender.send(second).await);
        });
        Ok(receiver)
    }
}

#[derive(Debug)]
pub(super) struct FakeGossip(pub(super) Log);

impl Gossip for FakeGossip {
    async fn publish(&self, fact: Fact) {
        self.0.note(match fact {
            Fact::Claim(claim) => format!("claim {:?} {}", claim.phase, claim.revision),
            Fact::Root(_) => "root".to_owned(),
            Fact::Node(facts) => format!("node restarting={}", facts.restarting),
            Fact::Vote(vote) => format!("vote {:?}", vote.suspicion),
        });
    }

    async fn withdraw(&self, key: FactKey) {
        self.0.note(match key {
            FactKey::Claim(..) => "withdraw claim",
            FactKey::Root => "withdraw root",
            FactKey::Node => "withdraw node",
            FactKey::Vote(_) => "withdraw vote",
        });
    }

    fn incarnation(&self) -> Incarnation {
        Incarnation(1)
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

#[derive(Debug)]
pub(super) struct FakePeers {
    pub(super) log: Log,
    pub(super) sent: Mutex<Vec<(NodeId, Message)>>,
}

impl Peers for FakePeers {
    fn send(&self, to: NodeId, message: Message) {
        let name = if matches!(message, Message::Records(_)) {
            "send records"
        } else if matches!(message, Message::Stored(_)) {
            "send stored"
        } else {
            "send"
        };
        self.log.note(name);
        self.sent.lock().unwrap().push((to, message));
    }

    fn watch(&self, nodes: BTreeSet<NodeId>) {
        self.log.note(format!("watch {}", nodes.len()));
    }
}

/// The store in memory, whose commits can be held up or break down.
#[derive(Debug)]
pub(super) struct FakeStore {
    pub(super) log: Log,
    pub(super) memory: MemStore,
    /// While somebody holds it, commits wait.
    pub(super) gate: tokio::sync::Mutex<()>,
    pub(super) broken: AtomicBool,
}

impl Store for FakeStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Pairs, StoreError> {
        self.memory.scan(table, prefix)
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        drop(self.gate.blocking_lock());
        assert!(!self.broken.load(Ordering::SeqCst), "the store broke down, as the test wants");
        for change in &changes {
            self.log.note(match change {
                Change::Put(..) => "put",
                Change::Delete(..) => "delete",
            });
        }
        self.memory.commit(changes)
    }

    fn id(&self) -> u128 {
        self.memory.id()
    }

    fn renew(&self) -> Result<u128, StoreError> {
        self.memory.renew()
    }
}

#[derive(Debug)]
pub(super) struct FakePublisher {
    pub(super) log: Log,
    pub(super) routes: Mutex<Vec<(Route, Vec<Backend>)>>,
}

impl Publisher for FakePublisher {
    fn publish(&self, routes: Vec<(Route, Vec<Backend>)>) {
        self.log
            .note(format!("routes {:?}", routes.iter().map(|(_, b)| b.len()).collect::<Vec<_>>()));
        *self.routes.lock().unwrap() = routes;
    }

    fn lost(&self, node: NodeId) {
        self.log.note(format!("lost {node}"));
    }

    fn problems(&self) -> Vec<String> {
        vec!["port 80 is taken".to_owned()]
    }
}
