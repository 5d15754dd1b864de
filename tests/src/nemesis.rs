//! Faults drawn from a seed, done to real hosts with services that must never run twice, and a judge who knows nothing of the mesh.
//!
//! ```text
//!   plan ── what, where, how long ──▶ hunt ──▶ the hosts of a lab ──▶ containers, each with one program
//!   (a seed)                           │ when each fault began and ended           │ a line every 10 ms
//!                                      ▼                                           ▼
//!                                    check ◀────────── history ◀───────────── histories (files on the hosts' disks)
//! ```
//!
//! `tests/nemesis` hunts for as long as one likes and stops at the first thing that should not have been; the end to end tests
//! hunt for a few minutes. What processes do in real time is not the same twice, so a seed repeats what is done and not what comes of it.

mod act;
mod check;
mod histories;
mod history;
mod hunt;
mod options;
mod plan;
mod service;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::check::{Gap, seconds};
use self::hunt::{Hunt, Outcome};
use self::options::{Options, Wish};
use self::plan::Plan;
pub(crate) use self::service::push_image;
use crate::e2e::{self, Machine};
use crate::lab::{self, Lab};

/// Hunts as the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1)) {
        Ok(Wish::Hunt(options)) => options,
        Ok(Wish::Clean) => {
            clean();
            return ExitCode::SUCCESS;
        }
        Ok(Wish::Help) => {
            say(options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&format!("{error:#}\n{}", options::USAGE));
            return ExitCode::from(2);
        }
    };
    let missing = lab::missing(true);
    if !missing.is_empty() {
        say(&format!("skipped: {}", missing.join("; ")));
        return ExitCode::SUCCESS;
    }
    clean();
    match command(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED {error:#}"));
            let Options { minutes, seed, n_hosts } = options;
            say(&format!(
                "again: tests/nemesis --minutes {minutes} --seed {seed} --hosts {n_hosts}"
            ));
            ExitCode::FAILURE
        }
    }
}

/// Removes what hunts left that were killed.
fn clean() {
    for name in lab::of_dead_makers() {
        lab::clean(&name);
    }
}

fn say(line: &str) {
    // Nobody may be reading, and the exit code tells the rest.
    let (Ok(()) | Err(_)) = writeln!(std::io::stdout(), "{line}");
}

fn command(options: &Options) -> Result<()> {
    let Options { minutes, seed, n_hosts } = *options;
    let machine = Machine::look()?;
    say(&format!("seed {seed}, {n_hosts} hosts, {minutes} minutes"));
    // One more joins, whose disk is small.
    let mut lab = Lab::with_mesh(n_hosts.saturating_sub(1))?;
    let hunted = hunt(&mut lab, seed, Duration::from_mins(minutes), say);
    let left = lab.close()?;
    hunted?;
    ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    machine.compare()
}

/// A few minutes of it on the hosts of a story, which are as they were afterwards.
///
/// # Errors
/// When something ran twice, or did not come back.
pub(crate) fn story(lab: &mut Lab, time: Duration) -> Result<()> {
    let (seed, n) = (e2e::nemesis::seed(), lab.n_alive()?);
    e2e::note(&format!("MESH_E2E_SEED={seed}"));
    hunt(lab, seed, time, e2e::note)?;
    hunt::leave(lab)?;
    lab.until_alive(n)
}

/// What is not covered happens, and the judge finds it: else it would find nothing that happens by mistake.
///
/// # Errors
/// When it does not, or finds something else.
pub(crate) fn control(lab: &mut Lab) -> Result<()> {
    let (seed, n) = (e2e::nemesis::seed(), lab.n_alive()?);
    let verdict = Hunt::begin(lab, seed)?.without_guards()?;
    for violation in &verdict.violations {
        e2e::note(violation);
        ensure!(violation.contains("becomes/0"), "the others have their guards: {violation}");
    }
    hunt::forget(seed)?;
    hunt::leave(lab)?;
    lab.until_alive(n)
}

/// Hunts, and says what came of it. The files of a hunt that found something stay.
fn hunt(lab: &mut Lab, seed: u64, time: Duration, say: fn(&str)) -> Result<()> {
    let hunted = Hunt::begin(lab, seed).and_then(|hunt| hunt.go_on(Plan::new(seed), time));
    let violations = hunted.as_ref().map(|outcome| {
        tell(outcome, say);
        outcome.verdict.violations.clone()
    });
    let dir = hunt::dir_of(seed);
    if matches!(&violations, Ok(violations) if violations.is_empty()) {
        return hunt::forget(seed);
    }
    for host in lab.hosts() {
        // What can be kept of them is.
        let (Ok(_) | Err(_)) = std::fs::copy(host.log(), dir.join(format!("{}.log", host.name())));
    }
    say(&format!("histories, journal and the agents' logs: {}", dir.display()));
    let violations = violations.unwrap_or_default();
    hunted?;
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    Ok(())
}

/// Says what was done and how long nothing ran.
fn tell(outcome: &Outcome, say: fn(&str)) {
    let Outcome { verdict, n_steps, n_lines, counts, notes } = outcome;
    for note in notes {
        say(note);
    }
    let n_faults: usize = counts.values().sum();
    let counts: Vec<String> = counts.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    say(&format!("{n_faults} faults in {n_steps} steps: {}", counts.join(", ")));
    let (starts, silent) = (verdict.n_starts, verdict.n_silent);
    say(&format!("{starts} starts, {silent} of them without a line; {n_lines} lines"));
    let gaps = &verdict.gaps;
    let sum: Duration = gaps.iter().map(Gap::length).sum();
    let mean = sum / u32::try_from(gaps.len().max(1)).unwrap_or(u32::MAX);
    say(&format!("nothing of a slot ran {} times, for {mean:.2?} in the mean", gaps.len()));
    if let Some(gap) = gaps.iter().max_by_key(|gap| gap.length()) {
        let (slot, from, length) = (&gap.slot, seconds(gap.from), gap.length());
        say(&format!("longest: {length:.2?}, {slot} from {from}"));
    }
    if let Some(gap) = gaps.iter().max_by_key(|gap| gap.judged) {
        let (slot, from, judged) = (&gap.slot, seconds(gap.from), gap.judged);
        say(&format!("longest judged: {judged:.2?}, {slot} from {from}"));
    }
    for violation in &verdict.violations {
        say(&format!("VIOLATION {violation}"));
    }
}
