//! The engine's task: inputs in, outputs out, one at a time.

mod carry;
mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::clocks::Finding;
use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::lease::exclusive::{LeaseId, Register};
use mesh_coordinator::lease::together;
use mesh_coordinator::node::{self, Input, Node, Output, Ticket};
use mesh_coordinator::time::Instant;
use mesh_coordinator::workload::Observed;
use mesh_ports::clock::{LeaseClock, WallClock as _};
use mesh_ports::control::{LocalReplica, SubmitError, Submitted};
use mesh_ports::gossip::{self, Gossip};
use mesh_ports::network::{Backend, Publisher, Route};
use mesh_ports::peer::{self, Blobs, Peers};
use mesh_ports::runtime::{self, Ended, Found, Images, Runtime, State};
use mesh_ports::store::{RegisterCodec, Store, StoreError};
use mesh_telemetry::{Refusals, Tasks};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

pub(crate) use self::journal::Journal;
use crate::clock::Clock;
use crate::directory::Live;
use crate::disk::{Disk, Promise, WriteError, Written};
use crate::fetch::Fetcher;
use crate::handle::{Command, Handle};
use crate::replicas::Replicas;
use crate::routes;
use crate::worker::{Report, Tools};

/// Commands that wait: more than a hundred operators at once are told to come again.
const COMMANDS: usize = 128;
/// Submissions under way, each of which may wait some seconds for a second disk: more are told to come again.
const SUBMISSIONS: usize = 256;
/// Reports that wait: starts are limited to a few at a time, ends and probes come as containers do.
const REPORTS: usize = 256;
/// News that wait; more are in the log only.
const NEWS: usize = 32;
/// Without a deadline the task looks at the clock so often.
const IDLE: Duration = Duration::from_secs(10);
/// The pause between two looks at how far this node's wall clock is off.
const JUDGE: Duration = Duration::from_secs(1);

/// What the engine is told once.
#[derive(Debug)]
pub struct Config {
    /// What its coordinator is told.
    pub node: node::Config,
    /// The records of the store.
    pub records: Vec<Entry>,
    /// What this node vouches for as a witness, from the same store.
    pub registers: Vec<(LeaseId, Register)>,
    /// Its clocks.
    pub clock: Clock,
    /// Whether the store may have lost records: what they do not know is no stray before a peer was asked.
    pub doubtful: bool,
    /// What people should know of the start: an event each.
    pub news: Vec<String>,
}

/// The parts of the world that the engine acts on.
#[derive(Debug)]
pub struct Parts<W: World> {
    /// Containers.
    pub runtime: Arc<W::Runtime>,
    /// Images on this node.
    pub images: Arc<W::Images>,
    /// Images elsewhere.
    pub blobs: Arc<W::Blobs>,
    /// Membership and facts.
    pub gossip: Arc<W::Gossip>,
    /// Direct messages.
    pub peers: Arc<W::Peers>,
    /// The disk.
    pub store: Arc<W::Store>,
    /// How registers are written there.
    pub registers: Arc<W::Registers>,
    /// The clocks by which leases end.
    pub lease_clock: Arc<W::LeaseClock>,
    /// Published ports.
    pub publisher: Arc<W::Publisher>,
    /// Who is who; the engine keeps it up to date.
    pub directory: Arc<Live>,
    /// Counts what is refused.
    pub refusals: Refusals,
}

/// Which implementations an engine works with.
pub trait World: Send + Sync + 'static {
    /// Containers.
    type Runtime: Runtime;
    /// Images on this node.
    type Images: Images;
    /// Images elsewhere.
    type Blobs: Blobs;
    /// Membership and facts.
    type Gossip: Gossip;
    /// Direct messages.
    type Peers: Peers;
    /// The disk.
    type Store: Store;
    /// How registers are written there.
    type Registers: RegisterCodec;
    /// The clocks by which leases end.
    type LeaseClock: LeaseClock;
    /// Published ports.
    type Publisher: Publisher;
}

/// Where the world's news arrive.
#[derive(Debug)]
pub struct Inboxes {
    /// Ends of containers.
    pub runtime: runtime::Events,
    /// Membership and facts.
    pub gossip: gossip::Events,
    /// Heartbeats and messages.
    pub peers: peer::Events,
}

