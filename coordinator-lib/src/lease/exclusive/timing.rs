//! How long things take and hold, and which relations between these times the argument needs.

use std::time::Duration;

/// The times of a lease. Made by [`Timing::of`], which refuses what would not be safe or could not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a grant holds at a witness (T).
    pub ttl: Duration,
    /// How long the grants of a first attempt hold: who fails to get a majority does not block others for long.
    pub ttl_first: Duration,
    /// How much later than its start the holder's last chance to be dead is (D, S1).
    pub valid: Duration,
    /// The longest time from a kill to an empty container (K).
    pub kill: Duration,
    /// What the workload gets from SIGTERM to SIGKILL when its lease ends (G).
    pub grace: Duration,
    /// How often a lease is renewed.
    pub renew: Duration,
    /// How long an answer is waited for before it is asked again.
    pub attempt: Duration,
}

/// By how much the rates of two clocks may differ from the true one, in thousandths: a crystal is wrong by a tenth of one.
pub(super) const RHO_PERMILLE: u32 = 10;
/// What a flushed answer over a slow link may take, 999 times of 1 000.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// The shortest and the longest time after which an answer is asked for again.
const ATTEMPT: [Duration; 2] = [Duration::from_millis(750), Duration::from_secs(2)];

/// A relation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// L1: a holder must be able to miss renewals before its container is told to stop.
    #[error(
        "a lease of {ttl:?} leaves no time for two more attempts to renew it: renewal {renew:?} + 2 x attempt {attempt:?} > {stop:?} until it must begin to stop (L1)"
    )]
    Renewals {
        /// T.
        ttl: Duration,
        /// The pause between renewals.
        renew: Duration,
        /// How long an answer is waited for.
        attempt: Duration,
        /// D − K − G.
        stop: Duration,
    },
    /// L2: a first grant must outlast its own answer, that of the first renewal, and the container's end.
    #[error(
        "a first grant of {ttl_first:?} does not outlast two answers of {answer:?} and the {end:?} that an end takes (L2)"
    )]
    First {
        /// The ttl of a first grant.
        ttl_first: Duration,
        /// The slowest answer.
        answer: Duration,
        /// G + K.
        end: Duration,
    },
    /// The ttl is out of range.
    #[error("a lease of {ttl:?} is not between {min:?} and {max:?}")]
    Range {
        /// T.
        ttl: Duration,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

impl Timing {
    /// The shortest lease: below, an ordinary pause of a busy host would end it.
    pub const TTL_MIN: Duration = Duration::from_secs(6);
    /// The longest one: nobody should wait longer for a host that is known to be gone.
    pub const TTL_MAX: Duration = Duration::from_mins(5);
    /// What a service gets that asks for nothing.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(12);

    /// The times that go with a lease of `ttl`.
    ///
    /// A quarter of it passes between renewals, so that one is missed without harm; the kill gets a sixth and the workload's end a
    /// sixth, within what they need and what is worth waiting for.
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn of(ttl: Duration) -> Result<Self, Broken> {
        let (min, max) = (Self::TTL_MIN, Self::TTL_MAX);
        if ttl < min || ttl > max {
            return Err(Broken::Range { ttl, min, max });
        }
        let second = Duration::from_secs(1);
        let kill = (ttl / 6).clamp(second, second * 3);
        let grace = (ttl / 6).clamp(second, second * 10);
        let [shortest, longest] = ATTEMPT;
        let it = Self {
            ttl,
            // A twentieth more than what it must outlast is more than twice ρ.
            ttl_first: ttl.min((ANSWER_MAX * 2 + kill + grace) * 21 / 20),
            valid: valid(ttl),
            kill,
            grace,
            renew: ttl / 4,
            attempt: (ttl / 15).clamp(shortest, longest),
        };
        it.check()?;
        Ok(it)
    }

    /// S2: how long after its start a lease that is not renewed begins to end.
    #[must_use]
    pub const fn stop(&self) -> Duration {
        self.valid.saturating_sub(self.kill).saturating_sub(self.grace)
    }

    /// L3: how long a slot whose holder is lost stays empty at most, where most of its witnesses answer at once: its lease ends, the next in
    /// line but one asks, and half a second for a busy machine. The start of the container comes on top.
    #[must_use]
    pub fn failover(&self) -> Duration {
        let ended = self.ttl * 1_000 / (1_000 - RHO_PERMILLE);
        ended + Duration::from_millis(300) + Duration::from_millis(500)
    }

    /// How long phase 1 waits for answers, and phase 2 for the first majority: for the slowest answer, and more.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.attempt.saturating_add(ANSWER_MAX)
    }

    fn check(&self) -> Result<(), Broken> {
        let (ttl, renew, attempt, stop) = (self.ttl, self.renew, self.attempt, self.stop());
        if renew + attempt * 2 > stop {
            return Err(Broken::Renewals { ttl, renew, attempt, stop });
        }
        let (ttl_first, answer, end) = (self.ttl_first, ANSWER_MAX, self.kill + self.grace);
        if valid(ttl_first) < answer * 2 + end {
            return Err(Broken::First { ttl_first, answer, end });
        }
        Ok(())
    }
}

/// S1: for how long a holder may rely on grants of `ttl`, from before it asked: D = T (1 − ρ) / (1 + ρ). By then its clock, if it
/// is slow by ρ, has let D / (1 − ρ) pass, and the witness's, if fast by ρ, T / (1 + ρ) at least.
pub(super) fn valid(ttl: Duration) -> Duration {
    ttl * (1_000 - RHO_PERMILLE) / (1_000 + RHO_PERMILLE)
}
