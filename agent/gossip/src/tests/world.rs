//! A small world for tests: members with fake keys, a network that can be cut, and what an engine would have heard.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_coordinator::fact::{Fact, FactKey, NodeFacts, Suspicion, Vote};
use mesh_coordinator::id::{Hash, Incarnation, MeshId, NodeId, PublicKey};
use mesh_coordinator::spec::Reservation;
use mesh_ports::directory::{Directory, Peer, Sealer, Standing};
use mesh_ports::gossip::{Event, Events, FactCodec, Gossip as _};
use mesh_telemetry::{Refusals, Tasks};

use crate::{AddressBook, Config, Handle, Medium, Ports, start};

/// How long a condition may take. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const MESH: MeshId = MeshId(Hash([9; 32]));

pub(crate) fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

pub(crate) fn node(n: u8) -> NodeId {
    NodeId::of(&key(n))
}

/// A fact under a key of its own for each `index`; `seq` tells its versions apart.
pub(crate) fn vote(index: u32, seq: u64) -> Fact {
    let mut accused = [0; 32];
    accused[..4].copy_from_slice(&index.to_be_bytes());
    Fact::Vote(Vote {
        node: NodeId::of(&PublicKey(accused)),
        incarnation: Incarnation(seq),
        suspicion: Suspicion::Silent,
    })
}

/// What the n-th node says of itself when it begins, as every agent does: it proves its life.
fn presence(n: u8) -> Fact {
    Fact::Node(NodeFacts {
        name: format!("node{n}").parse().unwrap(),
        capacity: Reservation::default(),
        version: "1".to_owned(),
        restarting: false,
        clock_off_ms: 0,
        store: None,
        witness_only: false,
        has_twin: false,
    })
}

/// What all nodes of a test share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) members: Mutex<BTreeMap<NodeId, Peer>>,
    /// Nodes whose datagrams do not arrive at the other side, nor the other way round.
    pub(crate) island: Mutex<BTreeSet<PublicKey>>,
    /// Everything that was sealed, with sender and recipient.
    pub(crate) wire: Mutex<Vec<(PublicKey, PublicKey, Vec<u8>)>>,
    facts: Mutex<Vec<Fact>>,
    lives: AtomicU64,
    /// How often the disk will fail to store an incarnation.
    pub(crate) n_disk_faults: AtomicU64,
}

impl World {
    pub(crate) fn of(members: &[u8]) -> Arc<Self> {
        let world = Arc::new(Self::default());
        for n in members {
            world.admit(*n, String::new());
        }
        world
    }

    pub(crate) fn admit(&self, n: u8, gossip: String) {
        let name = format!("node-{n}").parse().unwrap();
        let peer = Peer { node: node(n), key: key(n), name, api: Vec::new(), gossip };
        self.members.lock().unwrap().insert(node(n), peer);
    }

    pub(crate) fn remove(&self, n: u8) {
        self.members.lock().unwrap().remove(&node(n));
    }

    pub(crate) fn cut_off(&self, island: &[u8]) {
        *self.island.lock().unwrap() = island.iter().map(|n| key(*n)).collect();
    }

    fn fact(&self, index: usize) -> Option<Fact> {
        self.facts.lock().unwrap().get(index).cloned()
    }

    pub(crate) fn next_life(&self) -> Incarnation {
        Incarnation(1_000 + self.lives.fetch_add(1, Ordering::SeqCst))
    }
}

/// The world as one member sees it. The secret is what makes a seal its own.
pub(crate) struct Eyes {
    pub(crate) world: Arc<World>,
    pub(crate) me: PublicKey,
    pub(crate) secret: u8,
}

impl Eyes {
    pub(crate) fn new(world: &Arc<World>, n: u8) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), me: key(n), secret: 0 })
    }
}

impl Directory for Eyes {
    fn mesh(&self) -> MeshId {
        MESH
    }
    fn peers(&self) -> Arc<Vec<Peer>> {
        let members = self.world.members.lock().unwrap();
        Arc::new(members.values().filter(|peer| peer.key != self.me).cloned().collect())
    }
    fn peer(&self, node: NodeId) -> Option<Peer> {
        self.world.members.lock().unwrap().get(&node).cloned()
    }
    fn standing(&self, key: &PublicKey) -> Standing {
        let node = NodeId::of(key);
        self.peer(node).map_or(Standing::Unknown, |_| Standing::Member(node))
    }
}