/// Starts the engine's task in `tasks`, and returns its remote control.
#[must_use]
pub fn start<W: World>(config: Config, parts: Parts<W>, inboxes: Inboxes, tasks: &Tasks) -> Handle {
    let (commands, command_inbox) = mpsc::channel(COMMANDS);
    let (reports, report_inbox) = mpsc::channel(REPORTS);
    let (images, blobs) = (Arc::clone(&parts.images), Arc::clone(&parts.blobs));
    let (news, news_inbox) = mpsc::channel(NEWS);
    let fetcher = Arc::new(Fetcher::new(images, blobs, parts.refusals.clone(), news));
    let tools = Tools { runtime: Arc::clone(&parts.runtime), fetcher, reports };
    let (done, done_inbox) = mpsc::channel(REPORTS);
    let disk = Disk::start(Arc::clone(&parts.store), done, tasks);
    let moment = config.clock.moment(&*parts.lease_clock);
    let node = Node::new(moment, config.node, config.records, config.registers);
    let task = Task {
        node: if config.doubtful { node.doubtful() } else { node },
        clock: config.clock,
        parts,
        tools,
        news: news_inbox,
        disk,
        tasks: tasks.clone(),
        replicas: Replicas::default(),
        published: Vec::new(),
        lost: BTreeSet::new(),
        journal: Journal::default(),
        waiting: BTreeMap::new(),
        n_tickets: 0,
        judged: Instant::ZERO,
    };
    tasks.spawn_vital("engine", async move {
        let mut task = task;
        task.tell_news(config.news);
        task.run(inboxes, command_inbox, report_inbox, done_inbox).await;
    });
    Handle { commands }
}

type Reply = oneshot::Sender<Result<Submitted, SubmitError>>;

struct Task<W: World> {
    node: Node,
    clock: Clock,
    parts: Parts<W>,
    tools: Tools<W::Runtime, W::Images, W::Blobs>,
    /// What people should know and nobody waits for.
    news: mpsc::Receiver<String>,
    disk: Disk,
    tasks: Tasks,
    replicas: Replicas,
    published: Vec<(Route, Vec<Backend>)>,
    /// The nodes whose connections were closed because they are down.
    lost: BTreeSet<NodeId>,
    journal: Journal,
    waiting: BTreeMap<Ticket, Reply>,
    n_tickets: u64,
    /// When this node's wall clock was looked at last.
    judged: Instant,
}

impl<W: World> Task<W> {
    async fn run(
        mut self,
        mut inboxes: Inboxes,
        mut commands: mpsc::Receiver<Command>,
        mut reports: mpsc::Receiver<Report>,
        mut done: mpsc::Receiver<Written>,
    ) {
        self.find_containers().await;
        loop {
            let wake = self.node.next_deadline().map(|at| self.clock.deadline(at));
            let wake = wake.unwrap_or_else(|| tokio::time::Instant::now() + IDLE);
            // Every arm but the commands only produces an input. All of them are cancel-safe receives. Peers come first: after a
            // pause their heartbeats are as late as the deadline that would take them for dead.
            let inputs = tokio::select! {
                biased;
                Some(event) = inboxes.peers.recv() => vec![self.take_peer(event)],
                Some(written) = done.recv() => self.take_written(written),
                () = tokio::time::sleep_until(wake) => vec![Input::Wake],
                Some(report) = reports.recv() => vec![self.take_report(report)],
                Some(event) = inboxes.runtime.recv() => self.take_runtime(event).into_iter().collect(),
                Some(event) = inboxes.gossip.recv() => vec![from_gossip(event)],
                Some(text) = self.news.recv() => {
                    self.tell_news(vec![text]);
                    Vec::new()
                }
                Some(command) = commands.recv() => self.obey(command).await.into_iter().collect(),
                else => return,
            };
            for input in inputs {
                self.step(input).await;
            }
            if let Some(finding) = self.judge() {
                self.step(Input::Clock(finding)).await;
            }
        }
    }

    /// What there is to say anew of this node's wall clock.
    fn judge(&mut self) -> Option<Finding> {
        let now = self.clock.now();
        if now.since(self.judged) < JUDGE {
            return None;
        }
        self.judged = now;
        let members = &self.node.state().nodes;
        self.clock.judge(|node| members.contains_key(&node))
    }

