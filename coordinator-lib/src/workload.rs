//! One replica on this node: start, probe, run, start again, stop.
//!
//! ```text
//!            may start          started            first check passed
//!   Queued ───────────▶ Starting ──────▶ Running ─────────────────────▶ Running (ready)
//!     ▲                    │ cannot         │ ended                        │ checks fail
//!     │ back-off over      ▼                ▼                              ▼
//!     └─────────────── BackOff ◀────── restart policy               Running (unhealthy)
//!                          │ too often      │ none wanted
//!                          ▼                ▼
//!                        Broken           Ended                any ── stop ──▶ Stopping ──▶ Removing ──▶ Gone
//!                          ▲
//!                          └── Halting ◀── halt ── any that runs
//! ```
//! The machine never starts anything itself: it says what it wants by [`Do`] and learns by [`Observed`] what became of it.

mod health;
mod restart;

use std::time::Duration;

use self::health::Watch;
pub use self::restart::{BACK_OFF_MAX, RESTARTS_IN_A_ROW_MAX, back_off};
use crate::spec::{Healthcheck, RestartPolicy, Template};
use crate::time::Instant;

/// A run that lasted so long was a good one: the count of restarts in a row begins anew. Docker waits 10 s; a mesh can afford
/// more, since the count only decides when another node may try.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// What the machine wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Fetch the image if need be, and start the container.
    Start,
    /// Run the health check.
    Probe,
    /// Ask the container to stop, and kill it after its grace.
    Stop,
    /// Remove the container and its files.
    Remove,
}

/// What became of it, or happened by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It runs.
    Started,
    /// It could not be started.
    StartFailed {
        /// What went wrong, one line.
        reason: String,
        /// Whether trying again can help.
        transient: bool,
    },
    /// A health check ended.
    Probed {
        /// Why it failed, one line; `None` when it passed.
        failure: Option<String>,
    },
    /// The container ended by itself.
    Ended {
        /// Its exit code; `None` when how it ended is unknown.
        code: Option<i32>,
        /// True when it ended for want of memory.
        oom: bool,
    },
    /// It was stopped as asked; no process of it is left.
    Stopped,
    /// It was killed, and some of it is still there: it waits in the kernel, where no signal reaches. The end of it follows when that
    /// is over.
    Stuck {
        /// What is left, and what was done about it, one line.
        reason: String,
    },
    /// It was removed.
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Queued,
    Starting,
    Running { since: Instant },
    BackOff { until: Instant },
    Ended,
    Halting,
    Broken,
    Stopping,
    Removing,
    Gone,
}

/// One replica on this node.
#[derive(Debug, Clone)]
pub struct Workload {
    policy: RestartPolicy,
    watch: Watch,
    stage: Stage,
    /// Restarts since the last good run.
    in_a_row: u32,
    restarts: u32,
    detail: String,
    last_check: String,
    /// Its definition is not known, or not yet.
    stray: bool,
    /// Something of it survives being killed.
    stuck: bool,
}

impl Workload {
    /// A replica that is to be started.
    #[must_use]
    pub fn new(template: &Template) -> Self {
        Self {
            policy: template.restart,
            watch: Watch::new(template.healthcheck.as_ref().map(Clock::of)),
            stage: Stage::Queued,
            in_a_row: 0,
            restarts: 0,
            detail: String::new(),
            last_check: String::new(),
            stray: false,
            stuck: false,
        }
    }

    /// A replica that an earlier life of this agent started and that still runs. It counts as ready until a check says
    /// otherwise, for it served a moment ago (promise P6).
    #[must_use]
    pub fn adopted(template: &Template, now: Instant) -> Self {
        let mut workload = Self::new(template);
        workload.stage = Stage::Running { since: now };
        workload.watch.adopt(now);
        workload
    }

