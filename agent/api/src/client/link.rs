//! The task that owns one connection to a peer.
//!
//! ```text
//! parked ──need──▶ connecting ──ok──▶ connected ──idle──▶ parked
//!                    ▲   │ failed        │ broken
//!                    │   ▼               ▼
//!                    └─ pause ◀──────────┘
//! ```
//!
//! A pause ends early when a new need comes up. A connection that broke is tried again at once, since what the host says then
//! tells a dead agent (it refuses) from a dead host (it is silent).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_coordinator::message::Message;
use mesh_coordinator::prng::Prng;
use mesh_coordinator::time::WallTime;
use mesh_ports::directory::{Directory, RecordCodec};
use mesh_ports::peer::Event;
use mesh_proto::v1;
use mesh_proto::v1::peer_client::PeerClient;
use mesh_telemetry::{Reason, Refusals};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, trace};

use super::pool::{Caller, PoolConfig, Queued, TlsFor};
use crate::convert::message;
use crate::dial::{self, Dial, DialError, Names, is_refusal};

/// Envelopes that the connection has not taken yet.
const ENVELOPES: usize = 8;

/// How long a peer may take to prove that this node was removed: a few records that it has at hand.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(3);

/// What a task knows of its peer.
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) config: PoolConfig,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) names: Arc<Names>,
    pub(super) tls_for: TlsFor,
    pub(super) records: Arc<dyn RecordCodec>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) refusals: Refusals,
    /// The address at which the peer proved its key last.
    pub(super) good: Option<String>,
}

/// What is wanted of the connection. All end when the handle is dropped.
pub(super) struct Needs {
    inbox: mpsc::Receiver<Queued>,
    calls: mpsc::Receiver<Caller>,
    watched: watch::Receiver<bool>,
    /// Messages that came while there was no connection.
    waiting: VecDeque<Queued>,
    /// Who wants to call and has no answer yet.
    callers: Vec<Caller>,
    /// The handle was dropped.
    is_over: bool,
}

/// Why a connection was left.
enum Left {
    /// It broke, or the peer closed it.
    Broken,
    /// The peer says that this node may not ask it anything.
    Denied,
    /// Nobody needs it.
    Idle,
    /// The handle was dropped.
    Unwanted,
}

/// Why there is no connection.
struct NotConnected {
    reason: String,
    /// The host itself said no.
    refused: bool,
}

impl Link {
    /// The task's whole life.
    pub(super) async fn run(mut self, mut needs: Needs) {
        let mut pauses = Pauses::new(self.node);
        while needs.any().await {
            match self.connect().await {
                Ok(link) => {
                    let since = Instant::now();
                    debug!(peer = %self.node, "connected");
                    needs.answer(&Ok(link.channel.clone()));
                    match self.stay(link.channel.clone(), &mut needs).await {
                        Left::Unwanted => return,
                        Left::Idle => continue,
                        Left::Denied => self.part(link.channel).await,
                        Left::Broken => debug!(peer = %self.node, "the connection broke"),
                    }
                    if needs.is_watched() && link.fault.kind().is_some_and(is_refusal) {
                        self.tell(Event::Refused { node: self.node });
                    }
                    // A connection that lasted is tried again at once; one that never does is not.
                    if since.elapsed() > self.config.connect_timeout {
                        pauses.reset();
                        continue;
                    }
                }
                Err(NotConnected { reason, refused }) => {
                    trace!(peer = %self.node, reason, "not connected");
                    needs.answer(&Err(reason));
                    if refused && needs.is_watched() {
                        self.tell(Event::Refused { node: self.node });
                    }
                }
            }
            let pause = pauses.next(&self.config, needs.is_watched());
            needs.pause(pause, &self.config).await;
        }
    }

