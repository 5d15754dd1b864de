//! How old an operator's request is, told without a wall clock.
//!
//! Whoever wants to sign a request asks its target for a challenge first: the target's own steady time, and proof that it said so. The
//! proof is made with a secret that lives as long as the agent and is kept by nobody, so nothing has to be remembered of challenges,
//! nobody can make one for later, and what was signed for an earlier life of the agent is worth nothing to the next one.

use std::io;
use std::time::Duration;

use mesh_coordinator::id::Hash;
use mesh_ports::request::Challenge;
use tokio::time::Instant;

/// How long a challenge may be used: `agentctl` signs at once, on lines as bad as may be. Whoever passes a request on can hold it back
/// no longer than this.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// What the secret is for.
const PURPOSE: &[u8] = b"mesh challenge";

/// Gives out challenges, and knows its own.
pub(super) struct Challenges {
    secret: [u8; 32],
    start: Instant,
}

impl Challenges {
    /// With a secret of its own.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub(super) fn new() -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        Ok(Self { secret, start: Instant::now() })
    }

    /// Its clock: how long it has been there.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A challenge of this moment.
    pub(super) fn issue(&self, now: Duration) -> Challenge {
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.challenge(ms.to_be_bytes())
    }

    /// Until when the challenge may be used; `None` when it may not, because it is none of this life or too old.
    pub(super) fn until(&self, challenge: &Challenge, now: Duration) -> Option<Duration> {
        let (at, _proof) = challenge.0.split_first_chunk::<8>()?;
        let pairs = self.challenge(*at).0.into_iter().zip(challenge.0);
        // All bytes are looked at: how long it takes says nothing about the right ones.
        let difference = pairs.fold(0, |found, (own, theirs)| found | (own ^ theirs));
        let until = Duration::from_millis(u64::from_be_bytes(*at)).saturating_add(LIFETIME);
        (difference == 0 && now <= until).then_some(until)
    }

    fn challenge(&self, at: [u8; 8]) -> Challenge {
        let proof = Hash::of(&[PURPOSE, &self.secret, &at]);
        let mut challenge = [0; 24];
        let (first, rest) = challenge.split_at_mut(at.len());
        first.copy_from_slice(&at);
        rest.copy_from_slice(proof.0.split_at(rest.len()).0);
        Challenge(challenge)
    }
}

#[cfg(test)]
mod tests {
    //! A challenge is good for a minute, where it was given out.

    use std::time::Duration;

    use mesh_ports::request::Challenge;

    use super::{Challenges, LIFETIME};

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_challenge_ends_after_its_lifetime() {
        let challenges = Challenges::new().unwrap();
        let challenge = challenges.issue(NOW);
        let until = NOW + LIFETIME;
        for now in [NOW, until] {
            assert_eq!(challenges.until(&challenge, now), Some(until));
        }
        assert_eq!(challenges.until(&challenge, until + Duration::from_millis(1)), None);
    }

    #[test]
    fn a_challenge_of_another_life_or_of_ones_own_making_is_none() {
        let (challenges, next_life) = (Challenges::new().unwrap(), Challenges::new().unwrap());
        let challenge = challenges.issue(NOW);
        assert_eq!(next_life.until(&challenge, NOW), None);
        for place in 0..24 {
            let mut other = challenge;
            other.0[place] ^= 1;
            assert_eq!(challenges.until(&other, NOW), None, "byte {place}");
        }
        assert_eq!(challenges.until(&Challenge([0; 24]), NOW), None);
    }
}
