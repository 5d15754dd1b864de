//! What an agent takes of its host while nothing happens: three hosts with ten containers each.
//!
//! Memory is the proportional share that the kernel tells (PSS): pages that several processes share are divided among them.
//! The processor time is that of the last part of the wait, when all that follows a start is over.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::load::Watch;
use super::options::Options;
use super::report::{Report, Table, say};
use crate::e2e::apps::{App, mesh_with_image};
use crate::lab::{Host, Lab, pause, process};

/// The hosts, and the containers of each.
const HOSTS: usize = 3;
const CONTAINERS: usize = 10;
/// The targets.
const AGENT_KIB: u64 = 25 << 10;
const SHIM_KIB: u64 = 1 << 10;
const CORE_PERMILLE: f64 = 5.0;
/// Processor time is told in ticks of this length.
const TICK: Duration = Duration::from_millis(10);

/// Measures it.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let seconds = options.idle_for.as_secs();
    report.heading(&format!(
        "idle: {HOSTS} hosts with {CONTAINERS} containers each, after {seconds} s of rest"
    ));
    let watch = Watch::start();
    let lab = mesh_with_image(HOSTS)?;
    let mut app = App::new("idle", HOSTS * CONTAINERS, Some(8100));
    // Checks as rare as Docker's are by default: each starts a program in the container, which is told apart.
    app.health = "{test: [CMD, /hello, health], interval: 30s, timeout: 2s, retries: 3}".to_owned();
    app.place(&lab)?;
    // The first fifth is for what follows a start.
    pause(options.idle_for / 5);
    let before: Vec<Busy> = lab.hosts().map(Busy::of).collect::<Result<_>>()?;
    let counted = options.idle_for * 4 / 5;
    pause(counted);
    let after: Vec<Busy> = lab.hosts().map(Busy::of).collect::<Result<_>>()?;
    let shares: Vec<Share> =
        after.iter().zip(&before).map(|(after, before)| after.since(before, counted)).collect();
    let told = show(&lab, &shares, report);
    say(&format!("   {}", watch.told()));
    let left = lab.close()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    told
}

fn show(lab: &Lab, shares: &[Share], report: &mut Report) -> Result<()> {
    let mut table = Table::new(&[
        "host",
        "containers",
        "agent PSS KiB",
        "private KiB",
        "core %",
        "its checks' core %",
        "shims private KiB: median",
        "max",
    ]);
    let (mut most, mut busiest, mut largest) = (0, 0.0, 0);
    for (host, share) in lab.hosts().zip(shares) {
        let agent = Memory::of(host.agent_pid()?)?;
        let mut shims = shims(host)
            .into_iter()
            .map(|pid| Ok(Memory::of(pid)?.private))
            .collect::<Result<Vec<u64>>>()?;
        shims.sort_unstable();
        let shim_max = shims.last().copied().context("a host without shims")?;
        table.row([
            host.name(),
            host.containers().len().to_string(),
            agent.share.to_string(),
            agent.private.to_string(),
            format!("{:.2}", share.own),
            format!("{:.2}", share.helpers),
            shims.get(shims.len() / 2).copied().unwrap_or(0).to_string(),
            shim_max.to_string(),
        ]);
        most = most.max(agent.share);
        busiest = f64::max(busiest, share.own);
        largest = largest.max(shim_max);
    }
    table.print();
    report.target("agent, PSS", &format!("{most} KiB"), "<= 25600 KiB", most <= AGENT_KIB);
    let is_met = busiest * 10.0 <= CORE_PERMILLE;
    report.target("agent, processor", &format!("{busiest:.2} %"), "<= 0.50 % of a core", is_met);
    let figure = format!("{largest} KiB");
    report.target("shim, private", &figure, "<= 1024 KiB", largest <= SHIM_KIB);
    Ok(())
}

/// The processor time that a host's agent has taken since its start, in ticks.
#[derive(Debug, Clone, Copy)]
struct Busy {
    own: u64,
    /// What the helpers took that it waited for: the programs that look after the health of containers.
    helpers: u64,
}

/// The same as a part of a core, in percent.
#[derive(Debug, Clone, Copy)]
struct Share {
    own: f64,
    helpers: f64,
}

impl Busy {
    fn of(host: &Host) -> Result<Self> {
        let stat = process::read(host.agent_pid()?, "stat");
        let fields = stat.rsplit_once(')').context("the agent has ended")?.1;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut pair = || -> Result<u64> {
            let (user, system) = (ticks.next().context("a short line")?, ticks.next());
            Ok(user? + system.context("a short line")??)
        };
        Ok(Self { own: pair()?, helpers: pair()? })
    }

    fn since(self, before: &Self, counted: Duration) -> Share {
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

/// The shims of a host: what was started as its program to be one, and is not on its way to be one of a health check. What they
/// run by now is another program.
fn shims(host: &Host) -> Vec<i32> {
    let program = host.program().to_string_lossy().into_owned();
    let is_shim = |pid: &i32| {
        let words = process::read(*pid, "cmdline");
        let started_as = words.split('\0').take(2).collect::<Vec<_>>();
        started_as == [program.as_str(), "shim"] && !words.contains("/exec-")
    };
    process::all().filter(is_shim).collect()
}

/// What a process holds, in KiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Its share of all that it uses.
    share: u64,
    /// What it alone uses.
    private: u64,
}

impl Memory {
    fn of(pid: i32) -> Result<Self> {
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