    /// Never waits: a sign of life that the engine has no room for is as good as lost on the way.
    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            debug!(peer = %self.node, "no room for an event of a connection");
        }
    }

    /// Tries the peer's addresses, the last good one first.
    async fn connect(&mut self) -> Result<dial::Link, NotConnected> {
        let no = |reason: &str| NotConnected { reason: reason.to_owned(), refused: false };
        let peer = self.directory.peer(self.node).ok_or_else(|| no("it is not a member"))?;
        let good = self.good.take().filter(|good| peer.api.contains(good));
        let rest = peer.api.iter().filter(|address| Some(*address) != good.as_ref());
        let addresses: Vec<String> = good.iter().chain(rest).cloned().collect();
        // Another host may have the same private address: a refusal there says nothing, unless it is the address of the peer.
        let (mut failures, mut all_refused, mut good_refused) = (Vec::new(), true, false);
        for address in addresses {
            let tls = (self.tls_for)(&peer.key);
            let (names, timeout) = (&self.names, self.config.connect_timeout);
            let witness = Some((self.refusals.clone(), self.node));
            match dial::connect(&Dial { address: &address, names, tls, timeout, witness }).await {
                Ok(link) => {
                    self.good = Some(address);
                    return Ok(link);
                }
                Err(error) => {
                    if error.is_somebody_else() {
                        let from = format_args!("{address}, said to be node {}", self.node);
                        self.refusals.refuse(Reason::Stranger, from, &error);
                    }
                    let refused = matches!(error, DialError::Connect(_)) && error.is_refused();
                    all_refused &= refused;
                    good_refused |= refused && good.as_ref() == Some(&address);
                    failures.push(format!("{address}: {error}"));
                }
            }
        }
        let refused =
            if good.is_some() { good_refused } else { all_refused && !failures.is_empty() };
        self.good = good;
        let reason = if failures.is_empty() {
            "no address is known".to_owned()
        } else {
            failures.join(", ")
        };
        Err(NotConnected { reason, refused })
    }

    /// Serves all needs over one connection.
    async fn stay(&self, channel: Channel, needs: &mut Needs) -> Left {
        let Needs { inbox, calls, watched, waiting, callers: _, is_over: _ } = needs;
        let is_watched = watched.clone();
        let called = Mutex::new(Instant::now());
        let is_idle = || {
            let called = called.lock().unwrap_or_else(PoisonError::into_inner);
            !*is_watched.borrow() && called.elapsed() >= self.config.idle
        };
        tokio::select! {
            left = self.speak(channel.clone(), (waiting, inbox), is_idle) => left,
            left = self.listen(channel.clone(), watched) => left,
            left = lend(channel, calls, &called) => left,
        }
    }

    /// Delivers messages.
    async fn speak(
        &self,
        channel: Channel,
        (waiting, inbox): (&mut VecDeque<Queued>, &mut mpsc::Receiver<Queued>),
        is_idle: impl Fn() -> bool + Send,
    ) -> Left {
        let (sender, envelopes) = mpsc::channel(ENVELOPES);
        let mut client = PeerClient::new(channel);
        let delivering = client.deliver(ReceiverStream::new(envelopes));
        tokio::pin!(delivering);
        loop {
            let next = async {
                match waiting.pop_front() {
                    Some(queued) => Some(queued),
                    None => inbox.recv().await,
                }
            };
            let next = tokio::select! {
                biased;
                ended = &mut delivering => return left_by(ended.err()),
                next = tokio::time::timeout(self.config.idle, next) => next,
            };
            let (since, message) = match next {
                Ok(Some(queued)) => queued,
                Ok(None) => return Left::Unwanted,
                Err(_elapsed) if is_idle() => return Left::Idle,
                Err(_elapsed) => continue,
            };
            if since.elapsed() > self.config.message_age_max {
                debug!(peer = %self.node, "a message became too old");
                continue;
            }
            for envelope in message::to_wire(&message) {
                tokio::select! {
                    biased;
                    ended = &mut delivering => return left_by(ended.err()),
                    sent = sender.send(envelope) => if sent.is_err() { return Left::Broken },
                }
            }
        }
    }

    /// Listens to heartbeats while the peer is watched.
    async fn listen(&self, channel: Channel, watched: &mut watch::Receiver<bool>) -> Left {
        let mut client = PeerClient::new(channel);
        loop {
            if watched.wait_for(|on| *on).await.is_err() {
                return Left::Unwanted;
            }
            let opening =
                tokio::time::timeout(self.config.silence, client.watch(v1::WatchRequest {}));
            let mut beats = match opening.await {
                Ok(Ok(beats)) => beats.into_inner(),
                Ok(Err(status)) => {
                    self.note_garbage(&status);
                    return left_by(Some(status));
                }
                Err(_elapsed) => return Left::Broken,
            };
            loop {
                let beat = tokio::select! {
                    biased;
                    changed = watched.wait_for(|on| !*on) => match changed {
                        Ok(_off) => break,
                        Err(_dropped) => return Left::Unwanted,
                    },
                    beat = tokio::time::timeout(self.config.silence, beats.message()) => beat,
                };
                if let Ok(Err(status)) = &beat {
                    self.note_garbage(status);
                }
                let Ok(Ok(Some(beat))) = beat else { return Left::Broken };
                let incarnation = Incarnation(beat.incarnation);
                let wall = Some(WallTime(beat.wall_ms)).filter(|wall| wall.0 > 0);
                self.tell(Event::Heard { node: self.node, incarnation, wall });
            }
        }
    }

    /// Counts heartbeats that are none.
    fn note_garbage(&self, status: &Status) {
        if let Some(reason) = crate::status::refusal(status) {
            self.refusals.refuse(reason, self.node, status.message());
        }
    }

    /// A peer that answers nothing may take this node for removed. It is asked for the proof, which is judged like all records that
    /// arrive: nobody is parted on a peer's word.
    async fn part(&self, channel: Channel) {
        let asking = super::joining::part(channel, self.records.as_ref());
        let (told, forged) = match tokio::time::timeout(FAREWELL_TIMEOUT, asking).await {
            Ok(Ok(told)) => told,
            Ok(Err(status)) => {
                return debug!(peer = %self.node, reason = status.message(), "denied");
            }
            Err(_elapsed) => return debug!(peer = %self.node, "denied, and it does not say why"),
        };
        for bad in forged {
            let words = format_args!("record {}: {}", bad.signed.digest(), bad.reason);
            self.refusals.refuse(Reason::RecordSignature, self.node, words);
        }
        debug!(peer = %self.node, n_records = told.len(), "told of a removal");
        let said = Event::Said { from: self.node, message: Message::Records(told) };
        self.tell(said);
    }
}

