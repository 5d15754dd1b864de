//! A host is lost: how long until its replica runs on another one, beside Docker Swarm treated in the same way.
//!
//! One run is: an app of one replica, the host that runs it is lost, the replica's new process appears elsewhere, the host comes
//! back. The time ends with the start of that process as the kernel tells it (on its clock since boot, in steps of 10 ms); it
//! begins before the first thing is done to the host. Runs of ours and of Swarm take turns, so that the machine's moods meet both.

mod budget;
mod ours;

use std::time::Duration;

use anyhow::{Result, ensure};

use self::budget::Steps;
use self::ours::Ours;
use super::load::{Moment, Watch};
use super::options::Options;
use super::report::{Report, Table, say};
use super::sample::{HEADS, Sample, millis, ratio};
use super::swarm::{self, Swarm, Tuning};
use crate::lab::{Programs, pause, until};

/// The hosts of either side.
const HOSTS: usize = 3;
/// After a host has come back the others are given this time for what they do then.
const REST: Duration = Duration::from_secs(3);
/// The targets.
const MEDIAN: Duration = Duration::from_millis(1_500);
const WORST: Duration = Duration::from_millis(2_500);

/// How a host is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The link goes first and in silence, then everything is killed: nothing says goodbye.
    PowerOff,
    /// Everything is killed; the kernel closes its connections.
    Kill,
}

/// Which host is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// One that nobody talks to, and that does not lead.
    Another,
    /// The one that agentctl talks to; of Swarm, the one that leads.
    Entry,
}

const CASES: &[(&str, How, Whose)] = &[
    ("power off", How::PowerOff, Whose::Another),
    (
        "power off of the host that agentctl talks to (Swarm: the leader)",
        How::PowerOff,
        Whose::Entry,
    ),
    ("everything killed", How::Kill, Whose::Another),
];

const TUNINGS: &[(&str, Tuning)] = &[
    ("Swarm as it comes", Tuning::Default),
    ("Swarm with heartbeats of 1 s and no delay of restarts", Tuning::Quick),
];

/// Measures all cases.
pub(super) fn measure(options: &Options, report: &mut Report) {
    let mut all = Vec::new();
    let tunings = if options.with_peers { TUNINGS } else { &[("", Tuning::Default)] };
    for (beside, tuning) in tunings {
        for (what, how, whose) in CASES {
            let beside =
                if options.with_peers { format!(", beside {beside}") } else { String::new() };
            report.heading(&format!("failover: {what}{beside}"));
            let mut pair = Pair::default();
            let watch = Watch::start();
            let peer = options.with_peers.then_some(*tuning);
            let measured = pair.measure(options.runs, (*how, *whose), peer);
            pair.show(report);
            if *how == How::Kill {
                say(
                    "   (its kernel lives and refuses connections: rule M3 waits 5 s for the agent to come back)",
                );
            }
            say(&format!("   {}", watch.told()));
            all.append(&mut pair.ours);
            if let Err(error) = measured {
                report.failed(what, &error);
            }
        }
    }
    report.heading("failover: where the time goes, all runs of ours");
    budget::show(&all);
}

/// The times of both sides.
#[derive(Debug, Default)]
struct Pair {
    ours: Vec<Steps>,
    theirs: Vec<Duration>,
}

impl Pair {
    fn measure(&mut self, runs: usize, case: (How, Whose), peer: Option<Tuning>) -> Result<()> {
        let programs = Programs::find()?;
        let mut ours = Ours::new()?;
        let mut swarm = peer.map(|tuning| Swarm::new(HOSTS, &programs, tuning)).transpose()?;
        for run in 0..runs {
            self.ours.push(ours.lose(run, case)?);
            if let Some(swarm) = &mut swarm {
                self.theirs.push(lose(swarm, run, case)?);
            }
        }
        let mut left = ours.close()?;
        if let Some(swarm) = swarm {
            left.extend(swarm.close()?);
        }
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    }

    fn show(&self, report: &mut Report) {
        let started: Sample = self.ours.iter().map(|steps| steps.started).collect();
        let theirs: Sample = self.theirs.iter().copied().collect();
        let answered: Sample = self.ours.iter().map(|steps| steps.answered).collect();
        let mut table = Table::new(&[&["ms until"], HEADS.as_slice()].concat());
        for (what, sample) in [
            ("ours: the replacement's process", &started),
            ("Swarm: the replacement's process", &theirs),
            ("ours: a client has its answer", &answered),
        ] {
            if sample.len() > 0 {
                table.row([vec![what.to_owned()], sample.cells(millis)].concat());
            }
        }
        table.print();
        if let Some(ratio) = ratio(&started, &theirs) {
            say(&format!("   ours / Swarm, medians: {ratio:.3}"));
        }
        if started.len() > 0 {
            let (median, worst) = (started.median(), started.max());
            let shown = |time| format!("{} ms", millis(time));
            report.target("median", &shown(median), "<= 1500 ms", median <= MEDIAN);
            report.target("worst", &shown(worst), "<= 2500 ms", worst <= WORST);
        }
    }
}

/// One run of Swarm.
fn lose(swarm: &mut Swarm, run: usize, (how, whose): (How, Whose)) -> Result<Duration> {
    let service = format!("f{run}");
    let leader = swarm.leader(1)?;
    let other = if leader == 1 { 2 } else { 1 };
    let (victim, survivor) = match whose {
        Whose::Another => (other, leader),
        Whose::Entry => (leader, other),
    };
    swarm.create_on(leader, &service, victim)?;
    pause(REST);
    let lost = Moment::now()?;
    match how {
        How::PowerOff => swarm.power_off(victim)?,
        How::Kill => swarm.kill(victim)?,
    }
    let mut started = None;
    until(swarm::PATIENCE, "the task runs elsewhere", || {
        started = swarm.containers_but_on(victim).first().map(|one| one.started);
        Ok(started.is_some())
    })?;
    let started = Moment::of_ticks(started.unwrap_or_default());
    swarm.power_on(victim)?;
    swarm.until_ready(survivor)?;
    swarm.remove(survivor, &service)?;
    pause(REST);
    Ok(started.since(lost))
}
