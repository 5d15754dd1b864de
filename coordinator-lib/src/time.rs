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
