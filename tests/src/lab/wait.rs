//! Waiting for what will happen soon, and never for ever.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a condition is looked at: agentctl takes about as long to answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Until when.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Waits for real time to pass.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the programs under test live in real time")]
    std::thread::sleep(time);
}

/// Waits until a condition holds, and says how long that took. A condition that cannot be told yet is one that does not hold.
///
/// # Errors
/// When it did not within the limit; the last thing that stood in its way is the cause.
pub fn until(limit: Duration, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Deadline::after(limit);
    loop {
        let looked = holds();
        if matches!(looked, Ok(true)) {
            return Ok(());
        }
        if deadline.is_over() {
            let late = format!("after {} s it is still not so that {what}", limit.as_secs());
            return match looked {
                Err(error) => Err(error).context(late),
                Ok(_) => bail!(late),
            };
        }
        pause(LOOK_EVERY);
    }
}
