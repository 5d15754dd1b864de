//! When to probe, and what the results mean.

use std::time::Duration;

use super::Clock;
use crate::time::Instant;

/// Until the first check has passed, checks come in quick succession whatever the interval: a replica that is ready should not
/// wait for half a minute to be told so. They start at this pause and double up to [`EAGER_MAX`].
const EAGER_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two checks before the first has passed.
const EAGER_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) struct Watch {
    clock: Option<Clock>,
    state: State,
    began: Instant,
    failures: u32,
    /// When the next check is due; `None` while one is under way or none is wanted.
    due: Option<Instant>,
    eager: Duration,
    /// Whether readiness was seen in this life of the agent, and not only assumed of a container that was found running.
    proven: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unproven,
    Ready,
    Unhealthy { since: Instant },
}

impl Watch {
    pub(super) const fn new(clock: Option<Clock>) -> Self {
        Self {
            clock,
            state: State::Unproven,
            began: Instant::ZERO,
            failures: 0,
            due: None,
            eager: EAGER_MIN,
            proven: false,
        }
    }

    /// The container runs as of now.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now;
        self.failures = 0;
        self.eager = EAGER_MIN;
        self.proven = self.clock.is_none();
        self.state = if self.clock.is_some() { State::Unproven } else { State::Ready };
        self.due = self.clock.map(|_| now + EAGER_MIN);
    }

    /// The container ran and served already.
    pub(super) fn adopt(&mut self, now: Instant) {
        self.begin(now);
        self.state = State::Ready;
        self.due = self.clock.map(|_| now);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) const fn is_proven(&self) -> bool {
        self.proven
    }

    pub(super) const fn unhealthy_since(&self) -> Option<Instant> {
        match self.state {
            State::Unhealthy { since } => Some(since),
            State::Unproven | State::Ready => None,
        }
    }

    /// Whether a check is due; it counts as under way from then on.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
        }
        due
    }

    pub(super) const fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn result(&mut self, now: Instant, passed: bool) {
        let Some(clock) = self.clock else { return };
        if passed {
            self.failures = 0;
            self.proven = true;
            self.state = State::Ready;
        } else if self.state != State::Unproven || now.since(self.began) >= clock.start_period {
            self.failures = self.failures.saturating_add(1);
            self.judge(now, clock);
        }
        self.due = Some(now + self.pause(now, clock));
    }

    fn judge(&mut self, now: Instant, clock: Clock) {
        // Before the first success the checks come faster than asked for, so failures count by time and not by number.
        let patience = clock.start_period + clock.interval.saturating_mul(clock.retries);
        let failed = match self.state {
            State::Unproven => now.since(self.began) >= patience,
            State::Ready => self.failures >= clock.retries,
            State::Unhealthy { .. } => false,
        };
        if failed {
            self.state = State::Unhealthy { since: now };
        }
    }

    fn pause(&mut self, now: Instant, clock: Clock) -> Duration {
        if self.state != State::Unproven {
            return clock.interval;
        }
        let eager = self.eager;
        self.eager = eager.saturating_mul(2).min(EAGER_MAX);
        let asked = if now.since(self.began) < clock.start_period {
            clock.start_interval
        } else {
            clock.interval
        };
        eager.min(asked)
    }
}