    fn tell_news(&mut self, news: Vec<String>) {
        for text in news {
            let (at, me) = (self.clock.mesh(), self.node.id());
            let (severity, subject) = (Severity::Warning, Subject::Node(me));
            self.tell(&Event { at, seen_by: me, severity, subject, text });
        }
    }

    /// Re-attaches to what runs before anything is decided (invariant I8).
    async fn find_containers(&mut self) {
        for found in self.parts.runtime.list().await {
            self.find(found).await;
        }
        self.step(Input::Began).await;
    }

    async fn find(&mut self, found: Found) {
        let (slot, revision) = (found.tag.slot, found.tag.revision);
        info!(slot = %found.tag.name, container = %found.id, state = ?found.state, "found");
        let template = self.template(&slot, revision);
        let local = self.replicas.entry(&slot, revision, found.id);
        local.template = template;
        local.fence.send_replace(found.fence);
        let ended = match found.state {
            State::Running(running) => {
                local.address = Some(running.address);
                None
            }
            State::Ended(exit) => Some(exit.map(|exit| exit.code)),
        };
        self.step(Input::Found { slot, revision, ended, fence: found.fence }).await;
    }

    async fn step(&mut self, input: Input) {
        let is_beat = matches!(input, Input::Heard { .. });
        let mut out = Vec::new();
        // Read before anything leaves that follows from it, and after what came has arrived (H1, W2).
        let moment = self.clock.moment(&*self.parts.lease_clock);
        self.node.handle(moment, input, &mut out);
        // Heartbeats are most of what arrives, and change nothing but the silence.
        let quiet = is_beat && out.is_empty();
        for output in out {
            self.carry_out(output).await;
        }
        if !quiet {
            self.publish_routes();
        }
    }

    fn publish_routes(&mut self) {
        let routes = routes::routes(&self.node, &self.replicas);
        if routes != self.published {
            self.published.clone_from(&routes);
            self.parts.publisher.publish(routes);
        }
        if *self.node.down() != self.lost {
            for node in self.node.down().difference(&self.lost) {
                self.parts.publisher.lost(*node);
            }
            self.lost.clone_from(self.node.down());
        }
    }

    fn take_peer(&self, event: peer::Event) -> Input {
        match event {
            peer::Event::Heard { node, incarnation, wall } => {
                if let Some(wall) = wall {
                    self.clock.hear(node, wall);
                }
                Input::Heard { node, incarnation }
            }
            peer::Event::Refused { node } => Input::Refused { node },
            peer::Event::Said { from, message } => Input::Said { from, message },
        }
    }

    fn take_written(&mut self, written: Written) -> Vec<Input> {
        match written {
            Written::Records { ticket, outcome } => vec![self.take_records(ticket, outcome)],
            Written::Registers { promises, outcome: Ok(()) } => self.keep_promises(promises),
            // Nothing was written, so nothing is said, and the register comes again with the next question.
            Written::Registers { outcome: Err(StoreError::Full { .. }), .. } => Vec::new(),
            Written::Registers { outcome: Err(error), .. } => {
                vec![Input::PersistFailed { reason: mesh_telemetry::Chain(&error).to_string() }]
            }
        }
    }

    /// Registers are on the disk: what hangs on them may be said, to each node together.
    fn keep_promises(&self, promises: Vec<Promise>) -> Vec<Input> {
        let me = self.node.id();
        let mut inputs = Vec::new();
        let mut said = Vec::new();
        for Promise { ticket, then } in promises {
            inputs.push(Input::Persisted { ticket });
            said.extend(then);
        }
        for (to, message) in together(said) {
            if to == me {
                inputs.push(Input::Said { from: me, message });
            } else {
                self.parts.peers.send(to, message);
            }
        }
        inputs
    }

    fn take_records(&mut self, ticket: Ticket, outcome: Result<(), WriteError>) -> Input {
        match outcome {
            Ok(()) => Input::Stored { ticket },
            Err(error) => {
                let reason = mesh_telemetry::Chain(&error).to_string();
                if let Some(reply) = self.waiting.remove(&ticket) {
                    // A closed receiver is an operator that went away.
                    drop(reply.send(Err(match error {
                        WriteError::Behind => SubmitError::Busy,
                        WriteError::Store(error) => SubmitError::Store(error),
                    })));
                }
                Input::StoreFailed { ticket, reason }
            }
        }
    }

