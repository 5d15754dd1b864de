//! What this agent refused: a count for each reason, and a line in the log that nobody can flood.
//!
//! Whoever attacks decides how often something is refused, so a refusal must cost little: a number is raised each time, and one
//! line a minute and reason says how many there were since the line before.

mod reason;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

pub use self::reason::Reason;

/// The pause between two lines about the same reason.
const PAUSE: Duration = Duration::from_secs(60);

/// The longest detail in a line, in characters: it may hold words of the one who was refused.
const DETAIL_LEN_MAX: usize = 300;

/// What was refused for one reason.
#[derive(Debug, Default)]
struct Tally {
    /// Relaxed: it orders nothing.
    count: AtomicU64,
    voice: Mutex<Voice>,
}

/// When a line was written last, and what came after it.
#[derive(Debug, Default)]
struct Voice {
    /// `None` when none was.
    spoke: Option<Instant>,
    unsaid: u64,
}

impl Voice {
    /// How many refusals a line has to tell of; `None` when it is too early for a line.
    fn hear(&mut self, now: Instant) -> Option<u64> {
        self.unsaid = self.unsaid.saturating_add(1);
        if self.spoke.is_some_and(|spoke| now.saturating_duration_since(spoke) < PAUSE) {
            return None;
        }
        self.spoke = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What this agent refused since its start. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// One for each reason.
    tallies: Arc<BTreeMap<Reason, Tally>>,
}

impl Default for Refusals {
    fn default() -> Self {
        let tallies = Reason::ALL.iter().map(|reason| (*reason, Tally::default()));
        Self { tallies: Arc::new(tallies.collect()) }
    }
}

impl Refusals {
    /// Nothing was refused yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a refusal, and tells of it if the reason has been quiet for a minute. `from` is who was refused, as far as that is
    /// known: an address, a node, an operator. Both are only printed when a line is written.
    pub fn refuse(&self, reason: Reason, from: impl fmt::Display, detail: impl fmt::Display) {
        let Some(tally) = self.tallies.get(&reason) else { return };
        tally.count.fetch_add(1, Ordering::Relaxed);
        let due = tally.voice.lock().unwrap_or_else(PoisonError::into_inner).hear(Instant::now());
        if let Some(count) = due {
            let (reason, detail) = (reason.name(), printable(&detail));
            warn!(reason, %from, detail, count, "refused");
        }
    }

    /// How often something was refused for this reason.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.tallies.get(&reason).map_or(0, |tally| tally.count.load(Ordering::Relaxed))
    }

    /// The names of all reasons for which something was refused, and how often.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = Reason::ALL.iter().map(|reason| (reason.name(), self.count(*reason)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// What may be put into a log: no control characters, and an end.
fn printable(detail: &impl fmt::Display) -> String {
    let mut text = String::new();
    // A string takes everything.
    let (Ok(()) | Err(_)) = write!(text, "{detail}");
    let shown = text.chars().take(DETAIL_LEN_MAX);
    shown.map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
