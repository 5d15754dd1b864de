//! How long things take and hold, and which relations between these times the argument needs.

use std::time::Duration;

/// The times of a lease. Made by [`Timing::of`], which refuses what would not be safe or could not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// L2: a first grant must outlast the answers and a kill.
    #[error(
        "a first grant of {ttl_first:?} does not outlast an answer of {answer:?} and a kill of {kill:?} (L2)"
    )]
    First {
        /// The ttl of a first grant.
        ttl_first: Duration,
        /// The slowest answer.
        answer: Duration,
        /// K, from a kill to an empty container.
        kill: Duration,
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
        let it = Self {
            ttl,
            ttl_first: ttl.min(kill * 2 + second * 2),
            valid: valid(ttl),
            kill,
            grace: (ttl / 6).clamp(second, second * 10),
            renew: ttl / 4,
            attempt: ttl / 15,
        };
        it.check()?;
        Ok(it)
    }

    /// S2: how long after its start a lease that is not renewed begins to end.
    #[must_use]
    pub const fn stop(&self) -> Duration {
        self.valid.saturating_sub(self.kill).saturating_sub(self.grace)
    }

    /// How long one attempt of phase 1 waits for answers.
    #[must_use]
    pub const fn prepare(&self) -> Duration {
        self.attempt.saturating_mul(2)
    }

    fn check(&self) -> Result<(), Broken> {
        let (ttl, renew, attempt, stop) = (self.ttl, self.renew, self.attempt, self.stop());
        if renew + attempt * 2 > stop {
            return Err(Broken::Renewals { ttl, renew, attempt, stop });
        }
        let (ttl_first, answer, kill) = (self.ttl_first, ANSWER_MAX, self.kill);
        if valid(ttl_first) <= answer + kill {
            return Err(Broken::First { ttl_first, answer, kill });
        }
        Ok(())
    }
}

/// S1: for how long a holder may rely on grants of `ttl`, from before it asked: D = T (1 − ρ) / (1 + ρ). By then its clock, if it
/// is slow by ρ, has let D / (1 − ρ) pass, and the witness's, if fast by ρ, T / (1 + ρ) at least.
pub(super) fn valid(ttl: Duration) -> Duration {
    ttl * (1_000 - RHO_PERMILLE) / (1_000 + RHO_PERMILLE)
}
