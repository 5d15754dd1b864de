//! The one replica of an exclusive service: how long until it runs elsewhere, beside the bound that was printed, and for how long
//! nothing runs when it is moved on purpose.
//!
//! One run is: the app is placed, something happens to the host that runs it, its new process appears on another host, all is
//! made good. The time ends with the start of that process as the kernel tells it, and begins before the first thing is done. Meanwhile somebody looks
//! all the time at the kernel's tables whether two run, which would end the measurement.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::load::{Moment, Watch};
use super::options::Options;
use super::report::{Report, Table, say};
use super::sample::{HEADS, Sample, millis};
use crate::e2e::apps::{App, mesh_with_image};
use crate::lab::{Alone, Lab, PATIENCE, pause, until};

const HOSTS: usize = 3;
/// The lengths of leases, in seconds.
pub(super) const PROFILES: [u64; 3] = [6, 12, 30];
/// A replica that has just started is left alone for this long, and then for a part of the time between two renewals: what is left of
/// a lease when its holder is lost decides, so the runs are spread evenly over that time.
const REST: Duration = Duration::from_secs(3);

/// How often a lease is renewed in its time.
const RENEWALS: u32 = 4;

/// What happens to the host that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Its agent is killed and does not come back; the host is there.
    AgentKilled,
    /// It is drained.
    Drained,
    /// Nothing passes between it and the others.
    LinkCut,
    /// The link goes first and in silence, then everything is killed.
    PowerOff,
}

const CASES: [(&str, How); 4] = [
    ("power off", How::PowerOff),
    ("link cut", How::LinkCut),
    ("agent killed", How::AgentKilled),
    ("drained", How::Drained),
];

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// From what happened to the new process.
    failover: Duration,
    /// In which nothing ran.
    gap: Duration,
}

/// Measures all profiles, or the one that was asked for.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let profiles = PROFILES.iter().filter(|ttl| options.ttl.is_none_or(|asked| asked == **ttl));
    for ttl in profiles {
        report.heading(&format!("exclusive: a lease of {ttl} s"));
        let watch = Watch::start();
        let measured = profile(*ttl, options.runs, report);
        say(&format!("   {}", watch.told()));
        measured?;
    }
    Ok(())
}

fn profile(ttl: u64, runs: usize, report: &mut Report) -> Result<()> {
    let mut lab = mesh_with_image(HOSTS)?;
    let mut bound = Duration::ZERO;
    let mut all = Vec::new();
    for (what, how) in CASES {
        let mut times = Vec::new();
        for run in 0..u32::try_from(runs)? {
            let name = format!("x{}{run}", what.replace(' ', ""));
            let phase = Duration::from_secs(ttl) / RENEWALS * run / u32::try_from(runs)?;
            let (times_of_run, its_bound) = lose(&mut lab, &name, ttl, (how, REST + phase))?;
            times.push(times_of_run);
            bound = its_bound;
        }
        all.push((what, how, times));
    }
    let mut table = Table::new(&[&["ms", "until"], HEADS.as_slice(), &["bound"]].concat());
    for (what, how, times) in &all {
        let failover: Sample = times.iter().map(|one| one.failover).collect();
        let gap: Sample = times.iter().map(|one| one.gap).collect();
        let limit = if *how == How::Drained { String::new() } else { millis(bound) };
        let row = |until: &str, sample: &Sample, limit: &str| {
            let first = [(*what).to_owned(), until.to_owned()];
            [first.to_vec(), sample.cells(millis), vec![limit.to_owned()]].concat()
        };
        table.row(row("its process runs elsewhere", &failover, &limit));
        table.row(row("it runs again, since it last did", &gap, ""));
    }
    table.print();
    for (what, how, times) in &all {
        let worst = times.iter().map(|one| one.failover).max().unwrap_or_default();
        if *how != How::Drained {
            let target = format!("<= {} (the printed bound)", millis(bound));
            report.target(what, &format!("{} at most", millis(worst)), &target, worst <= bound);
        }
    }
    let left = lab.close()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// One run; with the bound that was printed.
fn lose(
    lab: &mut Lab,
    name: &str,
    ttl: u64,
    (how, rest): (How, Duration),
) -> Result<(Times, Duration)> {
    let lease = format!("x-mesh: {{guarantee: exclusive, lease: {{ttl: {ttl}s}}}}");
    let app = App::new(name, 1, None).with(&lease);
    app.place(lab)?;
    let bound = lab.bound(name)?;
    let victim = lab.host_of(name, &format!("{name}/web/0"))?;
    let others: Vec<usize> = (1..=HOSTS).filter(|number| *number != victim).collect();
    let other = *others.first().context("a mesh of one host")?;
    let node = format!("n{victim}");
    pause(rest);
    let alone = Alone::watch(lab, name);
    let lost = Moment::now()?;
    match how {
        How::AgentKilled => lab.host_mut(victim)?.kill_agent()?,
        How::Drained => drop(lab.ctl_at(other, &["drain", &node])?.done()?),
        How::LinkCut => lab.cut(&[victim], &others)?,
        How::PowerOff => lab.power_off(victim)?,
    }
    let mut ticks = None;
    until(Duration::from_secs(ttl) * 2 + PATIENCE, "it runs elsewhere", || {
        ticks = others
            .iter()
            .find_map(|number| Some(lab.host(*number).ok()?.containers_of(name).first()?.started));
        Ok(ticks.is_some())
    })?;
    let failover = Moment::of_ticks(ticks.context("it runs nowhere")?).since(lost);
    let gap = alone.seen()?.gap;
    match how {
        How::AgentKilled => {
            lab.host_mut(victim)?.start(&["run"])?;
            lab.until_serving(victim)?;
        }
        How::Drained => drop(lab.ctl(&["undrain", &node])?.done()?),
        How::LinkCut => lab.heal()?,
        How::PowerOff => lab.power_on(victim)?,
    }
    lab.until_alive(HOSTS)?;
    app.remove(lab)?;
    // A witness that restarted says nothing until the longest lease that it may have granted is over.
    pause(Duration::from_secs(ttl));
    Ok((Times { failover, gap }, bound))
}
