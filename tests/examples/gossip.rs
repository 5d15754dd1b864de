//! Many agents' gossip in one process: what it costs, how quick a change is everywhere, how soon a newcomer knows everything.
//! `tests/bench gossip` runs it.
//!
//! The engines, containers and stores are left out; keys, seals, signatures and facts are real. The agents talk over sockets of
//! the loopback interface and not over channels, so that what is counted is what a network would carry: sealed packets.
//!
//! `gossip NODES FACTS INTERVAL_MS SECONDS CHANGES`: how many agents, how many claims each publishes, the pause between two
//! rounds, how long the bytes are counted, how many changes are followed. It prints one line of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mesh_coordinator::fact::{Claim, Fact, FactKey, NodeFacts, Phase};
use mesh_coordinator::id::{
    AppUid, Hash, Incarnation, MeshId, NodeId, PublicKey, Revision, SlotId, SlotIndex,
};
use mesh_coordinator::spec::Reservation;
use mesh_gossip::{AddressBook, Config, Handle, Medium, Ports, start};
use mesh_identity::fact::Codec;
use mesh_identity::keys::{KeyPair, NodeIdentity};
use mesh_ports::directory::{Directory, Peer, Signer as _, Standing};
use mesh_ports::gossip::{Event, Events, Gossip as _};
use mesh_telemetry::Tasks;
use serde_json::json;
use tokio::sync::watch;

/// How long anything may take: a hundred agents check a hundred thousand signatures until all know everything.
const PATIENCE: Duration = Duration::from_mins(10);

const MESH: MeshId = MeshId(Hash([7; 32]));

/// Who is a member, the same for all.
#[derive(Debug, Clone, Default)]
struct Members(Arc<Mutex<BTreeMap<NodeId, Peer>>>);

/// The members as one of them sees them.
#[derive(Debug)]
struct Eyes {
    members: Members,
    me: PublicKey,
}

impl Directory for Eyes {
    fn mesh(&self) -> MeshId {
        MESH
    }

    fn peers(&self) -> Arc<Vec<Peer>> {
        let members = self.members.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(members.values().filter(|peer| peer.key != self.me).cloned().collect())
    }

    fn peer(&self, node: NodeId) -> Option<Peer> {
        self.members.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    fn standing(&self, key: &PublicKey) -> Standing {
        let node = NodeId::of(key);
        self.peer(node).map_or(Standing::Unknown, |_| Standing::Member(node))
    }
}

/// Addresses are not kept: nothing here restarts.
#[derive(Debug)]
struct NoBook;

impl AddressBook for NoBook {
    fn load(&self) -> Vec<(NodeId, SocketAddr)> {
        Vec::new()
    }

    fn save(&self, _book: &[(NodeId, SocketAddr)]) {}
}

/// What an agent has heard.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// How many facts of others it knows.
    n_facts: usize,
    /// The newest root that the first agent told.
    root: u64,
}

/// An agent's gossip.
#[derive(Debug)]
struct Agent {
    handle: Handle,
    heard: watch::Receiver<Heard>,
    tasks: Tasks,
}

impl Agent {
    async fn start(
        members: &Members,
        number: usize,
        n_facts: usize,
        interval: Duration,
    ) -> Result<Self> {
        let identity = Arc::new(NodeIdentity::new(KeyPair::generate()?));
        let (key, node) = (identity.key(), identity.node());
        let eyes = || Arc::new(Eyes { members: members.clone(), me: key });
        let name: mesh_coordinator::name::NodeName = format!("n{number}").parse()?;
        let peer = |gossip: String| Peer { node, key, name: name.clone(), api: Vec::new(), gossip };
        members.admit(peer(String::new()));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            node,
            incarnation: Incarnation(1),
            bind: loopback,
            advertise: loopback,
            interval,
            grace: Duration::from_mins(15),
            contact_interval: Duration::from_secs(10),
            medium: Medium::Udp,
        };
        let ports = Ports {
            directory: eyes(),
            sealer: Arc::<NodeIdentity>::clone(&identity),
            facts: Arc::new(Codec::new(identity, MESH)),
            book: Arc::new(NoBook),
            next_incarnation: Arc::new(|| Ok(Incarnation(2))),
            refusals: mesh_telemetry::Refusals::new(),
            resolve: Arc::new(|name| {
                Box::pin(async move { name.parse().ok().into_iter().collect() })
            }),
        };
        let tasks = Tasks::new("gossip");
        let (handle, events) = start(config, ports, &tasks).await?;
        members.admit(peer(handle.local_address().to_string()));
        let (sender, heard) = watch::channel(Heard::default());
        tasks.spawn("listener", listen(events, sender));
        let capacity = Reservation::default();
        let facts = NodeFacts {
            name,
            capacity,
            version: "0.1.0".to_owned(),
            restarting: false,
            clock_off_ms: 0,
            store: None,
            witness_only: false,
            has_twin: false,
        };
        handle.publish(Fact::Node(facts)).await;
        for index in 0..n_facts {
            handle.publish(Fact::Claim(claim(number, index)?)).await;
        }
        Ok(Self { handle, heard, tasks })
    }

    /// Waits until what it heard is enough.
    async fn until(&self, is_enough: impl Fn(&Heard) -> bool) -> Result<()> {
        let mut heard = self.heard.clone();
        let waited = tokio::time::timeout(PATIENCE, heard.wait_for(is_enough)).await;
        waited.with_context(|| {
            format!("an agent heard only this in time: {:?}", *self.heard.borrow())
        })??;
        Ok(())
    }
}

