//! The judge: of what the programs wrote and when faults began and ended, and of nothing else.
//!
//! Of each slot, with its starts in the order of their first lines:
//!
//! * **Never two.** No start writes its first line before all earlier ones have written their last.
//! * **Tokens rise.** A holder is a host between two losses of its power. From holder to holder the token is higher than any before;
//!   with one holder it never falls, and only a container that is started again in its place has the one that it had.
//! * **It comes back.** While nothing writes, and what is promised applies, no more than the printed bound and the start of a
//!   container passes.
//!
//! *What is promised applies* while all that is wrong at a time can be put down to one host: a lost host, its agent, its guards, its
//! links. Then most witnesses of every slot are there, whichever they are, and so is a node that suits it. A fault counts from when it begins until
//! `settle` after it was made good, since a witness that has restarted says nothing for the length of a lease (W4), and an agent
//! takes nothing before it has heard the others (C1). So of each gap the longest stretch is judged in which one host explains
//! every fault, be it the first part, the last, or all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::history::{Run, Said};

#[cfg(test)]
mod tests;

/// What a fault keeps from doing its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touches {
    /// More than one host: while it lasts, nothing comes back that stops.
    All,
    /// One host.
    Host(usize),
    /// The link between two: one of them may be thought of as missing, whichever.
    Link(usize, usize),
    /// Nobody: all must go on as if nothing were.
    Nobody,
}

impl Touches {
    /// Whether it does not matter if this host is as good as lost.
    const fn is_explained_by(self, host: usize) -> bool {
        match self {
            Self::All => false,
            Self::Host(one) => one == host,
            Self::Link(one, other) => one == host || other == host,
            Self::Nobody => true,
        }
    }
}

/// A fault, from its beginning until it was made good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) what: String,
    pub(crate) touches: Touches,
    /// When the host had lost all that ran: what it is afterwards is another holder. `None` when it keeps it.
    pub(crate) boot: Option<Duration>,
    pub(crate) began: Duration,
    /// `None` while it lasts.
    pub(crate) ended: Option<Duration>,
}

/// What was promised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    /// The printed bound.
    pub(crate) bound: Duration,
    /// What a container's start takes.
    pub(crate) start: Duration,
    /// How long a fault matters after it was made good.
    pub(crate) settle: Duration,
}

/// A time in which nothing of a slot ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) slot: String,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// The longest stretch of it in which what is promised applied.
    pub(crate) judged: Duration,
}

impl Gap {
    pub(crate) const fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What should not have been.
    pub(crate) violations: Vec<String>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) n_starts: usize,
    /// Starts that wrote no line.
    pub(crate) n_silent: usize,
}

/// Judges all starts of all slots until `now`.
pub(crate) fn judge(
    slots: &[String],
    runs: &[Run],
    windows: &[Window],
    promise: Promise,
    now: Duration,
) -> Verdict {
    let mut verdict = Verdict { n_starts: runs.len(), ..Verdict::default() };
    let mut of_slots: BTreeMap<&str, Vec<(&Run, Said)>> =
        slots.iter().map(|slot| (slot.as_str(), Vec::new())).collect();
    for run in runs {
        if let Some(wrong) = &run.wrong {
            verdict.violations.push(format!("{}: {wrong}", run.name()));
        }
        match run.said {
            Some(said) => of_slots.entry(&run.slot).or_default().push((run, said)),
            None => verdict.n_silent += 1,
        }
    }
    for (slot, mut runs) in of_slots {
        runs.sort_by_key(|(run, said)| (said.first, run.name()));
        if runs.is_empty() {
            verdict.violations.push(format!("{slot}: nothing of it ever ran"));
        }
        alone(&runs, &mut verdict.violations);
        rising(&runs, windows, &mut verdict.violations);
        for gap in gaps(slot, &runs, windows, promise.settle, now) {
            let allowed = promise.bound + promise.start;
            if gap.judged > allowed {
                let (length, judged) = (gap.length(), gap.judged);
                let (from, to) = (seconds(gap.from), seconds(gap.to));
                verdict.violations.push(format!(
                    "{slot}: nothing of it ran for {length:.2?} (from {from} to {to}), {judged:.2?} of it \
                     while one host explains every fault; {allowed:.2?} are allowed"
                ));
            }
            verdict.gaps.push(gap);
        }
    }
    verdict
}

