//! The machine: what it is, and how busy it was while something was measured.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel tells the start of a process, and the time since boot, in steps of this length.
const TICK: Duration = Duration::from_millis(10);

/// A moment on the clock by which the kernel stamps the start of processes: the time since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    /// The present one, rounded down to a step.
    pub(super) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/uptime").context("cannot read the time since boot")?;
        let uptime = text.split(' ').next().and_then(|text| text.split_once('.'));
        let (seconds, hundredths) = uptime.context("/proc/uptime is not a time")?;
        let hundredths: u64 = hundredths.parse()?;
        Ok(Self(Duration::from_secs(seconds.parse()?) + Duration::from_millis(hundredths * 10)))
    }

    /// The start of a process, as the kernel tells it.
    pub(super) fn of_ticks(ticks: u64) -> Self {
        Self(TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// The time from another moment until this one; none when this one is the earlier.
    pub(super) const fn since(self, other: Self) -> Duration {
        self.0.saturating_sub(other.0)
    }
}

/// What the machine is.
pub(super) fn machine() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let n_cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    vec![
        format!("   {n_cores} cores, {}", value(&cpus, "model name")),
        format!("   memory {}", value(&memory, "MemTotal")),
        format!("   Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("   load before: {}", average()),
    ]
}

fn average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// How busy all cores have been since boot, in ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Cpu {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Cpu {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).map_while(|one| one.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        // The time of guests, which follows, is part of the user's.
        Self { all: ticks.iter().take(8).sum(), idle: at(3) + at(4), stolen: at(7) }
    }
}

/// Watches how busy the machine is.
#[derive(Debug)]
pub(super) struct Watch {
    before: String,
    begun: Cpu,
}

impl Watch {
    pub(super) fn start() -> Self {
        Self { before: average(), begun: Cpu::read() }
    }

    /// The load before, and how busy the machine was since.
    pub(super) fn told(&self) -> String {
        let now = Cpu::read();
        let all = now.all.saturating_sub(self.begun.all).max(1);
        let idle = now.idle.saturating_sub(self.begun.idle);
        let stolen = now.stolen.saturating_sub(self.begun.stolen);
        let percent = |part: u64| part * 100 / all;
        format!(
            "load before: {}; all cores were busy for {} % of the time, and taken from this machine for {} %",
            self.before,
            percent(all.saturating_sub(idle)),
            percent(stolen)
        )
    }
}
