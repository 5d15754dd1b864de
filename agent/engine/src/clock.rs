//! The engine's clocks: a steady one that decides, and the wall clock for records and for people.

use std::time::Duration;

use mesh_coordinator::time::{Instant, WallTime};

/// Both clocks of one agent.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: tokio::time::Instant,
    /// Added to the wall clock, in milliseconds; lets tests live in another year.
    wall_offset_ms: i64,
}

impl Clock {
    /// Clocks that begin now. `wall_offset_ms` is added to what the host's wall clock says.
    #[must_use]
    pub fn new(wall_offset_ms: i64) -> Self {
        Self { start: tokio::time::Instant::now(), wall_offset_ms }
    }

    /// The steady clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_start(self.start.elapsed())
    }

    /// The moment of the steady clock as tokio's timers want it.
    #[must_use]
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        self.start + at.since_start()
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        #[expect(
            clippy::disallowed_types,
            reason = "the one place that reads the wall clock, for stamps and display"
        )]
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let ms =
            u64::try_from(since_epoch.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX);
        WallTime(ms.saturating_add_signed(self.wall_offset_ms))
    }
}
