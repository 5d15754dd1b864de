//! The one true time of a run, and the clocks of the hosts, which differ from it.

use std::time::Duration;

use mesh_coordinator::time::{Instant, Moment, Reading, WallTime};

/// True time, in microseconds since the beginning of the run. No host sees it.
pub(crate) type Time = u64;

pub(crate) const MILLI: Time = 1_000;
pub(crate) const SECOND: Time = 1_000_000;

/// The clocks of one host.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// How much faster than true time the steady clock runs, in parts per million.
    pub(crate) drift_ppm: i64,
    /// How much faster than true time the raw oscillator runs, in parts per million. The time since boot goes with the steady clock
    /// while the host is awake.
    pub(crate) raw_ppm: i64,
    /// How long the host has slept. Only the time since boot counts that.
    pub(crate) slept: Time,
    /// How long all its clocks stood still, as those of a virtual machine do that is paused.
    pub(crate) stood: Time,
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
        Instant::from_start(self.shown(at.saturating_sub(self.slept + self.stood), self.drift_ppm))
    }

    /// The first moment of true time at which the steady clock shows `local`.
    pub(crate) fn global(&self, local: Instant) -> Time {
        self.elapsed(local.since_start(), self.drift_ppm) + self.slept + self.stood
    }

    fn shown(&self, at: Time, ppm: i64) -> Duration {
        let elapsed = i128::from(at) * (MILLION + i128::from(ppm)) / MILLION;
        Duration::from_micros(self.start + elapsed as u64)
    }

    /// How much time passed until a clock shows `local` that never stood still.
    fn elapsed(&self, local: Duration, ppm: i64) -> Time {
        let elapsed = (local.as_nanos().div_ceil(1_000) as u64).saturating_sub(self.start);
        let rate = MILLION + i128::from(ppm);
        (i128::from(elapsed) * MILLION + rate - 1).div_euclid(rate) as u64
    }

    /// What the lease clocks show. They err differently, as slewing makes them.
    pub(crate) fn reading(&self, at: Time) -> Reading {
        let boot = at.saturating_sub(self.stood);
        let raw = self.shown(boot.saturating_sub(self.slept), self.raw_ppm);
        Reading::new(self.shown(boot, self.drift_ppm), raw)
    }

    /// The first moment of true time at which either lease clock may show `deadline`.
    pub(crate) fn global_reading(&self, deadline: Reading) -> Time {
        let raw = self.elapsed(deadline.raw(), self.raw_ppm) + self.slept;
        self.elapsed(deadline.boot(), self.drift_ppm).min(raw) + self.stood
    }

    /// What all clocks show.
    pub(crate) fn moment(&self, at: Time) -> Moment {
        Moment { now: self.local(at), reading: self.reading(at), wall: self.wall(at) }
    }

    pub(crate) fn wall(&self, at: Time) -> WallTime {
        WallTime((EPOCH_MS + self.wall_off_ms + (at / MILLI) as i64) as u64)
    }
}