fn left_by(end: Option<Status>) -> Left {
    match end {
        Some(status) if status.code() == Code::PermissionDenied => Left::Denied,
        Some(_) | None => Left::Broken,
    }
}

/// Hands the connection to whoever wants to call.
async fn lend(
    channel: Channel,
    calls: &mut mpsc::Receiver<Caller>,
    called: &Mutex<Instant>,
) -> Left {
    while let Some(caller) = calls.recv().await {
        *called.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // A caller that does not wait any more needs no answer.
        drop(caller.send(Ok(channel.clone())));
    }
    Left::Unwanted
}

impl Needs {
    pub(super) const fn new(
        inbox: mpsc::Receiver<Queued>,
        calls: mpsc::Receiver<Caller>,
        watched: watch::Receiver<bool>,
    ) -> Self {
        Self {
            inbox,
            calls,
            watched,
            waiting: VecDeque::new(),
            callers: Vec::new(),
            is_over: false,
        }
    }

    fn is_watched(&self) -> bool {
        *self.watched.borrow()
    }

    /// Waits for a reason to be connected; false when the handle was dropped.
    async fn any(&mut self) -> bool {
        while !self.is_over
            && !self.is_watched()
            && self.waiting.is_empty()
            && self.callers.is_empty()
        {
            tokio::select! {
                queued = self.inbox.recv() => self.keep(queued),
                caller = self.calls.recv() => self.callers.extend(caller),
                changed = self.watched.changed() => self.is_over |= changed.is_err(),
            }
        }
        !self.is_over
    }

    /// Waits, unless somebody wants to call or to watch. Of the messages that come meanwhile the newest are kept.
    async fn pause(&mut self, pause: Duration, config: &PoolConfig) {
        let until = Instant::now() + pause;
        let was_watched = *self.watched.borrow_and_update();
        let mut is_wanted = false;
        while !is_wanted && !self.is_over {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => break,
                caller = self.calls.recv() => {
                    self.callers.extend(caller);
                    is_wanted = true;
                }
                changed = self.watched.changed() => {
                    self.is_over |= changed.is_err();
                    is_wanted = !was_watched && self.is_watched();
                }
                queued = self.inbox.recv() => self.keep(queued),
            }
            if self.waiting.len() > config.queue_len {
                self.waiting.pop_front();
            }
        }
        self.waiting.retain(|(since, _)| since.elapsed() <= config.message_age_max);
    }

    /// Keeps a message until there is a connection; `None` says that no more will come.
    fn keep(&mut self, queued: Option<Queued>) {
        match queued {
            Some(queued) => self.waiting.push_back(queued),
            None => self.is_over = true,
        }
    }

    fn answer(&mut self, answer: &Result<Channel, String>) {
        for caller in self.callers.drain(..) {
            // A caller that does not wait any more needs no answer.
            drop(caller.send(answer.clone()));
        }
    }
}

/// How long to wait before the next attempt: twice as long as before, with jitter, so that a mesh does not knock in step.
struct Pauses {
    prng: Prng,
    n_failures: u32,
}

impl Pauses {
    fn new(node: NodeId) -> Self {
        let mut seed = [0; 8];
        // Without random numbers the node's own name makes different agents' pauses differ less, which only costs a little.
        if getrandom::fill(&mut seed).is_err() {
            let [a, b, c, d, e, f, g, h, ..] = *node.as_bytes();
            seed = [a, b, c, d, e, f, g, h];
        }
        Self { prng: Prng::new(u64::from_be_bytes(seed)), n_failures: 0 }
    }

    const fn reset(&mut self) {
        self.n_failures = 0;
    }

    fn next(&mut self, config: &PoolConfig, watched: bool) -> Duration {
        let longest = if watched { config.backoff_watched_max } else { config.backoff_max };
        let doubled = config.backoff_min.saturating_mul(1 << self.n_failures.min(16));
        self.n_failures = self.n_failures.saturating_add(1);
        let pause = doubled.min(longest);
        let permille = u32::try_from(self.prng.below(500)).unwrap_or(0);
        pause.saturating_mul(500 + permille) / 1000
    }
}
