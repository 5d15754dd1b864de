//! What to measure, and how often.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::exclusive::PROFILES;

pub(super) const USAGE: &str =
    "usage: tests/bench [PART ...] [--runs N] [--idle-for SECONDS] [--ttl SECONDS] [--labs N] [--slots N] [--alone] | --clean | --help

parts, all of them unless some are named:
  failover  a host is lost: until its replica runs elsewhere, beside Docker Swarm
  exclusive the same for a service that must never run twice, by the length of its lease
  leases    what many leases cost that are held: traffic, flushes, processor, memory
  scale     the same in the simulator, for meshes of 3 to 300 nodes
  place     an app is placed: until its first replica runs, beside Docker Swarm
  start     a container is created and started, beside runc and Docker
  idle      memory and processor of agents that have nothing to do
  gossip    what gossip costs and how quick it is, for 3, 30 and 100 nodes
  all

  --runs N            how often each thing is measured (20)
  --idle-for SECONDS  how long idle agents are left alone before they are looked at (600)
  --ttl SECONDS       exclusive: leases of this length only, 6, 12 or 30 (all of them)
  --labs N            exclusive: how many labs of three hosts are measured at once (8)
  --slots N           leases: how many exclusive slots there are (1000)
  --alone             ours only, without the peers
  --clean             removes what a killed run left, and ends";

/// The usual number of runs.
const RUNS: usize = 20;
/// The usual number of labs at once. They mostly wait: for a lease to end, or for a witness that was restarted.
const LABS: usize = 8;
/// The usual number of slots: a service has no more replicas.
const SLOTS: usize = 1_000;
/// How long idle agents are left alone.
const IDLE: Duration = Duration::from_mins(10);

/// A part of the benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Failover,
    Exclusive,
    Leases,
    Scale,
    Place,
    Start,
    Idle,
    Gossip,
}

const PARTS: &[Part] = &[
    Part::Failover,
    Part::Exclusive,
    Part::Leases,
    Part::Scale,
    Part::Place,
    Part::Start,
    Part::Idle,
    Part::Gossip,
];

impl Part {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Failover => "failover",
            Self::Leases => "leases",
            Self::Scale => "scale",
            Self::Place => "place",
            Self::Start => "start",
            Self::Idle => "idle",
            Self::Gossip => "gossip",
        }
    }
}

/// What to do.
#[derive(Debug)]
pub(super) enum Wish {
    Measure(Options),
    Clean,
    Help,
}

/// What to measure.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) parts: Vec<Part>,
    pub(super) runs: usize,
    pub(super) idle_for: Duration,
    /// The one length of leases that is measured, in seconds; `None` for all.
    pub(super) ttl: Option<u64>,
    /// How many labs are measured at once where they mostly wait.
    pub(super) labs: usize,
    /// How many exclusive slots are held at once.
    pub(super) slots: usize,
    /// Whether the peers are measured too.
    pub(super) with_peers: bool,
}

fn profile(ttl: u64) -> Result<u64> {
    ensure!(PROFILES.contains(&ttl), "--ttl: {ttl} is not one of {PROFILES:?}");
    Ok(ttl)
}

pub(super) fn read(mut words: impl Iterator<Item = String>) -> Result<Wish> {
    let mut options = Options {
        parts: Vec::new(),
        runs: RUNS,
        idle_for: IDLE,
        ttl: None,
        labs: LABS,
        slots: SLOTS,
        with_peers: true,
    };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let digits = words.next().with_context(|| format!("{word} needs a number"))?;
            digits.parse().with_context(|| format!("{digits:?} is not a number"))
        };
        match word.as_str() {
            "--runs" => options.runs = usize::try_from(number()?)?.max(1),
            "--idle-for" => options.idle_for = Duration::from_secs(number()?.max(1)),
            "--ttl" => options.ttl = Some(profile(number()?)?),
            "--labs" => options.labs = usize::try_from(number()?)?.max(1),
            "--slots" => options.slots = usize::try_from(number()?)?.clamp(1, SLOTS),
            "--alone" => options.with_peers = false,
            "--clean" => return Ok(Wish::Clean),
            "--help" | "-h" => return Ok(Wish::Help),
            "all" => options.parts.extend(PARTS),
            _ => match PARTS.iter().find(|part| part.name() == word) {
                Some(part) => options.parts.push(*part),
                None => bail!("{word:?} is no part of the benchmarks"),
            },
        }
    }
    if options.parts.is_empty() {
        options.parts.extend(PARTS);
    }
    options.parts.dedup();
    Ok(Wish::Measure(options))
}
