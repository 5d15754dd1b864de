//! The task that owns chitchat: publishes, contacts, watches over it and starts it again.
//!
//! Each instance of chitchat is one life with an incarnation of its own, because peers ignore what an instance says that counts
//! its versions anew under an old incarnation, and give it its own old facts back. So whenever an instance ends, by a fault or
//! for a new interval, the next one gets the next incarnation and all facts of this node, signed anew.

pub(crate) mod address;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::Transport;
use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_coordinator::prng::Prng;
use mesh_ports::gossip::Event;
use mesh_telemetry::Reason;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use crate::chat::{Chat, Live, Plan, Survey};
use crate::config::{Config, NODES_MAX, Ports};
use crate::handle::Shared;
use crate::keys::{self, FACTS_MAX};
use crate::transport::Link;
use crate::watcher::Source;

/// How many members that are not alive are tried at a time: as many as chitchat talks to in a round.
const CONTACTS: usize = 3;

/// After this many rounds a new instance knows everybody, old lives have timed out, and a heart that still stands is broken.
const ROUNDS_TO_SETTLE: u32 = 40;

/// How long a look into chitchat may take. It never waits with its lock held, so more means that it is stuck.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// An instance that lived this long did not end because of its start.
const LONG_LIFE: Duration = Duration::from_secs(30);

/// The longest wait before another start.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Interval(Duration),
    Publish(Fact),
    Withdraw(FactKey),
}

/// What carries the datagrams.
pub(crate) struct Road {
    pub(crate) transport: Box<dyn Transport>,
    /// `None` in memory, where nothing is sealed.
    pub(crate) link: Option<Arc<Link>>,
}

/// Why the loop woke.
enum Input {
    Command(Command),
    Ended(String),
    Tick,
}

/// When to do what.
struct Timing {
    contact_at: Instant,
    retry_at: Instant,
    /// How many short lives there were in a row.
    n_short: u32,
    /// The heartbeat at the last look, and how many looks it has stood still.
    heart: (u64, u32),
    /// Whether this life has greeted everybody.
    has_greeted: bool,
}

/// The task's state.
pub(crate) struct Keeper {
    config: Config,
    ports: Ports,
    shared: Arc<Shared>,
    road: Road,
    own: BTreeMap<FactKey, Fact>,
    /// `None` between two lives.
    chat: Option<Chat>,
    timing: Timing,
    prng: Prng,
    /// Lives of this node's identity that are not its own.
    twins: BTreeSet<Incarnation>,
    /// Where the engine is told of one.
    events: mpsc::Sender<Event>,
}

impl Keeper {
    pub(crate) fn new(
        config: Config,
        ports: Ports,
        shared: Arc<Shared>,
        road: Road,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let now = Instant::now();
        let timing = Timing {
            contact_at: now,
            retry_at: now,
            n_short: 0,
            heart: (0, 0),
            has_greeted: false,
        };
        let prng = Prng::new(config.incarnation.0);
        let (own, twins) = (BTreeMap::new(), BTreeSet::new());
        Self { config, ports, shared, road, own, chat: None, timing, prng, twins, events }
    }

    /// Starts an instance in the current life.
    pub(crate) async fn begin(&mut self) -> Result<Live, String> {
        let life = self.life();
        if let Some(link) = &self.road.link {
            link.begin(life);
        }
        let plan = Plan {
            mesh: self.ports.directory.mesh(),
            node: self.config.node,
            life,
            bind: self.config.bind,
            advertise: self.config.advertise,
            interval: self.config.interval,
            grace: self.config.grace,
        };
        let facts = self.own.values().filter_map(|fact| self.seal(fact)).collect();
        let started = Chat::start(&plan, facts, self.road.transport.as_ref()).await;
        let chat = started.map_err(|error| format!("{error:#}"))?;
        let live = chat.live().await;
        self.chat = Some(chat);
        self.timing.heart = (0, 0);
        self.timing.has_greeted = false;
        info!(incarnation = %life, "gossip began a life");
        Ok(live)
    }

