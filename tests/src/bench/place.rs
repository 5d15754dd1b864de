//! An app is placed: how long until its first replica runs, beside `docker service create`.
//!
//! Ours begins before agentctl is started, and with everything that it does: it asks for the release that holds, plans, signs,
//! and hands in. Swarm is asked over the engine's socket, without the time that the `docker` command would take.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::load::{Moment, Watch};
use super::options::Options;
use super::report::{Report, Table, say};
use super::sample::{HEADS, Sample, millis, ratio};
use super::swarm::{self, Swarm, Tuning};
use crate::e2e::apps::{App, mesh_with_image};
use crate::lab::{Lab, PATIENCE, Programs, until};

/// The hosts of either side.
const HOSTS: usize = 3;
/// The target.
const RATIO: f64 = 0.5;

/// The times of both sides.
#[derive(Debug, Default)]
struct Pair {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

/// Measures it.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    report.heading("place: until the first replica's process runs");
    let watch = Watch::start();
    let mut pair = Pair::default();
    let measured = pair.measure(options);
    let [ours, theirs] =
        [&pair.ours, &pair.theirs].map(|times| times.iter().copied().collect::<Sample>());
    let mut table = Table::new(&[&["ms"], HEADS.as_slice()].concat());
    for (what, sample) in [("agentctl place", &ours), ("Swarm, service create", &theirs)] {
        if sample.len() > 0 {
            table.row([vec![what.to_owned()], sample.cells(millis)].concat());
        }
    }
    table.print();
    if let Some(ratio) = ratio(&ours, &theirs) {
        report.target("ours / Swarm, medians", &format!("{ratio:.2}"), "<= 0.50", ratio <= RATIO);
    }
    say(&format!("   {}", watch.told()));
    measured
}

impl Pair {
    fn measure(&mut self, options: &Options) -> Result<()> {
        let lab = mesh_with_image(HOSTS)?;
        let peer = || Swarm::new(HOSTS, &Programs::find()?, Tuning::Default);
        let swarm = options.with_peers.then(peer).transpose()?;
        for run in 0..options.runs {
            self.ours.push(place(&lab, run)?);
            if let Some(swarm) = &swarm {
                self.theirs.push(create(swarm, run)?);
            }
        }
        let mut left = lab.close()?;
        if let Some(swarm) = swarm {
            left.extend(swarm.close()?);
        }
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        Ok(())
    }
}

fn place(lab: &Lab, run: usize) -> Result<Duration> {
    let app = App::new(&format!("p{run}"), 1, None);
    let path = app.write(lab)?;
    let begun = Moment::now()?;
    lab.ctl(&["place", "--yes", "--detach", &path])?.done()?;
    let mut started = None;
    until(PATIENCE, "the replica runs", || {
        started = lab.hosts().find_map(|host| Some(host.containers_of(&app.name).first()?.started));
        Ok(started.is_some())
    })?;
    lab.until_ready(&app.name, 1)?;
    app.remove(lab)?;
    Ok(Moment::of_ticks(started.context("it runs nowhere")?).since(begun))
}

fn create(swarm: &Swarm, run: usize) -> Result<Duration> {
    let service = format!("p{run}");
    let begun = Moment::now()?;
    swarm.create(1, &service)?;
    let mut started = None;
    until(swarm::PATIENCE, "the task runs", || {
        started = swarm.containers().first().map(|one| one.started);
        Ok(started.is_some())
    })?;
    swarm.remove(1, &service)?;
    Ok(Moment::of_ticks(started.context("it runs nowhere")?).since(begun))
}
