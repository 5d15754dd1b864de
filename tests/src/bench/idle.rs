//! What an agent takes of its host while nothing happens: three hosts with ten containers each.
//!
//! Memory is the proportional share that the kernel tells (PSS): pages that several processes share are divided among them.
//! The processor time is that of the last part of the wait, when all that follows a start is over.

use anyhow::{Context as _, Result, ensure};

use super::load::Watch;
use super::options::Options;
use super::report::{Report, Table, say};
use super::usage::{Busy, Memory, Share, shims};
use crate::e2e::apps::{App, mesh_with_image};
use crate::lab::{Lab, pause};

/// The hosts, and the containers of each.
const HOSTS: usize = 3;
const CONTAINERS: usize = 10;
/// The targets.
const AGENT_KIB: u64 = 25 << 10;
const SHIM_KIB: u64 = 1 << 10;
const CORE_PERMILLE: f64 = 5.0;

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
