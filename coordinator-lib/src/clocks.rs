//! What time it is when the nodes' wall clocks differ.
//!
//! No clock is right by itself, so what most of them say is taken for the time of the mesh: the median of this node's clock and of
//! those that it hears. An even number of clocks has two in the middle, and the time is somewhere between them. Usually that is
//! milliseconds; of two nodes that disagree nobody can say who is right, and then nothing is refused that one of them lets pass.
//!
//! Others' clocks are held against this node's steady clock. So what is known of them stays true when its own wall clock is set, and
//! a peer that died counts on for a while: of three nodes, the two that are left still know which of them is right.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::NodeId;
use crate::time::{Instant, WallTime};

/// How long the clock of a peer counts that is not heard any more. Steady clocks drift by less than 0.4 s in that time.
pub const REMEMBERED: Duration = Duration::from_secs(3_600);
/// A clock is off when it differs by more: ten times what an unattended quartz loses in a day.
pub const TOLERANCE: Duration = Duration::from_secs(10);
/// So long it must have been off, or right again, before that is said: after a pause of this host all peers seem to be behind.
pub const SURE: Duration = Duration::from_secs(5);

/// Between which two moments the time of the mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// It is not earlier.
    pub earliest: WallTime,
    /// It is not later.
    pub latest: WallTime,
}

/// What a node finds out about its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finding {
    /// How far the own clock is ahead of the mesh's, in milliseconds; behind when negative. Zero when it is about right.
    pub off_ms: i64,
    /// How far the clocks in the middle are apart; `None` when they agree.
    pub doubt: Option<Duration>,
}

/// The clocks that a node knows.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    peers: BTreeMap<NodeId, Heard>,
    told: Finding,
    /// Since when something else is the case than what was told; `None` when it is not.
    differs: Option<Instant>,
}

/// What a peer said last.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    /// What its clock said, in milliseconds, when this node's steady clock began.
    zero: i128,
}

impl Clocks {
    /// A peer says what its clock says.
    pub fn hear(&mut self, now: Instant, node: NodeId, wall: WallTime) {
        let zero = i128::from(wall.0).saturating_sub(millis(now.since_start()));
        self.peers.insert(node, Heard { at: now, zero });
    }

    /// Forgets all clocks but those of these nodes, and those that were not heard for long.
    pub fn retain(&mut self, now: Instant, is_member: impl Fn(NodeId) -> bool) {
        self.peers.retain(|node, heard| now.since(heard.at) < REMEMBERED && is_member(*node));
    }

    /// The time of the mesh, now that the own clock says `own`.
    #[must_use]
    pub fn span(&self, now: Instant, own: WallTime) -> Span {
        let heard = self.peers.values().filter(|heard| now.since(heard.at) < REMEMBERED);
        let theirs = heard.map(|heard| heard.zero.saturating_add(millis(now.since_start())));
        let mut said: Vec<i128> = theirs.chain([i128::from(own.0)]).collect();
        said.sort_unstable();
        let nth = |place: usize| said.get(place).map_or(own, |ms| wall(*ms));
        Span { earliest: nth(said.len().saturating_sub(1) / 2), latest: nth(said.len() / 2) }
    }

    /// What is to be told anew about the own clock, which says `own`; `None` when nothing is.
    pub fn judge(&mut self, now: Instant, own: WallTime) -> Option<Finding> {
        let span = self.span(now, own);
        let found = Finding {
            off_ms: self.off(i128::from(own.0).saturating_sub(i128::from(span.near(own).0))),
            doubt: Some(span.width()).filter(|width| *width > TOLERANCE),
        };
        if !differ(self.told, found) {
            self.differs = None;
            return None;
        }
        let since = *self.differs.get_or_insert(now);
        if now.since(since) < SURE {
            return None;
        }
        self.differs = None;
        self.told = found;
        Some(found)
    }

    /// What was told last.
    #[must_use]
    pub const fn told(&self) -> Finding {
        self.told
    }

    /// By how much the own clock counts as off. One that was said to be off is right again only when it is clearly so.
    fn off(&self, by: i128) -> i64 {
        let tolerance = if self.told.off_ms == 0 { TOLERANCE } else { TOLERANCE / 2 };
        if by.saturating_abs() <= millis(tolerance) {
            return 0;
        }
        i64::try_from(by).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX })
    }
}

impl Span {
    /// How far apart its ends are.
    #[must_use]
    pub const fn width(self) -> Duration {
        Duration::from_millis(self.latest.0.saturating_sub(self.earliest.0))
    }

    /// The moment of it that is nearest to what a clock says: where clocks agree, what that clock says.
    #[must_use]
    pub fn near(self, clock: WallTime) -> WallTime {
        clock.max(self.earliest).min(self.latest)
    }
}

/// How far a clock is ahead of others, in words; `None` when it is not.
#[must_use]
pub fn off(off_ms: i64) -> Option<String> {
    let direction = match off_ms {
        0 => return None,
        i64::MIN..=-1 => "behind",
        1..=i64::MAX => "ahead of",
    };
    Some(format!("{} {direction}", words(Duration::from_millis(off_ms.unsigned_abs()))))
}

/// A time that people can grasp: its two largest units.
#[must_use]
pub fn words(time: Duration) -> String {
    // What a message takes on its way must not make a second of it.
    let s = time.saturating_add(Duration::from_millis(500)).as_secs();
    let two = |n: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{n} {unit}"),
        rest => format!("{n} {unit} {rest} {small}"),
    };
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => two(s / 60, "min", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// Whether one finding has to be told after the other.
fn differ(told: Finding, found: Finding) -> bool {
    let off = Duration::from_millis(told.off_ms.abs_diff(found.off_ms));
    let doubts = (told.doubt.unwrap_or_default(), found.doubt.unwrap_or_default());
    (told.off_ms == 0) != (found.off_ms == 0)
        || off >= TOLERANCE
        || told.doubt.is_some() != found.doubt.is_some()
        || doubts.0.abs_diff(doubts.1) >= TOLERANCE
}

fn millis(time: Duration) -> i128 {
    i128::try_from(time.as_millis()).unwrap_or(i128::MAX)
}

fn wall(ms: i128) -> WallTime {
    WallTime(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
