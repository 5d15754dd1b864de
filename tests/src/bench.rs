//! The benchmarks: how quick a mesh is and what it costs, with the peers beside it on the same machine.
//!
//! Nothing here asserts a time: the figures are printed, each with its target and whether it was met, and with the load that
//! the machine was under. A ratio is always of two figures of one run. What runs is asked of the kernel, in the same way for
//! ours and for a peer.

mod docker;
mod example;
mod exclusive;
mod failover;
mod flushes;
mod gossip;
mod idle;
mod leases;
mod load;
mod options;
mod place;
mod report;
mod sample;
mod scale;
mod start;
mod swarm;
mod usage;

use std::process::ExitCode;

use anyhow::{Result, ensure};

use self::options::{Options, Part, Wish};
use self::report::Report;
use crate::e2e::Machine;
use crate::lab;

/// Runs what the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1)) {
        Ok(Wish::Measure(options)) => options,
        Ok(Wish::Clean) => {
            clean();
            return ExitCode::SUCCESS;
        }
        Ok(Wish::Help) => {
            report::say(options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            report::say(&format!("{error:#}\n{}", options::USAGE));
            return ExitCode::from(2);
        }
    };
    let missing = lab::missing(false);
    if !missing.is_empty() {
        report::say(&format!("skipped: {}", missing.join("; ")));
        return ExitCode::SUCCESS;
    }
    clean();
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::say(&format!("the benchmarks cannot go on: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Removes what benchmarks left that were killed.
fn clean() {
    for name in lab::of_dead_makers() {
        lab::clean(&name);
    }
}

/// Whether all could be measured, and was removed afterwards; what was measured is in the report.
fn measure(options: &Options) -> Result<bool> {
    let machine = Machine::look()?;
    let mut report = Report::new();
    report.heading("the machine");
    for line in load::machine() {
        report::say(&line);
    }
    for part in &options.parts {
        let measured = match part {
            Part::Failover => {
                failover::measure(options, &mut report);
                Ok(())
            }
            Part::Exclusive => {
                exclusive::measure(options, &mut report);
                Ok(())
            }
            Part::Leases => leases::measure(options, &mut report),
            Part::Place => place::measure(options, &mut report),
            Part::Start => start::measure(options, &mut report),
            Part::Scale => scale::measure(&mut report),
            Part::Idle => idle::measure(options, &mut report),
            Part::Gossip => gossip::measure(&mut report),
        };
        if let Err(error) = measured {
            report.failed(part.name(), &error);
        }
    }
    // Also of the parts that failed.
    if let Err(error) = machine.compare().and_then(|()| nothing_is_left()) {
        report.failed("the machine is not as it was before", &error);
    }
    Ok(report.close())
}

fn nothing_is_left() -> Result<()> {
    let mut left = Vec::new();
    for name in lab::names_made() {
        left.extend(lab::left_behind(&name)?);
    }
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