/// The mark of a pair: the same in both directions, as with a real box.
fn mark((a, b): (&PublicKey, &PublicKey), secret: u8, plain: &[u8]) -> [u8; 32] {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    Hash::of(&[&low.0, &high.0, &[secret], plain]).0
}

impl Sealer for Eyes {
    fn seal(&self, to: &PublicKey, plain: &[u8]) -> Vec<u8> {
        let mut sealed = mark((&self.me, to), self.secret, plain).to_vec();
        sealed.extend_from_slice(plain);
        let mut wire = self.world.wire.lock().unwrap();
        if wire.len() < 10_000 {
            wire.push((self.me, *to, sealed.clone()));
        }
        sealed
    }
    fn open(&self, from: &PublicKey, sealed: &[u8]) -> Option<Vec<u8>> {
        let island = self.world.island.lock().unwrap();
        let apart = island.contains(from) != island.contains(&self.me);
        let (found, plain) = sealed.split_first_chunk::<32>()?;
        (!apart && *found == mark((&self.me, from), 0, plain)).then(|| plain.to_vec())
    }
}

impl FactCodec for Eyes {
    /// Author, life, where the fact is kept, and noise that does not compress.
    fn seal(&self, incarnation: Incarnation, fact: &Fact) -> String {
        let mut facts = self.world.facts.lock().unwrap();
        facts.push(fact.clone());
        let index = facts.len() - 1;
        let noise: String =
            (0..4_u8).map(|n| Hash::of(&[&[n], &index.to_be_bytes()]).to_string()).collect();
        format!("{} {incarnation} {index} {noise}", NodeId::of(&self.me))
    }
    fn open(&self, node: &Peer, incarnation: Incarnation, sealed: &str) -> Result<Fact, String> {
        let words: Vec<&str> = sealed.split(' ').collect();
        let [author, life, index, _] = words[..] else { return Err("no four words".to_owned()) };
        if author != node.node.to_string() || life != incarnation.to_string() {
            return Err("signed by somebody else".to_owned());
        }
        let index: usize = index.parse().map_err(|_error| "no index".to_owned())?;
        self.world.fact(index).ok_or_else(|| "no fact".to_owned())
    }
}

/// A book in memory, which survives the agent.
#[derive(Default)]
pub(crate) struct Book(pub(crate) Mutex<Vec<(NodeId, SocketAddr)>>);

impl AddressBook for Book {
    fn load(&self) -> Vec<(NodeId, SocketAddr)> {
        self.0.lock().unwrap().clone()
    }
    fn save(&self, book: &[(NodeId, SocketAddr)]) {
        *self.0.lock().unwrap() = book.to_vec();
    }
}

/// What an engine believes of one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Belief {
    pub(crate) life: Incarnation,
    pub(crate) up: bool,
    pub(crate) facts: BTreeMap<FactKey, Fact>,
}

/// One agent's gossip, and what its engine heard.
pub(crate) struct Agent {
    pub(crate) handle: Handle,
    pub(crate) n: u8,
    pub(crate) beliefs: BTreeMap<NodeId, Belief>,
    pub(crate) log: Vec<Event>,
    pub(crate) book: Arc<Book>,
    pub(crate) refusals: Refusals,
    events: Events,
    tasks: Tasks,
}

/// Fast settings for tests.
pub(crate) fn config(world: &World, n: u8) -> Config {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        node: node(n),
        incarnation: world.next_life(),
        bind: loopback,
        advertise: loopback,
        interval: Duration::from_millis(40),
        grace: Duration::from_secs(900),
        contact_interval: Duration::from_millis(300),
        medium: Medium::Udp,
    }
}

pub(crate) fn ports(world: &Arc<World>, n: u8, book: &Arc<Book>) -> Ports {
    let lives = Arc::clone(world);
    Ports {
        directory: Eyes::new(world, n),
        sealer: Eyes::new(world, n),
        facts: Eyes::new(world, n),
        book: Arc::<Book>::clone(book),
        next_incarnation: Arc::new(move || {
            let left = &lives.n_disk_faults;
            let faulty = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if faulty.is_ok() { Err(ErrorKind::StorageFull.into()) } else { Ok(lives.next_life()) }
        }),
        resolve: Arc::new(|name| {
            Box::pin(async move {
                let port = name.strip_prefix("peer.test:").and_then(|port| port.parse().ok());
                port.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port))).into_iter().collect()
            })
        }),
        refusals: Refusals::new(),
    }
}

impl Agent {
    pub(crate) async fn start(world: &Arc<World>, n: u8) -> Self {
        Self::start_with(world, config(world, n), Arc::default(), n).await
    }