    fn take_report(&mut self, report: Report) -> Input {
        let Report { slot, revision, observed, address } = report;
        if observed == Observed::Removed {
            self.replicas.remove(&slot, revision);
        } else if let Some(local) = self.replicas.get_mut(&slot, revision) {
            local.address = address.or(local.address);
        }
        Input::Observed { slot, revision, observed }
    }

    fn take_runtime(&mut self, event: runtime::Event) -> Option<Input> {
        let (id, observed) = match event {
            runtime::Event::Ended(Ended { id, exit }) => {
                let code = exit.as_ref().map(|exit| exit.code);
                let oom = exit.as_ref().is_some_and(|exit| exit.oom);
                (id, Observed::Ended { code, oom })
            }
            runtime::Event::Stuck { id, reason } => (id, Observed::Stuck { reason }),
        };
        let (slot, revision) = self.replicas.owner(&id)?;
        Some(Input::Observed { slot, revision, observed })
    }

    async fn obey(&mut self, command: Command) -> Option<Input> {
        let now = self.clock.now();
        // A closed reply channel is a caller that went away: nothing is lost.
        match command {
            Command::Submit { reply, .. } if self.waiting.len() >= SUBMISSIONS => {
                drop(reply.send(Err(SubmitError::Busy)));
            }
            Command::Submit { entries, reply } => {
                let ticket = Ticket(self.n_tickets);
                self.n_tickets = self.n_tickets.saturating_add(1);
                self.waiting.insert(ticket, reply);
                return Some(Input::Submit { ticket, entries });
            }
            Command::Restarting { reply } => {
                // Said first and confirmed then: whoever waits for this ends the agent next.
                self.step(Input::Restarting).await;
                reply.send(()).ok();
            }
            Command::Overview { reply } => {
                let mut overview = self.node.overview(now);
                overview.problems.extend(self.parts.publisher.problems());
                drop(reply.send(overview));
            }
            Command::Leases { query, reply } => {
                let reading = self.clock.moment(self.parts.lease_clock.as_ref()).reading;
                drop(reply.send(self.node.leases(reading, &query)));
            }
            Command::Why { slot, reply } => drop(reply.send(self.node.why(now, &slot))),
            Command::Record { key, reply } => {
                drop(reply.send(self.node.catalogue().record(&key).cloned()));
            }
            Command::Records { reply } => {
                drop(reply.send(self.node.catalogue().all().cloned().collect()));
            }
            Command::Events { tail, follow, reply } => {
                drop(reply.send(self.journal.read(tail, follow)));
            }
            Command::Replica { slot, reply } => drop(reply.send(self.replica(&slot))),
            Command::Backend { slot, target, reply } => {
                let backend = routes::local_backend(&self.node, &self.replicas, &slot, target);
                reply.send(backend).ok();
            }
        }
        None
    }

    /// The container to look at when somebody names a slot: the one that serves, else the last one.
    fn replica(&self, slot: &SlotId) -> Option<LocalReplica> {
        let claims = self.node.claims().filter(|claim| claim.slot == *slot);
        let best = claims.min_by_key(|claim| {
            (
                claim.phase != mesh_coordinator::fact::Phase::Ready,
                std::cmp::Reverse(claim.revision.number),
            )
        })?;
        let container = self.container_of(slot, best.revision);
        Some(LocalReplica { container, name: self.node.slot_name(slot) })
    }

    /// The outcome of a submission goes back to who asked.
    fn reply(&mut self, output: Output) {
        let Output::Submitted { ticket, stored_on, n_peers, refused, .. } = output else { return };
        if let Some(reply) = self.waiting.remove(&ticket) {
            drop(reply.send(Ok(Submitted { stored_on, n_peers, refused })));
        }
    }
}

fn from_gossip(event: gossip::Event) -> Input {
    match event {
        gossip::Event::Up { node, incarnation } => Input::GossipUp { node, incarnation },
        gossip::Event::Down { node, incarnation } => Input::GossipDown { node, incarnation },
        gossip::Event::Published { node, incarnation, fact } => {
            Input::Published { node, incarnation, fact }
        }
        gossip::Event::Twin { .. } => Input::Twin,
        gossip::Event::Withdrawn { node, incarnation, key } => {
            Input::Withdrawn { node, incarnation, key }
        }
    }
}
