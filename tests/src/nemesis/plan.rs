//! What happens to the mesh, drawn from a seed: all of it before anything happens, so that a seed is a recipe.
//!
//! Which host it happens to is said by what it holds at that moment, since faults that hit nobody who matters show little. One or two
//! happen at a time. What `LEASES.md` does not cover is left out: on one host never all that could end a container at once.

use std::fmt;
use std::time::Duration;

use crate::e2e::nemesis::Dice;

/// The slots, by service and number. Each service runs the program in another way.
pub(crate) const SLOTS: [(&str, usize); 5] =
    [("plain", 0), ("plain", 1), ("ignores", 0), ("forks", 0), ("becomes", 0)];

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Agent and guard of the host stand still; the shims are there.
    AgentAndGuardStopped,
    /// The agent is killed, then the shim of the container; the guard of the host is there.
    AgentAndShimKilled,
    /// Agent and all shims stand still; the guard of the host is there.
    AgentAndShimsStopped,
    /// The agent is killed, and is back after a while.
    AgentKilled,
    /// The agent is replaced by itself, as at an upgrade.
    AgentReplaced,
    /// The agent stands still.
    AgentStopped,
    /// The agent is killed, and for a while back with a wall clock that is off.
    ClockOff,
    /// The machine's clocks go faster or slower than they should.
    ClocksSlewed,
    /// The container is frozen while its agent renews its lease.
    Frozen,
    /// The agent stands still and the container is frozen.
    FrozenAndAgentStopped,
    /// A node is drained.
    Drained,
    /// The host's disk is full.
    DiskFull,
    /// The guard of the host is killed.
    GuardKilled,
    /// The guard of the host stands still.
    GuardStopped,
    /// Nothing passes between the host and all others.
    Isolated,
    /// Nothing passes between two hosts.
    LinkCut,
    /// Nothing passes from one host to another.
    LinkCutOneWay,
    /// The host loses power.
    PowerLost,
    /// The shim of the container is killed.
    ShimKilled,
    /// The shim of the container stands still.
    ShimStopped,
    /// All shims and the guard of the host stand still; the agent is there.
    ShimsAndGuardStopped,
}

/// All kinds, each as often as it should happen: what ends leases more often than what only disturbs.
const KINDS: [Kind; 28] = [
    Kind::AgentAndGuardStopped,
    Kind::AgentAndShimKilled,
    Kind::AgentAndShimsStopped,
    Kind::AgentKilled,
    Kind::AgentKilled,
    Kind::AgentReplaced,
    Kind::AgentStopped,
    Kind::AgentStopped,
    Kind::ClockOff,
    Kind::ClocksSlewed,
    Kind::Frozen,
    Kind::FrozenAndAgentStopped,
    Kind::Drained,
    Kind::DiskFull,
    Kind::GuardKilled,
    Kind::GuardStopped,
    Kind::Isolated,
    Kind::Isolated,
    Kind::Isolated,
    Kind::LinkCut,
    Kind::LinkCut,
    Kind::LinkCutOneWay,
    Kind::LinkCutOneWay,
    Kind::PowerLost,
    Kind::PowerLost,
    Kind::ShimKilled,
    Kind::ShimStopped,
    Kind::ShimsAndGuardStopped,
];

/// What can end a container, as far as a fault takes it away.
const AGENT: u8 = 1;
const SHIM: u8 = 2;
const GUARD: u8 = 4;
const ALL: u8 = AGENT | SHIM | GUARD;

impl Kind {
    /// What of a host it takes away.
    const fn takes(self) -> u8 {
        match self {
            Self::AgentAndGuardStopped => AGENT | GUARD,
            Self::AgentAndShimKilled | Self::AgentAndShimsStopped => AGENT | SHIM,
            Self::AgentKilled
            | Self::AgentReplaced
            | Self::AgentStopped
            | Self::ClockOff
            | Self::DiskFull
            | Self::Drained
            | Self::FrozenAndAgentStopped => AGENT,
            Self::ClocksSlewed
            | Self::Frozen
            | Self::Isolated
            | Self::LinkCut
            | Self::LinkCutOneWay => 0,
            Self::GuardKilled | Self::GuardStopped => GUARD,
            Self::PowerLost => ALL,
            Self::ShimKilled | Self::ShimStopped => SHIM,
            Self::ShimsAndGuardStopped => SHIM | GUARD,
        }
    }

    /// Whether it is about one container.
    pub(crate) const fn needs_container(self) -> bool {
        matches!(
            self,
            Self::AgentAndShimKilled
                | Self::Frozen
                | Self::FrozenAndAgentStopped
                | Self::ShimKilled
                | Self::ShimStopped
        )
    }

    /// Whether it is about a link.
    pub(crate) const fn is_of_link(self) -> bool {
        matches!(self, Self::LinkCut | Self::LinkCutOneWay)
    }

