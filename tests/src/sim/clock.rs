//! The one true time of a run, and the clocks of the hosts, which differ from it.

use std::time::Duration;

use mesh_coordinator::time::{Instant, WallTime};

/// True time, in microseconds since the beginning of the run. No host sees it.
pub(crate) type Time = u64;

pub(crate) const MILLI: Time = 1_000;
pub(crate) const SECOND: Time = 1_000_000;

/// The clocks of one host.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// How much faster than true time the steady clock runs, in parts per million.
    pub(crate) drift_ppm: i64,
    /// What the steady clock showed when the run began.
    pub(crate) start: u64,
    /// How far the wall clock is off, in milliseconds; steps at will.
    pub(crate) wall_off_ms: i64,
}

const MILLION: i128 = 1_000_000;
/// What wall clocks show when a run begins: a moment in 2026.
const EPOCH_MS: i64 = 1_790_000_000_000;

impl Clock {
    pub(crate) fn local(&self, at: Time) -> Instant {
        let elapsed = i128::from(at) * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        Instant::from_start(Duration::from_micros(self.start + elapsed as u64))
    }

    /// The first moment of true time at which the steady clock shows `local`.
    pub(crate) fn global(&self, local: Instant) -> Time {
        let elapsed =
            (local.since_start().as_nanos().div_ceil(1_000) as u64).saturating_sub(self.start);
        let rate = MILLION + i128::from(self.drift_ppm);
        (i128::from(elapsed) * MILLION + rate - 1).div_euclid(rate) as u64
    }

    pub(crate) fn wall(&self, at: Time) -> WallTime {
        WallTime((EPOCH_MS + self.wall_off_ms + (at / MILLI) as i64) as u64)
    }
}
