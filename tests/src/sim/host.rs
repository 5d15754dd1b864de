//! A host: its clocks, its disk, its containers, and the agent on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::id::{Hash, NodeId, PublicKey, Revision};
use mesh_coordinator::lease::exclusive::{Fence, LeaseId, Register, StoreId};
use mesh_coordinator::name::NodeName;
use mesh_coordinator::node::{Input, Node, Ticket};
use mesh_coordinator::spec::Reservation;
use mesh_coordinator::workload::Do;

use super::clock::{Clock, Time};
use super::plan::Fault;
use super::queue::{Event, Key};

/// The process of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// Not yet.
    None,
    /// It runs.
    Running,
    /// It ended; `None` when nobody saw how.
    Ended(Option<i32>),
}

/// A container. It outlives its agent, and its process dies with the host.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) revision: Revision,
    pub(crate) process: Process,
    /// Tells one process from the next.
    pub(crate) serial: u64,
    /// A health check has passed since the process began, or there is none.
    pub(crate) sound: bool,
    /// Its agent has said that it is ready, and it did not end since.
    pub(crate) proved: bool,
    /// The agent has asked for its end.
    pub(crate) stopping: bool,
    /// Until then its health checks fail.
    pub(crate) sick_until: Time,
    /// What its guard keeps to; `None` when it runs without a lease.
    pub(crate) fence: Option<Fence>,
    /// Its host slept beyond the end of its lease: until then its guard has time to find out.
    pub(crate) late_until: Time,
}

impl Container {
    pub(crate) const fn new(revision: Revision) -> Self {
        Self {
            revision,
            process: Process::None,
            serial: 0,
            sound: false,
            proved: false,
            stopping: false,
            sick_until: 0,
            fence: None,
            late_until: 0,
        }
    }

    /// A process begins.
    pub(crate) const fn begin(&mut self, serial: u64, checked: bool) {
        self.process = Process::Running;
        self.serial = serial;
        self.sound = !checked;
        self.proved = false;
        self.late_until = 0;
    }

    /// Whether clients get answers, and will.
    pub(crate) fn serves(&self, now: Time) -> bool {
        let answers = self.process == Process::Running && self.sound && self.sick_until <= now;
        answers && self.proved && !self.stopping
    }
}

/// What an agent does with one container: one thing after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worker {
    pub(crate) jobs: VecDeque<Do>,
    pub(crate) current: Option<Do>,
    /// Tells one job from the next.
    pub(crate) job: u64,
    /// The current job is a start that still waits for its image.
    pub(crate) fetching: bool,
    /// A start was asked for, and neither ended nor was overtaken by a stop.
    pub(crate) starting: bool,
}

impl Worker {
    /// Starts that were asked for and are not over.
    pub(crate) fn n_starts(&self) -> usize {
        self.jobs.iter().chain(&self.current).filter(|job| **job == Do::Start).count()
    }
}

/// One life of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) node: Node,
    pub(crate) started: Time,
    pub(crate) paused: bool,
    /// What arrived during a pause.
    pub(crate) backlog: VecDeque<Input>,
    pub(crate) watched: Vec<usize>,
    /// From when on its heartbeats come.
    pub(crate) beats_from: Time,
    /// The number of the last heartbeat that was heard, by host.
    pub(crate) heard: Vec<u64>,
    pub(crate) wake: Option<Time>,
    pub(crate) workers: BTreeMap<Key, Worker>,
}

/// A host.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) key: PublicKey,
    pub(crate) name: NodeName,
    pub(crate) clock: Clock,
    pub(crate) capacity: Reservation,
    pub(crate) powered: bool,
    /// Lost with its disk, for good.
    pub(crate) lost: bool,
    pub(crate) agent: Option<Agent>,
    /// How many lives its agent had.
    pub(crate) life: u64,
    /// How often it went down: a start that was meant for an earlier time is void.
    pub(crate) incident: u64,
    /// When its agent last announced a restart.
    pub(crate) announced: Option<Time>,
    pub(crate) disk: BTreeMap<Hash, Entry>,
    pub(crate) disk_full: bool,
    /// Flushes take long.
    pub(crate) disk_slow: bool,
    /// Flushes go wrong.
    pub(crate) disk_bad: bool,
    /// Since when it sleeps, and what waits for its waking.
    pub(crate) asleep: Option<Time>,
    /// Whether its clocks sleep too.
    pub(crate) is_frozen: bool,
    pub(crate) postponed: Vec<Event>,
    /// What last befell it, and when.
    pub(crate) struck: Option<(Fault, Time)>,
    /// Which store its word as a witness is in, and that word.
    pub(crate) store: StoreId,
    pub(crate) registers: BTreeMap<LeaseId, Register>,
    /// What is being written there, in this order.
    pub(crate) unflushed: VecDeque<(Ticket, LeaseId, Register)>,
    /// When the disk is done with what it does, and with what waits for that, which is flushed together.
    pub(crate) disk_free: [Time; 2],
    /// Which run of the host this is.
    pub(crate) boot: u128,
    pub(crate) runtime_bad: bool,
    pub(crate) images: BTreeSet<String>,
    pub(crate) containers: BTreeMap<Key, Container>,
    /// Whom its agent takes for members: nobody else's connections and datagrams are taken.
    pub(crate) admits: BTreeSet<NodeId>,
}

impl Host {
    /// Whether its agent runs and is not paused.
    pub(crate) fn is_awake(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| !agent.paused)
    }

    /// When what is written now is flushed, if a flush takes `wait`: at once, or with all else that waits for the one under way.
    pub(crate) fn flushed_at(&mut self, now: Time, wait: Time) -> Time {
        let [present, next] = &mut self.disk_free;
        if *present <= now {
            *present = *next;
        }
        if *present <= now {
            (*present, *next) = (now + wait, now + wait);
        } else if *next == *present {
            *next = *present + wait;
        }
        *next
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.agent.as_ref().map(|agent| &agent.node)
    }

    /// The agent, if it is still in this life.
    pub(crate) fn agent_of(&mut self, life: u64) -> Option<&mut Agent> {
        if self.life == life { self.agent.as_mut() } else { None }
    }
}