    /// Whether it may happen to a host to which the other one happens.
    pub(crate) const fn goes_with(self, other: Self) -> bool {
        let (one, two) = (self.takes(), other.takes());
        // Not two that take the same, nor two that together take all that there is.
        one & two == 0 && (one == 0 || two == 0 || one | two != ALL)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgentAndGuardStopped => "agent and guard of the host stopped",
            Self::AgentAndShimKilled => "agent and shim killed",
            Self::AgentAndShimsStopped => "agent and shims stopped",
            Self::AgentKilled => "agent killed",
            Self::AgentReplaced => "agent replaced by itself",
            Self::AgentStopped => "agent stopped",
            Self::ClockOff => "agent back with its wall clock off",
            Self::ClocksSlewed => "clocks slewed",
            Self::DiskFull => "disk full",
            Self::Drained => "drained",
            Self::Frozen => "container frozen",
            Self::FrozenAndAgentStopped => "container frozen and agent stopped",
            Self::GuardKilled => "guard of the host killed",
            Self::GuardStopped => "guard of the host stopped",
            Self::Isolated => "isolated",
            Self::LinkCut => "link cut",
            Self::LinkCutOneWay => "link cut one way",
            Self::PowerLost => "power lost",
            Self::ShimKilled => "shim killed",
            Self::ShimStopped => "shim stopped",
            Self::ShimsAndGuardStopped => "shims and guard of the host stopped",
        })
    }
}

/// One fault, before it is known which host holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The slot whose holder it is about.
    pub(crate) slot: usize,
    /// It happens so many hosts further: to a witness, as a rule, and not to the holder.
    pub(crate) further: usize,
    /// Which of two ways: where a link leads, a direction, a sign.
    pub(crate) way: usize,
    /// When it begins after the step did.
    pub(crate) delay: Duration,
    /// How long it lasts.
    pub(crate) hold: Duration,
}

/// Faults that happen together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) faults: Vec<Fault>,
    /// What passes until the next step.
    pub(crate) rest: Duration,
}

/// Numbers that are drawn and not used.
const WARM_UP: usize = 16;

/// What happens, for ever.
#[derive(Debug)]
pub(crate) struct Plan(Dice);

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        // Marsaglia's generator stays at zero, and its first numbers after a small seed are small.
        let mut dice = Dice(seed.max(1));
        for _ in 0..WARM_UP {
            dice.below(2);
        }
        Self(dice)
    }

    fn number(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.0.below(limit)).unwrap_or(0)
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.0.below(to - from))
    }

    fn fault(&mut self) -> Fault {
        let drawn = self.number(KINDS.len());
        let kind = KINDS.get(drawn).copied().unwrap_or(Kind::AgentKilled);
        let slot = self.number(SLOTS.len());
        // Half of them hit the holder.
        let further = if self.0.below(2) == 0 { 0 } else { self.number(5) };
        let hold = match self.0.below(3) {
            // A lease is 6 s long: within a renewal, within a lease, and beyond it.
            0 => self.millis(100, 1_500),
            1 => self.millis(1_500, 5_000),
            _ => self.millis(7_000, 11_000),
        };
        Fault { kind, slot, further, way: self.number(4), delay: Duration::ZERO, hold }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let mut faults = vec![self.fault()];
        if self.0.below(2) == 0 {
            let delay = self.millis(0, 4_000);
            faults.push(Fault { delay, ..self.fault() });
        }
        // After some steps all settles, so that what follows is judged; after others nothing does.
        let rest =
            if self.0.below(3) == 0 { self.millis(12_000, 16_000) } else { self.millis(0, 3_000) };
        Some(Step { faults, rest })
    }
}

#[cfg(test)]
mod tests {
    //! A seed is a recipe, all kinds are drawn, and what is not covered is not done.

    use std::collections::BTreeSet;

    use super::{ALL, KINDS, Kind, Plan};

    #[test]
    fn a_seed_tells_the_same_story_again() {
        let drawn = |seed| Plan::new(seed).take(50).collect::<Vec<_>>();
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert_eq!(drawn(0), drawn(1));
    }

    #[test]
    fn every_kind_is_drawn() {
        let drawn = Plan::new(7).take(400).flat_map(|step| step.faults).map(|fault| fault.kind);
        let (drawn, all) = (drawn.collect::<BTreeSet<_>>(), KINDS.iter().copied().collect());
        assert_eq!(drawn, all);
    }

    #[test]
    fn two_never_take_all_that_ends_a_container() {
        for one in KINDS {
            let with = |other: &Kind| one.goes_with(*other);
            for other in KINDS.into_iter().filter(with) {
                let powerless = [one, other].contains(&Kind::PowerLost);
                assert!(powerless || one.takes() | other.takes() != ALL, "{one} and {other}");
                assert!(other.goes_with(one), "{one} and {other}");
            }
        }
        assert!(!Kind::AgentAndShimKilled.goes_with(Kind::GuardKilled));
        assert!(!Kind::PowerLost.goes_with(Kind::AgentKilled));
        assert!(!Kind::AgentKilled.goes_with(Kind::AgentStopped), "there is one agent");
        assert!(Kind::AgentStopped.goes_with(Kind::ShimKilled));
        assert!(Kind::PowerLost.goes_with(Kind::LinkCut));
    }
}