/// Moments are told in seconds of the clock that the lines have.
pub(crate) fn seconds(at: Duration) -> String {
    format!("{:.3}", at.as_secs_f64())
}

/// That no start overlaps an earlier one.
fn alone(runs: &[(&Run, Said)], violations: &mut Vec<String>) {
    let mut before: Option<(&Run, Said)> = None;
    for &(run, said) in runs {
        if let Some((earlier, its)) = before
            && said.first <= its.last
        {
            let both = said.last.min(its.last).saturating_sub(said.first);
            violations.push(format!(
                "two run at one moment, for {both:.3?}: {} until {} (token {}), and {} from {} (token {})",
                earlier.name(),
                seconds(its.last),
                its.token,
                run.name(),
                seconds(said.first),
                said.token
            ));
        }
        // The one that runs longest is the one that may still be there.
        before = before.filter(|(_, its)| its.last > said.last).or(Some((run, said)));
    }
}

/// That tokens rise from holder to holder.
fn rising(runs: &[(&Run, Said)], windows: &[Window], violations: &mut Vec<String>) {
    let mut highest = 0;
    for (number, &(run, said)) in runs.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|number| runs.get(number)).copied();
        if let Some((earlier, its)) = before {
            let is_same_holder = earlier.host == run.host
                && boots(run.host, said.first, windows) == boots(run.host, its.first, windows);
            let goes_on = is_same_holder && earlier.container == run.container;
            let rises = said.token > highest || (goes_on && said.token == its.token);
            if !rises {
                violations.push(format!(
                    "a token did not rise: {} has {}, after {} of {}; the highest was {highest}",
                    run.name(),
                    said.token,
                    its.token,
                    earlier.name()
                ));
            }
        }
        highest = highest.max(said.token);
    }
}

/// How often a host had lost its power by then.
fn boots(host: usize, by: Duration, windows: &[Window]) -> usize {
    let is_one = |window: &&Window| {
        window.boot.is_some_and(|at| at <= by) && window.touches == Touches::Host(host)
    };
    windows.iter().filter(is_one).count()
}

/// The times in which nothing ran, the one that lasts until now too.
fn gaps(
    slot: &str,
    runs: &[(&Run, Said)],
    windows: &[Window],
    settle: Duration,
    now: Duration,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut add = |from: Duration, to: Duration| {
        let judged = explained(from, to, windows, settle);
        gaps.push(Gap { slot: slot.to_owned(), from, to, judged });
    };
    let mut until: Option<Duration> = None;
    for (_, said) in runs {
        if let Some(from) = until.filter(|until| *until < said.first) {
            add(from, said.first);
        }
        until = until.max(Some(said.last));
    }
    if let Some(from) = until.filter(|until| *until < now) {
        add(from, now);
    }
    gaps
}

/// The longest stretch between two moments in which one host explains every fault.
fn explained(from: Duration, to: Duration, windows: &[Window], settle: Duration) -> Duration {
    let open: Vec<(Touches, Duration, Duration)> = windows
        .iter()
        .map(|it| (it.touches, it.began, it.ended.map_or(Duration::MAX, |at| at + settle)))
        .filter(|(_, began, over)| *began < to && *over > from)
        .collect();
    let hosts: BTreeSet<usize> = open
        .iter()
        .flat_map(|(touches, ..)| match *touches {
            Touches::Host(host) => vec![host],
            Touches::Link(one, other) => vec![one, other],
            Touches::All | Touches::Nobody => Vec::new(),
        })
        .collect();
    // Where nothing is wrong any host explains it.
    let hosts = hosts.into_iter().chain([0]);
    let stretch = |host: usize| {
        let mut others: Vec<(Duration, Duration)> = open
            .iter()
            .filter(|(touches, ..)| !touches.is_explained_by(host))
            .map(|(_, began, over)| (*began, *over))
            .collect();
        others.sort_unstable();
        let (mut longest, mut since) = (Duration::ZERO, from);
        for (began, over) in others {
            longest = longest.max(began.saturating_sub(since));
            since = since.max(over);
        }
        longest.max(to.saturating_sub(since))
    };
    hosts.map(stretch).max().unwrap_or_default()
}
