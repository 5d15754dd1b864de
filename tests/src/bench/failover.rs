//! A host is lost: how long until its replica runs on another one, beside Docker Swarm treated in the same way.
//!
//! One run is: an app of one replica, the host that runs it is lost, the replica's new process appears elsewhere, the host comes
//! back. The time ends with the start of that process as the kernel tells it (on its clock since boot, in steps of 10 ms); it
//! begins before the first thing is done to the host.

mod budget;
mod ours;

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use mesh_coordinator::membership::RESTART_GRACE;

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

/// Measures all cases.
///
/// Swarm as it comes takes half a minute and longer for each, so its runs of all cases go on in the background meanwhile; a few
/// milliseconds that the others take from it do not show in that. Ours and the tuned Swarm take turns.
pub(super) fn measure(options: &Options, report: &mut Report) {
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let patient: Vec<_> = if options.with_peers {
            let begin = |case| scope.spawn(move || alone(options.runs, case));
            CASES.iter().map(|(_, how, whose)| begin((*how, *whose))).collect()
        } else {
            Vec::new()
        };
        let mut measured = Vec::new();
        for (what, how, whose) in CASES {
            say(&format!("   measures: {what}"));
            let watch = Watch::start();
            let mut times = Times::default();
            let result = times.measure(options, (*how, *whose));
            measured.push((*what, *how, times, result, watch.told()));
        }
        let mut patient = patient.into_iter();
        for (what, how, mut times, result, load) in measured {
            report.heading(&format!("failover: {what}"));
            let result = result.and(patient.next().map_or(Ok(()), |swarm| {
                let swarm = swarm.join().map_err(|_panic| anyhow!("the measurement panicked"))?;
                times.default = swarm?;
                Ok(())
            }));
            times.show(how, report);
            say(&format!("   {load}"));
            all.append(&mut times.ours);
            if let Err(error) = result {
                report.failed(what, &error);
            }
        }
    });
    report.heading("failover: where the time goes, all runs of ours");
    budget::show(&all);
}

/// Swarm as it comes, in one case.
fn alone(runs: usize, case: (How, Whose)) -> Result<Vec<Duration>> {
    let mut swarm = Swarm::new(HOSTS, &Programs::find()?, Tuning::Default)?;
    let times = (0..runs).map(|run| lose(&mut swarm, run, case)).collect();
    nothing_left(&swarm.close()?)?;
    times
}

fn nothing_left(left: &[String]) -> Result<()> {
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// The times of one case.
#[derive(Debug, Default)]
struct Times {
    ours: Vec<Steps>,
    /// Swarm as it comes.
    default: Vec<Duration>,
    /// Swarm with heartbeats of a second and no delay of restarts.
    quick: Vec<Duration>,
}

impl Times {
    fn measure(&mut self, options: &Options, case: (How, Whose)) -> Result<()> {
        let programs = Programs::find()?;
        let mut ours = Ours::new()?;
        let quick = || Swarm::new(HOSTS, &programs, Tuning::Quick);
        let mut swarm = options.with_peers.then(quick).transpose()?;
        for run in 0..options.runs {
            self.ours.push(ours.lose(run, case)?);
            if let Some(swarm) = &mut swarm {
                self.quick.push(lose(swarm, run, case)?);
            }
        }
        nothing_left(&ours.close()?)?;
        swarm.map_or(Ok(()), |swarm| nothing_left(&swarm.close()?))
    }

    fn show(&self, how: How, report: &mut Report) {
        let ours: Sample = self.ours.iter().map(|steps| steps.started).collect();
        let answered: Sample = self.ours.iter().map(|steps| steps.answered).collect();
        let default: Sample = self.default.iter().copied().collect();
        let quick: Sample = self.quick.iter().copied().collect();
        let mut table = Table::new(&[&["ms until"], HEADS.as_slice()].concat());
        for (what, sample) in [
            ("ours: the replacement's process", &ours),
            ("ours: a client has its answer", &answered),
            ("Swarm as it comes: the replacement's process", &default),
            ("Swarm, heartbeats of 1 s, restarts at once: the same", &quick),
        ] {
            if sample.len() > 0 {
                table.row([vec![what.to_owned()], sample.cells(millis)].concat());
            }
        }
        table.print();
        for (peer, sample) in [("Swarm as it comes", &default), ("tuned Swarm", &quick)] {
            if let Some(ratio) = ratio(&ours, sample) {
                say(&format!("   ours / {peer}, medians: {ratio:.3}"));
            }
        }
        if how == How::Kill {
            let grace = RESTART_GRACE.as_millis();
            say(&format!(
                "   (its kernel lives and refuses connections: rule M3 waits {grace} ms for the agent to come back)"
            ));
        }
        if ours.len() > 0 {
            let (median, worst) = (ours.median(), ours.max());
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
