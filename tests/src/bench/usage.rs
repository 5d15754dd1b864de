//! What a process takes of its host, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::{Host, process};

/// Processor time is told in ticks of this length.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that a process, a host's agent as a rule, has taken since its start, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    own: u64,
    /// What the helpers took that it waited for: the programs that look after the health of containers.
    helpers: u64,
}

/// The same as a part of a core, in percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) own: f64,
    pub(super) helpers: f64,
}

impl Busy {
    pub(super) fn of(host: &Host) -> Result<Self> {
        Self::of_process(host.agent_pid()?)
    }

    pub(super) fn of_process(pid: i32) -> Result<Self> {
        let stat = process::read(pid, "stat");
        let fields = stat.rsplit_once(')').context("the process has ended")?.1;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut pair = || -> Result<u64> {
            let (user, system) = (ticks.next().context("a short line")?, ticks.next());
            Ok(user? + system.context("a short line")??)
        };
        Ok(Self { own: pair()?, helpers: pair()? })
    }

    pub(super) fn since(self, before: &Self, counted: Duration) -> Share {
        let percent = |ticks: u64| {
            let busy = TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
            busy.as_secs_f64() / counted.as_secs_f64() * 100.0
        };
        Share {
            own: percent(self.own.saturating_sub(before.own)),
            helpers: percent(self.helpers.saturating_sub(before.helpers)),
        }
    }
}

/// What a process holds, in KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Its share of all that it uses.
    pub(super) share: u64,
    /// What it alone uses.
    pub(super) private: u64,
}

impl Memory {
    pub(super) fn of(pid: i32) -> Result<Self> {
        let text = process::read(pid, "smaps_rollup");
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        };
        let share = value("Pss:").context("the kernel does not tell what a process holds")?;
        let private = value("Private_Clean:").unwrap_or(0) + value("Private_Dirty:").unwrap_or(0);
        Ok(Self { share, private })
    }
}

/// The shims of a host: what was started as its program to be one, and is not on its way to be one of a health check. What they
/// run by now is another program.
pub(super) fn shims(host: &Host) -> Vec<i32> {
    let program = host.program().to_string_lossy().into_owned();
    let is_shim = |pid: &i32| {
        let words = process::read(*pid, "cmdline");
        let started_as = words.split('\0').take(2).collect::<Vec<_>>();
        started_as == [program.as_str(), "shim"] && !words.contains("/exec-")
    };
    process::all().filter(is_shim).collect()
}