    /// Runs until the group stops.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        lives: watch::Sender<Source>,
    ) {
        loop {
            let mut tick = tokio::time::interval(self.config.interval);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let interval = self.config.interval;
            while self.config.interval == interval {
                let input = tokio::select! {
                    biased;
                    Some(command) = inbox.recv() => Input::Command(command),
                    reason = ended(&mut self.chat) => Input::Ended(reason),
                    _ = tick.tick() => Input::Tick,
                };
                self.step(input, &lives).await;
            }
        }
    }

    async fn step(&mut self, input: Input, lives: &watch::Sender<Source>) {
        match input {
            Input::Command(Command::Publish(fact)) => self.publish(fact).await,
            Input::Command(Command::Withdraw(key)) => self.withdraw(key).await,
            Input::Command(Command::Interval(interval)) => {
                if interval != self.config.interval {
                    self.config.interval = interval;
                    self.begin_anew(lives).await;
                }
            }
            Input::Ended(reason) => self.fail(&reason),
            Input::Tick if self.chat.is_some() => self.look().await,
            Input::Tick => {
                if Instant::now() >= self.timing.retry_at {
                    self.begin_anew(lives).await;
                }
            }
        }
    }

    async fn publish(&mut self, fact: Fact) {
        let key = fact.key();
        if self.own.get(&key) == Some(&fact) {
            return;
        }
        if self.own.len() >= FACTS_MAX && !self.own.contains_key(&key) {
            self.shared.tally.facts_unpublished.add(1);
            error!(?key, "cannot publish more facts: peers read no more than {FACTS_MAX}");
            return;
        }
        let sealed = self.seal(&fact);
        self.own.insert(key, fact);
        if let (Some((key, value)), Some(chat)) = (sealed, &mut self.chat)
            && chat.set(&key, &value).await.is_err()
        {
            self.clear_name();
        }
    }

    async fn withdraw(&mut self, key: FactKey) {
        if self.own.remove(&key).is_some()
            && let Some(chat) = &mut self.chat
            && chat.delete(&keys::to_text(key)).await.is_err()
        {
            self.clear_name();
        }
    }

    /// Key and value for `fact` in the current life; `None`, loudly, when no peer would take them.
    fn seal(&self, fact: &Fact) -> Option<(String, String)> {
        let key = keys::to_text(fact.key());
        match keys::seal(self.ports.facts.as_ref(), self.life(), fact) {
            Ok(value) => Some((key, value)),
            Err(error) => {
                self.shared.tally.facts_unpublished.add(1);
                error!(key, %error, "cannot publish a fact");
                None
            }
        }
    }

    fn life(&self) -> Incarnation {
        *self.shared.life.borrow()
    }

    /// Ends the instance, if there is one, and begins another life.
    async fn begin_anew(&mut self, lives: &watch::Sender<Source>) {
        if let Some(chat) = self.chat.take() {
            chat.stop().await;
        }
        match self.next_life().await {
            Ok(live) => {
                let settling = self.config.interval.saturating_mul(ROUNDS_TO_SETTLE);
                lives.send_replace(Source { live, settles: Instant::now() + settling });
            }
            Err(reason) => {
                error!(reason, "gossip does not start again");
                self.delay();
            }
        }
    }

    async fn next_life(&mut self) -> Result<Live, String> {
        let next = Arc::clone(&self.ports.next_incarnation);
        let life = tokio::task::spawn_blocking(move || next()).await;
        let life = life.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if life <= self.life() {
            return Err(format!("the incarnation {life} is not above the last one"));
        }
        self.shared.life.send_replace(life);
        self.begin().await
    }

    /// The instance ended by itself.
    fn fail(&mut self, reason: &str) {
        let age = self.chat.take().map_or(Duration::ZERO, |chat| chat.abandon().elapsed());
        error!(reason, "gossip ended and begins a new life");
        self.shared.tally.respawns.add(1);
        if age >= LONG_LIFE {
            self.timing.n_short = 0;
        }
        self.delay();
    }

    /// Another member wrote in this node's name, or another agent has the same name and life. What this node says in another life
    /// is its own again: peers follow the highest life that was proved, and only who has this node's key can prove one. Another
    /// agent that has it betrays itself then: one of the two lives is the lower one.
    fn clear_name(&mut self) {
        let words = "it wrote in this node's name, which therefore begins a new life";
        self.ports.refusals.refuse(Reason::FactSignature, "a member", words);
        self.fail("another member wrote in this node's name");
    }

    /// Puts the next start off, the longer the more often it failed: whoever makes gossip fail would do so again at once.
    fn delay(&mut self) {
        let wait = self.config.interval.saturating_mul(1 << self.timing.n_short.min(16));
        self.timing.n_short = self.timing.n_short.saturating_add(1);
        self.timing.retry_at = Instant::now() + wait.min(RETRY_MAX);
    }

    /// Looks after the instance: does its heart beat, does somebody else use this identity, whom does it miss?
    async fn look(&mut self) {
        let Some(chat) = &self.chat else { return };
        let Ok(survey) = tokio::time::timeout(LOOK_TIMEOUT, chat.survey()).await else {
            return self.fail("it does not answer");
        };
        let (heartbeat, n_still) = self.timing.heart;
        let n_still = if survey.heartbeat > heartbeat { 0 } else { n_still.saturating_add(1) };
        self.timing.heart = (survey.heartbeat, n_still);
        if n_still > ROUNDS_TO_SETTLE {
            return self.fail("its heart stands still");
        }
        if survey.is_tampered {
            return self.clear_name();
        }
        self.learn(&survey);
        self.contact(&survey);
    }

    /// Takes over where members say they are, and looks for twins: later lives of this node at once, former ones if they do not
    /// fade. (One in the same life does not stay in it: see [`Keeper::clear_name`].)
    fn learn(&mut self, survey: &Survey) {
        let own_life = self.life();
        let settled = self.config.interval.saturating_mul(ROUNDS_TO_SETTLE);
        let is_old = self.chat.as_ref().is_some_and(|chat| chat.began.elapsed() > settled);
        for (node, life, address) in survey.lives.iter().copied().take(NODES_MAX) {
            if node == self.shared.node {
                let lasts = is_old && life != own_life && survey.alive.contains(&(node, life));
                if life > own_life || lasts {
                    self.alarm(life);
                }
            } else if self.ports.directory.peer(node).is_some() {
                self.shared.addresses.tell(node, address, life);
            }
        }
        let rumour = self.road.link.as_ref().and_then(|link| link.rumour());
        // Somebody opened a packet of that life, which only this node's key can seal. Who has no room for the event hears it again.
        if let Some(incarnation) = rumour
            && !self.twins.contains(&incarnation)
            && self.events.try_send(Event::Twin { incarnation }).is_ok()
        {
            self.alarm(incarnation);
        }
        if survey.lives.len() > NODES_MAX {
            warn!(
                n_lives = survey.lives.len(),
                "gossip knows more lives than a mesh may have nodes"
            );
        }
    }

    fn alarm(&mut self, life: Incarnation) {
        if self.twins.len() < NODES_MAX && self.twins.insert(life) {
            self.shared.tally.twins.add(1);
            error!(incarnation = %life, "another agent lives under this node's identity");
        }
    }

    /// Starts handshakes with members that seem dead. chitchat forgets the dead after a while; after a partition that lasted
    /// longer, nobody but us would make the first step.
    fn contact(&mut self, survey: &Survey) {
        let Some(chat) = &self.chat else { return };
        let alive: BTreeSet<NodeId> = survey.alive.iter().map(|(node, _)| *node).collect();
        let peers = self.ports.directory.peers();
        let is_alone = !peers.iter().any(|peer| alive.contains(&peer.node));
        if !is_alone && Instant::now() < self.timing.contact_at {
            return;
        }
        // A new instance knows nobody, so that its digest is a few bytes long and all can be greeted.
        let is_first = !std::mem::replace(&mut self.timing.has_greeted, true);
        self.timing.contact_at = Instant::now() + self.config.contact_interval;
        let missing = peers.iter().map(|peer| peer.node).filter(|node| !alive.contains(node));
        let mut missing: Vec<NodeId> = missing.collect();
        self.prng.shuffle(&mut missing);
        let n_contacts = if is_first { missing.len() } else { CONTACTS };
        let addresses =
            missing.into_iter().take(n_contacts).flat_map(|node| self.shared.addresses.of(node));
        for address in addresses {
            if !chat.contact(address) {
                return;
            }
        }
    }
}

/// Why the instance ended, as soon as it does.
async fn ended(chat: &mut Option<Chat>) -> String {
    match chat {
        Some(chat) => (&mut chat.ended).await,
        None => std::future::pending().await,
    }
}