    /// A container whose definition is not known: it can only be stopped, unless the definition arrives.
    #[must_use]
    pub fn stray(now: Instant) -> Self {
        Self {
            policy: RestartPolicy::Never,
            watch: Watch::new(None),
            stage: Stage::Running { since: now },
            in_a_row: 0,
            restarts: 0,
            detail: String::new(),
            last_check: String::new(),
            stray: true,
            stuck: false,
        }
    }

    /// The definition of a stray has arrived: from now on it is a replica like others.
    pub fn recognise(&mut self, now: Instant, template: &Template) {
        if !self.stray {
            return;
        }
        let mut workload = Self::adopted(template, now);
        match self.stage {
            Stage::Running { .. } => {}
            Stage::Ended => workload.ended(now, None, false),
            Stage::Queued
            | Stage::Starting
            | Stage::BackOff { .. }
            | Stage::Halting
            | Stage::Broken
            | Stage::Stopping
            | Stage::Removing
            | Stage::Gone => return,
        }
        *self = workload;
    }

    /// Whether it waits for leave to start. The claim decides when; see [`Workload::start`].
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.stage == Stage::Queued
    }

    /// Whether a start is under way.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.stage == Stage::Starting
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Running { .. }) && self.watch.is_ready()
    }

    /// Whether it serves, and that was seen in this life of the agent: what somebody else may rely on. A container that was found
    /// running may have been about to start when the agent died.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.is_ready() && self.watch.is_proven()
    }

    /// Since when it runs without being healthy; `None` when it is healthy, was never ready, or does not run.
    #[must_use]
    pub fn unhealthy_since(&self) -> Option<Instant> {
        if matches!(self.stage, Stage::Running { .. }) {
            self.watch.unhealthy_since()
        } else {
            None
        }
    }

    /// Whether it ended and is not to be started again.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether this node should give up on it for a while.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.stage == Stage::Broken
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Removing | Stage::Gone)
    }

    /// Whether something of it survives being killed.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// How often it was started again.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The last thing that went wrong, for people; empty when nothing did.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Why the last check that failed did; empty when none did.
    #[must_use]
    pub fn last_check(&self) -> &str {
        &self.last_check
    }

    /// Leave to start, given once it is queued.
    pub fn start(&mut self, out: &mut Vec<Do>) {
        if self.is_queued() {
            self.stage = Stage::Starting;
            out.push(Do::Start);
        }
    }

    /// Stops it and keeps its files and its log, for whoever wants to know why.
    pub fn halt(&mut self, out: &mut Vec<Do>) {
        match self.stage {
            Stage::Starting | Stage::Running { .. } => {
                self.stage = Stage::Halting;
                out.push(Do::Stop);
            }
            Stage::Queued | Stage::BackOff { .. } => self.stage = Stage::Broken,
            Stage::Ended
            | Stage::Halting
            | Stage::Broken
            | Stage::Stopping
            | Stage::Removing
            | Stage::Gone => {}
        }
    }

    /// Ends it: stops what runs and removes what is left.
    pub fn stop(&mut self, out: &mut Vec<Do>) {
        match self.stage {
            Stage::Starting | Stage::Running { .. } => {
                self.stage = Stage::Stopping;
                out.push(Do::Stop);
            }
            Stage::Queued | Stage::BackOff { .. } | Stage::Ended | Stage::Broken => {
                self.stage = Stage::Removing;
                out.push(Do::Remove);
            }
            // The stop is under way already; what follows it changes.
            Stage::Halting => self.stage = Stage::Stopping,
            Stage::Stopping | Stage::Removing | Stage::Gone => {}
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Instant, observed: Observed, out: &mut Vec<Do>) {
        self.stuck = match &observed {
            Observed::Stuck { .. } => true,
            Observed::Probed { .. } => self.stuck,
            Observed::Started
            | Observed::StartFailed { .. }
            | Observed::Ended { .. }
            | Observed::Stopped
            | Observed::Removed => false,
        };
        match (observed, &self.stage) {
            (Observed::Started, Stage::Starting) => {
                self.stage = Stage::Running { since: now };
                self.watch.begin(now);
            }
            (Observed::StartFailed { reason, transient }, Stage::Starting) => {
                self.detail = reason;
                if transient { self.again(now) } else { self.stage = Stage::Broken }
            }
            (Observed::Probed { failure }, Stage::Running { .. }) => {
                self.watch.result(now, failure.is_none());
                if let Some(why) = failure {
                    self.last_check = format!("health check: {why}");
                }
                // Checks that fail while it comes up are no news.
                if self.watch.unhealthy_since().is_some() {
                    self.detail.clone_from(&self.last_check);
                }
            }
            (Observed::Ended { code, oom }, Stage::Starting | Stage::Running { .. }) => {
                self.ended(now, code, oom);
            }
            // Whatever the start came to, the stop comes after it: both end with the container's removal.
            (Observed::Stopped | Observed::Ended { .. }, Stage::Stopping) => {
                self.stage = Stage::Removing;
                out.push(Do::Remove);
            }
            (Observed::Stopped | Observed::Ended { .. }, Stage::Halting) => {
                self.stage = Stage::Broken;
            }
            (Observed::Removed, Stage::Removing) => self.stage = Stage::Gone,
            (Observed::Stuck { reason }, Stage::Running { .. }) => {
                // It serves nobody, and what it is to do next comes with its end.
                self.detail = reason;
                self.stage = Stage::Starting;
            }
            (
                Observed::Stuck { reason },
                Stage::Starting | Stage::Halting | Stage::Stopping | Stage::Removing,
            ) => self.detail = reason,
            _ => {}
        }
    }

    /// Looks at the clock.
    pub fn on_time(&mut self, now: Instant, out: &mut Vec<Do>) {
        match self.stage {
            Stage::BackOff { until } if until <= now => self.stage = Stage::Queued,
            Stage::Running { since } => {
                if now.since(since) >= GOOD_RUN {
                    self.in_a_row = 0;
                }
                if self.watch.is_due(now) {
                    out.push(Do::Probe);
                }
            }
            Stage::Queued
            | Stage::Starting
            | Stage::BackOff { .. }
            | Stage::Ended
            | Stage::Halting
            | Stage::Broken
            | Stage::Stopping
            | Stage::Removing
            | Stage::Gone => {}
        }
    }

    /// When [`Workload::on_time`] wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::BackOff { until } => Some(until),
            Stage::Running { .. } => self.watch.next_deadline(),
            Stage::Queued
            | Stage::Starting
            | Stage::Ended
            | Stage::Halting
            | Stage::Broken
            | Stage::Stopping
            | Stage::Removing
            | Stage::Gone => None,
        }
    }

    fn ended(&mut self, now: Instant, code: Option<i32>, oom: bool) {
        if let Stage::Running { since } = self.stage
            && now.since(since) >= GOOD_RUN
        {
            self.in_a_row = 0;
        }
        self.detail = match (code, oom) {
            (_, true) => "killed by the kernel: out of memory".to_owned(),
            (Some(code), false) => format!("ended with exit code {code}"),
            (None, false) => "ended, and how is not known".to_owned(),
        };
        if restart::is_wanted(self.policy, code, self.in_a_row) {
            self.again(now);
        } else {
            self.stage = Stage::Ended;
        }
    }

    fn again(&mut self, now: Instant) {
        if self.in_a_row >= RESTARTS_IN_A_ROW_MAX {
            self.stage = Stage::Broken;
            return;
        }
        self.stage = Stage::BackOff { until: now + back_off(self.in_a_row) };
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.restarts = self.restarts.saturating_add(1);
    }
}

/// The numbers of a health check, without what it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    interval: Duration,
    retries: u32,
    start_period: Duration,
    start_interval: Duration,
}

impl Clock {
    const fn of(check: &Healthcheck) -> Self {
        Self {
            interval: check.interval,
            retries: check.retries,
            start_period: check.start_period,
            start_interval: check.start_interval,
        }
    }
}

#[cfg(test)]
mod tests;
