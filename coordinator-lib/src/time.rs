//! Time as the core sees it: an argument, never something to read.

use std::ops::Add;
use std::time::Duration;

/// A moment on one node's steady clock, counted from an arbitrary start.
///
/// Two nodes' instants cannot be compared, so this type has no wire form (invariant I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment `elapsed` after the start of the clock.
    #[must_use]
    pub const fn from_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the start of the clock this moment is.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long before this moment `earlier` was; zero when it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

/// Milliseconds since the Unix epoch on somebody's wall clock.
///
/// Wall clocks may be arbitrarily wrong: this orders concurrent edits and is shown to people, and decides nothing else. What most
/// of them say ([`crate::clocks`]) ends join tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub u64);

/// What the two steady clocks of one node showed at a moment: the time since boot, which counts suspension, and the raw
/// oscillator, which nobody slews.
///
/// Each of them errs in its own way: slewing moves the first, suspension only the first. Who must not believe too long takes
/// the clock that went further, and who must not forget too early the one that lags; then each errs on its safe side, and what
/// is left is the error of the crystal. Like an [`Instant`] it has no wire form (invariant I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Reading {
    boot: Duration,
    raw: Duration,
}

impl Reading {
    /// What the clocks show: `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`.
    #[must_use]
    pub const fn new(boot: Duration, raw: Duration) -> Self {
        Self { boot, raw }
    }

    /// The time since boot.
    #[must_use]
    pub const fn boot(self) -> Duration {
        self.boot
    }

    /// The time by the raw oscillator.
    #[must_use]
    pub const fn raw(self) -> Duration {
        self.raw
    }

    /// Whether `deadline` may have come, by either clock: for whoever must stop in time.
    #[must_use]
    pub fn may_be_past(self, deadline: Self) -> bool {
        self.boot >= deadline.boot || self.raw >= deadline.raw
    }

    /// Whether `deadline` has come for certain, by both clocks: for whoever must not let go too early.
    #[must_use]
    pub fn is_past(self, deadline: Self) -> bool {
        self.boot >= deadline.boot && self.raw >= deadline.raw
    }

    /// The later of both by each clock.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        Self { boot: self.boot.max(other.boot), raw: self.raw.max(other.raw) }
    }

    /// How long it may be until `deadline` has come for certain; zero when it has.
    #[must_use]
    pub fn until(self, deadline: Self) -> Duration {
        let boot = deadline.boot.saturating_sub(self.boot);
        boot.max(deadline.raw.saturating_sub(self.raw))
    }

    /// How long ago `earlier` was at least; zero when it may not have been yet.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let boot = self.boot.saturating_sub(earlier.boot);
        boot.min(self.raw.saturating_sub(earlier.raw))
    }

    /// How long it is at least until `deadline` may have come; zero when it may have.
    #[must_use]
    pub fn until_maybe(self, deadline: Self) -> Duration {
        let boot = deadline.boot.saturating_sub(self.boot);
        boot.min(deadline.raw.saturating_sub(self.raw))
    }
}

/// What all clocks of a node show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The steady clock: what timers go by.
    pub now: Instant,
    /// The lease clocks.
    pub reading: Reading,
    /// The wall clock.
    pub wall: WallTime,
}

impl Add<Duration> for Reading {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self { boot: self.boot.saturating_add(rhs), raw: self.raw.saturating_add(rhs) }
    }
}