impl Members {
    fn admit(&self, peer: Peer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.node, peer);
    }
}

/// A replica that is ready, as most are.
fn claim(node: usize, index: usize) -> Result<Claim> {
    let number = u64::try_from(node)? << 32 | u64::try_from(index)?;
    let slot = SlotId {
        app: AppUid(u128::from(number).to_be_bytes()),
        service: "web".parse()?,
        index: SlotIndex::Number(u32::try_from(index)?),
    };
    let intent = Claim::intent(slot, Revision { number: 1, id: number }, 0);
    Ok(Claim { phase: Phase::Ready, seq: 1, ..intent })
}

async fn listen(mut events: Events, heard: watch::Sender<Heard>) {
    let mut known: BTreeSet<(NodeId, FactKey)> = BTreeSet::new();
    let mut now = Heard::default();
    while let Some(event) = events.recv().await {
        match event {
            Event::Published { fact: Fact::Root(root), .. } => now.root = now.root.max(root),
            Event::Published { node, fact, .. } => {
                known.insert((node, fact.key()));
            }
            Event::Withdrawn { node, key, .. } => {
                known.remove(&(node, key));
            }
            Event::Up { .. } | Event::Down { .. } | Event::Twin { .. } => {}
        }
        now.n_facts = known.len();
        heard.send_replace(now);
    }
}

/// What is measured, in which mesh.
#[derive(Debug, Clone, Copy)]
struct Plan {
    n_nodes: usize,
    n_facts: usize,
    interval: Duration,
    counted: Duration,
    n_changes: u64,
}

impl Plan {
    fn read() -> Result<Self> {
        let numbers: Result<Vec<u64>, _> =
            std::env::args().skip(1).map(|word| word.parse()).collect();
        let numbers = numbers.context("the arguments are numbers")?;
        let [n_nodes, n_facts, interval, seconds, n_changes] =
            numbers.try_into().map_err(|_other: Vec<u64>| {
                anyhow::anyhow!("usage: gossip NODES FACTS INTERVAL_MS SECONDS CHANGES")
            })?;
        Ok(Self {
            n_nodes: usize::try_from(n_nodes)?,
            n_facts: usize::try_from(n_facts)?,
            interval: Duration::from_millis(interval),
            counted: Duration::from_secs(seconds),
            n_changes,
        })
    }

    /// What an agent knows that knows everything of `n` others: their claims, and what each says of itself.
    const fn all_of(&self, n: usize) -> usize {
        n * (self.n_facts + 1)
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let plan = Plan::read()?;
    ensure!(plan.n_nodes >= 2, "gossip needs two");
    let members = Members::default();
    let mut agents = Vec::new();
    for number in 0..plan.n_nodes {
        agents.push(Agent::start(&members, number, plan.n_facts, plan.interval).await?);
    }
    let all = plan.all_of(plan.n_nodes - 1);
    for agent in &agents {
        agent.until(|heard| heard.n_facts == all).await?;
    }
    let (bytes, packets) = count(&agents, plan.counted).await;
    let changes = follow(&agents, plan.n_changes, plan.interval).await?;
    let begun = Instant::now();
    let newcomer = Agent::start(&members, plan.n_nodes, plan.n_facts, plan.interval).await?;
    newcomer.until(|heard| heard.n_facts == plan.all_of(plan.n_nodes)).await?;
    let knows = begun.elapsed();
    let all = plan.all_of(plan.n_nodes);
    for agent in &agents {
        agent.until(|heard| heard.n_facts == all).await?;
    }
    let known = begun.elapsed();
    let shown = json!({
        "bytes_per_second": bytes,
        "packets_per_second": packets,
        "changes_us": changes.iter().map(|time| micros(*time)).collect::<Vec<_>>(),
        "newcomer_knows_us": micros(knows),
        "newcomer_is_known_us": micros(known),
    });
    writeln!(std::io::stdout(), "{shown}")?;
    agents.push(newcomer);
    for agent in agents {
        agent.tasks.stop(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// What one agent sends in a second, on average, when nothing happens: bytes and packets.
async fn count(agents: &[Agent], time: Duration) -> (f64, f64) {
    let sum = || {
        let counters = agents.iter().map(|agent| agent.handle.counters());
        counters.fold((0, 0), |(bytes, packets), one| {
            (bytes + one.bytes_sent, packets + one.datagrams_sent)
        })
    };
    let (begun, before) = (Instant::now(), sum());
    tokio::time::sleep(time).await;
    let (after, took) = (sum(), begun.elapsed().as_secs_f64());
    let each = |after: u64, before: u64| {
        // Far from where a float would lose a byte.
        let sent = u32::try_from(after - before).unwrap_or(u32::MAX);
        f64::from(sent) / took / f64::from(u32::try_from(agents.len()).unwrap_or(u32::MAX))
    };
    (each(after.0, before.0), each(after.1, before.1))
}

/// Lets the first agent say something new, and waits until the last one knows; how long that took, each time.
async fn follow(agents: &[Agent], n: u64, interval: Duration) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let (first, others) = agents.split_first().context("nobody is there")?;
    for root in 1..=n {
        let begun = Instant::now();
        first.handle.publish(Fact::Root(root)).await;
        for agent in others {
            agent.until(|heard| heard.root >= root).await?;
        }
        times.push(begun.elapsed());
        // Not in step with the rounds.
        tokio::time::sleep(interval.mul_f64(1.37)).await;
    }
    Ok(times)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