    pub(crate) async fn start_with(
        world: &Arc<World>,
        config: Config,
        book: Arc<Book>,
        n: u8,
    ) -> Self {
        let tasks = Tasks::new("gossip");
        let ports = ports(world, n, &book);
        let refusals = ports.refusals.clone();
        let (handle, events) = start(config, ports, &tasks).await.unwrap();
        handle.publish(presence(n)).await;
        let (beliefs, log) = (BTreeMap::new(), Vec::new());
        Self { handle, n, beliefs, log, book, refusals, events, tasks }
    }

    /// Starts all of `members`, each told where the former ones are.
    pub(crate) async fn start_all(world: &Arc<World>, members: &[u8]) -> Vec<Self> {
        let mut agents = Vec::new();
        for n in members {
            let agent = Self::start(world, *n).await;
            world.admit(*n, agent.handle.local_address().to_string());
            agents.push(agent);
        }
        agents
    }

    pub(crate) async fn stop(self) -> Arc<Book> {
        assert_eq!(self.tasks.stop(Duration::from_secs(5)).await, 0);
        Arc::clone(&self.book)
    }

    /// Whether a task ended that must not.
    pub(crate) fn has_stopped(&self) -> bool {
        self.tasks.stopping().is_cancelled()
    }

    /// Waits, without listening, until no more events fit the channel.
    pub(crate) async fn until_full(&self) {
        let full = async {
            while self.events.len() < self.events.max_capacity() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, full).await.expect("the channel fills");
    }

    fn hear(&mut self, event: Event) {
        assert_ne!(author(&event), Some(node(self.n)), "nobody hears of itself: {event:?}");
        self.log.push(event.clone());
        match event {
            Event::Up { node, incarnation } => {
                let belief = self.beliefs.entry(node).or_default();
                assert!(belief.life <= incarnation, "lives only rise");
                (belief.life, belief.up) = (incarnation, true);
            }
            Event::Down { node, incarnation } => {
                let belief = self.beliefs.get_mut(&node).unwrap();
                assert!(belief.up && belief.life == incarnation, "down follows up");
                belief.up = false;
            }
            Event::Published { node, incarnation, fact } => {
                let belief = self.beliefs.get_mut(&node).expect("up precedes facts");
                assert!(belief.up && belief.life == incarnation, "facts are of the living");
                belief.facts.insert(fact.key(), fact);
            }
            Event::Withdrawn { node, key, .. } => {
                let known = self.beliefs.get_mut(&node).unwrap().facts.remove(&key);
                assert!(known.is_some(), "only what was published is withdrawn");
            }
            Event::Twin { .. } => {}
        }
    }

    /// Waits until `holds` of what this agent's engine believes.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        while !holds(self) {
            tokio::select! {
                event = self.events.recv() => self.hear(event.expect("gossip runs")),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                () = &mut patience => panic!(
                    "node {} waited in vain for {what}: {:?}, {:?}",
                    self.n, self.beliefs, self.log.iter().rev().take(12).collect::<Vec<_>>(),
                ),
            }
        }
    }

    pub(crate) fn sees(&self, n: u8) -> bool {
        self.beliefs.get(&node(n)).is_some_and(|belief| belief.up)
    }

    /// What `n` published, but for its presence.
    pub(crate) fn facts(&self, n: u8) -> Vec<Fact> {
        let facts = self.beliefs.get(&node(n)).into_iter().flat_map(|belief| belief.facts.values());
        facts.filter(|fact| !matches!(fact, Fact::Node(_))).cloned().collect()
    }

    pub(crate) fn life(&self, n: u8) -> Incarnation {
        self.beliefs.get(&node(n)).map(|belief| belief.life).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.stopping().cancel();
    }
}

fn author(event: &Event) -> Option<NodeId> {
    match event {
        Event::Twin { .. } => None,
        Event::Up { node, .. }
        | Event::Down { node, .. }
        | Event::Published { node, .. }
        | Event::Withdrawn { node, .. } => Some(*node),
    }
}

/// Waits until all of `agents` see each other.
pub(crate) async fn until_all_meet(agents: &mut [Agent]) {
    let members: Vec<u8> = agents.iter().map(|agent| agent.n).collect();
    for agent in agents {
        let others: Vec<u8> = members.iter().copied().filter(|n| *n != agent.n).collect();
        agent.until("everybody", |agent| others.iter().all(|n| agent.sees(*n))).await;
    }
}
