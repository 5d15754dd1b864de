//! The heartbeat of the host guard: how the agent knows that it is there and awake.

use super::fence::Moment;
use super::numbers;

/// The length of it.
pub(crate) const BEAT_LEN: usize = 7 * 8;

const MARK: u64 = u64::from_le_bytes(*b"meshbea1");

/// An older one is none. The guard wakes every 100 ms, and one that is late by more than half of what the shortest lease leaves for
/// a kill (1 s) could not keep it.
const AGE_MS_MAX: u64 = 500;

/// What the guard says at each wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) boot: u128,
    /// When it began to look.
    pub(crate) at: Moment,
    /// How many runs are past their end and still have processes, long after these were killed.
    pub(crate) n_stuck: u64,
}

impl Beat {
    /// As it is written.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { boot, at, n_stuck } = *self;
        let [high, low] = numbers::halves(boot);
        numbers::seal(&[MARK, high, low, at.boot, at.raw, n_stuck])
    }

    /// What was written; `None` when it was not written whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [mark, high, low, boot, raw, n_stuck] = numbers::open(bytes)?;
        let beat = Self { boot: numbers::whole(high, low), at: Moment { boot, raw }, n_stuck };
        (mark == MARK).then_some(beat)
    }

    /// Whether it tells of a guard that is awake: of this boot, and recent by both clocks.
    pub(crate) fn is_fresh(&self, boot: u128, now: Moment) -> bool {
        let age = AGE_MS_MAX * 1_000_000;
        let limit =
            Moment { boot: self.at.boot.saturating_add(age), raw: self.at.raw.saturating_add(age) };
        self.boot == boot && !now.may_be_past(limit)
    }
}

#[cfg(test)]
mod tests {
    //! What is written comes back, and what is old counts for nothing.

    use super::{BEAT_LEN, Beat, Moment};

    const fn beat() -> Beat {
        Beat {
            boot: 3 << 64 | 4,
            at: Moment { boot: 1_000_000_000, raw: 2_000_000_000 },
            n_stuck: 2,
        }
    }

    #[test]
    fn a_beat_comes_back_and_a_torn_one_does_not() {
        let bytes = beat().encode();
        assert_eq!(Beat::decode(&bytes), Some(beat()));
        for byte in 0..BEAT_LEN {
            let mut torn = bytes.clone();
            torn[byte] ^= 0x10;
            assert_eq!(Beat::decode(&torn), None, "{byte}");
        }
        assert_eq!(Beat::decode(&bytes[1..]), None);
        assert_eq!(Beat::decode(&[0; BEAT_LEN]), None);
    }

    #[test]
    fn a_beat_is_fresh_for_half_a_second_of_either_clock() {
        let later = |boot: u64, raw: u64| Moment {
            boot: 1_000_000_000 + boot * 1_000_000,
            raw: 2_000_000_000 + raw * 1_000_000,
        };
        assert!(beat().is_fresh(beat().boot, later(0, 0)));
        assert!(beat().is_fresh(beat().boot, later(499, 499)));
        assert!(!beat().is_fresh(beat().boot, later(500, 0)));
        assert!(!beat().is_fresh(beat().boot, later(0, 500)));
        assert!(!beat().is_fresh(5, later(0, 0)), "of another boot");
    }
}
