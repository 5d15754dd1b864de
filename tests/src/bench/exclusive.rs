//! The one replica of an exclusive service: how long until it runs elsewhere, beside the bound that was printed, and for how long
//! nothing runs when it is moved on purpose.
//!
//! One run is: the app is placed, something happens to the host that runs it, its new process appears on another host, all is
//! made good. The time ends with the start of that process as the kernel tells it, and begins before the first thing is done. Meanwhile somebody looks
//! all the time at the kernel's tables whether two run, which would end the measurement.
//!
//! A run is idle for most of its time: a lease has to end, and before the next run what a witness granted that was restarted. So several labs take
//! the runs from one list, each one after the other. How busy the machine was is printed beside the figures.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

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

/// An agent takes so long to begin at the most, from which moment on its word as a witness waits.
const SLACK: Duration = Duration::from_secs(2);

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
    ("agent killed", How::AgentKilled),
    ("link cut", How::LinkCut),
    ("drained", How::Drained),
];

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Times {
    how: How,
    /// From what happened to the new process.
    failover: Duration,
    /// In which nothing ran.
    gap: Duration,
    /// The bound that was printed.
    bound: Duration,
}

/// Measures all profiles, or the one that was asked for.
pub(super) fn measure(options: &Options, report: &mut Report) {
    let profiles = PROFILES.iter().filter(|ttl| options.ttl.is_none_or(|asked| asked == **ttl));
    for ttl in profiles {
        let labs = options.labs.min(options.runs * CASES.len());
        report.heading(&format!("exclusive: a lease of {ttl} s, {labs} labs at once"));
        let watch = Watch::start();
        profile(*ttl, options.runs, labs, report);
        say(&format!("   {}", watch.told()));
    }
}

fn profile(ttl: u64, runs: usize, labs: usize, report: &mut Report) {
    let next = AtomicUsize::new(0);
    let measured: Vec<_> = std::thread::scope(|scope| {
        let work = || scope.spawn(|| in_a_lab(ttl, runs, &next));
        let working: Vec<_> = (0..labs).map(|_| work()).collect();
        working.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut all = Vec::new();
    for lab in measured {
        let (times, outcome) =
            lab.unwrap_or_else(|_panic| (Vec::new(), Err(anyhow!("the measurement panicked"))));
        all.extend(times);
        if let Err(error) = outcome {
            report.failed("a lab", &error);
        }
    }
    show(&all, report);
}

/// Takes one run after the other from the list, and measures it in a lab of its own; what was measured until something went wrong, and that.
fn in_a_lab(ttl: u64, runs: usize, next: &AtomicUsize) -> (Vec<Times>, Result<()>) {
    let mut times = Vec::new();
    let measured = (|| {
        let mut lab = mesh_with_image(HOSTS)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            // The cases that take longest come first, so that all labs are done at about the same time.
            let Some((what, how)) = CASES.get(number / runs) else { break };
            let run = u32::try_from(number % runs)?;
            let name = format!("x{}{run}", what.replace(' ', ""));
            let phase = Duration::from_secs(ttl) / RENEWALS * run / u32::try_from(runs)?;
            times.push(lose(&mut lab, &name, ttl, (*how, REST + phase)).context(name)?);
        }
        let left = lab.close()?;
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    })();
    (times, measured)
}

fn show(all: &[Times], report: &mut Report) {
    let mut table = Table::new(&[&["ms", "until"], HEADS.as_slice(), &["bound"]].concat());
    let mut verdicts = Vec::new();
    for (what, how) in CASES {
        let times = || all.iter().filter(|one| one.how == how);
        let failover: Sample = times().map(|one| one.failover).collect();
        let gap: Sample = times().map(|one| one.gap).collect();
        let Some(bound) = times().map(|one| one.bound).min() else { continue };
        let is_bounded = how != How::Drained;
        let mut row = |until: &str, sample: &Sample, limit: String| {
            let first = [what.to_owned(), until.to_owned()];
            table.row([first.to_vec(), sample.cells(millis), vec![limit]].concat());
        };
        let limit = if is_bounded { millis(bound) } else { String::new() };
        row("its process runs elsewhere", &failover, limit);
        row("it runs again, since it last did", &gap, String::new());
        if is_bounded {
            verdicts.push((what, failover.max(), bound));
        }
    }
    table.print();
    for (what, worst, bound) in verdicts {
        let target = format!("<= {} (the printed bound)", millis(bound));
        report.target(what, &format!("{} at most", millis(worst)), &target, worst <= bound);
    }
}

/// One run.
fn lose(lab: &mut Lab, name: &str, ttl: u64, (how, rest): (How, Duration)) -> Result<Times> {
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
    let mut restarted = None;
    match how {
        How::AgentKilled => {
            restarted = Some(Instant::now());
            lab.host_mut(victim)?.start(&["run"])?;
            lab.until_serving(victim)?;
        }
        How::Drained => drop(lab.ctl(&["undrain", &node])?.done()?),
        How::LinkCut => lab.heal()?,
        How::PowerOff => {
            restarted = Some(Instant::now());
            lab.power_on(victim)?;
        }
    }
    lab.until_alive(HOSTS)?;
    app.remove(lab)?;
    if let Some(restarted) = restarted {
        // A witness that restarted says nothing until the longest lease that it may have granted is over.
        pause((Duration::from_secs(ttl) + SLACK).saturating_sub(restarted.elapsed()));
    }
    Ok(Times { how, failover, gap, bound })
}
