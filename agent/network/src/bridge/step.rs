//! One step of work on the kernel: bounded in time, and named in its error.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

/// The longest that one exchange with the kernel may take. They take milliseconds; seconds of silence mean that something holds
/// the kernel's own locks, and then an error is worth more than patience.
pub(super) const STEP_LIMIT: Duration = Duration::from_secs(5);

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The thread that works on the bridge is gone. *Whether the step was done is unknown.*
    #[error("cannot {attempt}: the bridge's thread has ended")]
    Ended {
        /// What was attempted.
        attempt: String,
    },
    /// There was no answer in time. *Whether the step was done is unknown.*
    #[error("no answer in time to the attempt to {attempt}")]
    Late {
        /// What was attempted.
        attempt: String,
    },
    /// The kernel refused it. *The step was not done.*
    #[error("cannot {attempt}")]
    Refused {
        /// What was attempted.
        attempt: String,
        /// What the kernel said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StepError {
    pub(super) fn refused(
        attempt: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Refused { attempt: attempt.into(), source: source.into() }
    }

    pub(super) fn late(attempt: impl Into<String>) -> Self {
        Self::Late { attempt: attempt.into() }
    }
}

/// Awaits `work` for at most [`STEP_LIMIT`].
pub(super) async fn bounded<T, E>(
    attempt: impl Into<String>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, StepError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    match timeout(STEP_LIMIT, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(StepError::refused(attempt, source)),
        Err(_elapsed) => Err(StepError::late(attempt)),
    }
}
