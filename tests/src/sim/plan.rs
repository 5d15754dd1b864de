//! What kind of day a seed has: sizes, delays, and which faults happen at all.
//!
//! Each seed enables a random part of the faults ("swarm testing"; Groce and others, 2012): when everything happens in every
//! run, what needs many quiet seconds never happens.

use mesh_coordinator::prng::Prng;
use mesh_coordinator::rules::Rule;

use super::clock::{MILLI, SECOND, Time};

/// A kind of fault, or of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// An agent is killed and comes back.
    Crash,
    /// An agent says that it restarts, and does.
    Restart,
    /// The same agent is killed again and again.
    Storm,
    /// A host loses power and comes back.
    PowerOff,
    /// A host is lost with its disk, for good.
    Wipe,
    /// An agent does nothing for a while (SIGSTOP, or a starved machine).
    Pause,
    /// Two hosts cannot reach each other.
    Cut,
    /// One host cannot reach another, which can reach it.
    OneWay,
    /// The mesh falls into two parts.
    Split,
    /// One host cannot reach anybody.
    Isolate,
    /// A wall clock steps.
    ClockStep,
    /// Containers start slowly or not at all.
    BadRuntime,
    /// A container ends by itself.
    ContainerCrash,
    /// Health checks of a container fail.
    Sick,
    /// A disk takes nothing.
    FullDisk,
    /// Several hosts lose power at once.
    Blow,
    /// A host sleeps, with all that runs on it. Of its clocks only the time since boot goes on.
    Suspend,
    /// A disk takes long for each flush.
    SlowDisk,
    /// A disk fails: what was written may be there or not.
    BadDisk,
    /// A node comes back with another store: its own was lost, or somebody put back an older state of it, which was noticed.
    NewStore,
}

impl Fault {
    pub(crate) const ALL: [Self; 20] = [
        Self::Crash,
        Self::Restart,
        Self::Storm,
        Self::PowerOff,
        Self::Wipe,
        Self::Pause,
        Self::Cut,
        Self::OneWay,
        Self::Split,
        Self::Isolate,
        Self::ClockStep,
        Self::BadRuntime,
        Self::ContainerCrash,
        Self::Sick,
        Self::FullDisk,
        Self::Blow,
        Self::Suspend,
        Self::SlowDisk,
        Self::BadDisk,
        Self::NewStore,
    ];

    /// Whether it befalls the ways between hosts, and not a host.
    pub(crate) const fn is_of_ways(self) -> bool {
        matches!(self, Self::Cut | Self::OneWay | Self::Split | Self::Isolate)
    }
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Act {
    /// Place an app, or a new release of it.
    Place,
    /// Change the number of replicas.
    Scale,
    /// Ask for a restart of a service.
    Restart,
    /// Stop an app, or start it again.
    Run,
    /// Remove an app; its name is placed again later.
    Remove,
    /// Drain a node, or end that.
    Drain,
    /// Change the labels of a node.
    Label,
    /// Admit a new node.
    Join,
    /// Remove a node.
    Leave,
    /// Make somebody an operator who may deploy, or end that.
    Dismiss,
    /// Two operators place a new app under one name, by two agents that do not know of each other's.
    PlaceTwice,
}

impl Act {
    pub(crate) const ALL: [Self; 11] = [
        Self::Place,
        Self::Scale,
        Self::Restart,
        Self::Run,
        Self::Remove,
        Self::Drain,
        Self::Label,
        Self::Join,
        Self::Leave,
        Self::Dismiss,
        Self::PlaceTwice,
    ];
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) n_hosts: usize,
    pub(crate) n_hosts_max: usize,
    pub(crate) n_apps: usize,
    /// Containers per node that the reservations of the services leave room for.
    pub(crate) roomy: bool,
    /// The least way of a message.
    pub(crate) delay: Time,
    /// What is added to it on the ways to and from one host; `None` as a rule.
    pub(crate) lag: Option<(usize, Time)>,
    /// What is added at random.
    pub(crate) jitter: Time,
    pub(crate) loss_permille: u64,
    pub(crate) repeat_permille: u64,
    pub(crate) gossip_interval: Time,
    pub(crate) flush: Time,
    pub(crate) fetch: Time,
    pub(crate) start: Time,
    pub(crate) drift_ppm: i64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) acts: Vec<Act>,
    /// The usual pause between two strokes, and between two acts.
    pub(crate) stroke_pause: Time,
    pub(crate) act_pause: Time,
    /// Whether new apps have exclusive services.
    pub(crate) exclusive: bool,
    /// When everything is mended.
    pub(crate) heal: Time,
    /// When the run is over.
    pub(crate) end: Time,
}

impl Plan {
    /// The day of a seed.
    pub(crate) fn draw(rng: &mut Prng) -> Self {
        let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| rng.chance(350)).collect();
        if rng.chance(50) {
            faults.clear();
        }
        let mut acts = vec![Act::Place, Act::Scale];
        let usual =
            Act::ALL.into_iter().filter(|act| !matches!(act, Act::Dismiss | Act::PlaceTwice));
        acts.extend(usual.filter(|_| rng.chance(500)));
        let n_hosts = 5 + rng.below(4) as usize;
        let mut plan = Self {
            n_hosts,
            n_hosts_max: n_hosts + 2,
            n_apps: 1 + rng.below(3) as usize,
            roomy: rng.chance(800),
            delay: 100 + rng.below(3) * rng.below(3) * MILLI,
            lag: None,
            jitter: 100 + rng.below(10) * MILLI,
            loss_permille: if rng.chance(400) { 1 + rng.below(30) } else { 0 },
            repeat_permille: if rng.chance(400) { 1 + rng.below(50) } else { 0 },
            gossip_interval: [250, 250, 500, 1000][rng.below(4) as usize] * MILLI,
            flush: MILLI + rng.below(20) * MILLI,
            fetch: 200 * MILLI + rng.below(3_000) * MILLI,
            start: 50 * MILLI + rng.below(800) * MILLI,
            drift_ppm: if rng.chance(500) { 10_000 } else { 50 },
            faults,
            acts,
            stroke_pause: (2 + rng.below(28)) * SECOND,
            act_pause: (5 + rng.below(45)) * SECOND,
            exclusive: false,
            heal: 480 * SECOND,
            end: 600 * SECOND,
        };
        if rng.chance(300) {
            plan.acts.push(Act::Dismiss);
        }
        plan.exclusive = rng.chance(400);
        if plan.exclusive && rng.chance(400) {
            plan.acts.push(Act::PlaceTwice);
        }
        plan
    }

    /// Adds what makes a mesh without `rule` go wrong, if that is rare.
    pub(crate) fn give_occasion(&mut self, rule: Rule) {
        let faults: &[Fault] = if rule == Rule::GiveUp {
            &[Fault::BadRuntime]
        } else if rule == Rule::BothMajorities {
            &[Fault::NewStore, Fault::PowerOff, Fault::Split, Fault::Cut, Fault::Isolate]
        } else if rule == Rule::AskLiving {
            &[Fault::NewStore, Fault::PowerOff, Fault::Wipe, Fault::Split, Fault::Isolate]
        } else {
            return;
        };
        self.faults = faults.to_vec();
        self.exclusive |= matches!(rule, Rule::BothMajorities | Rule::AskLiving);
    }
}
