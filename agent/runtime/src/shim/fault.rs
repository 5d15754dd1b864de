//! Why a container did not start, as the shim tells the driver.

use std::fmt::Display;

use crate::record::Answer;

/// Whose fault it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The image or the specification. *Nothing runs.*
    #[error("{0}")]
    Invalid(String),
    /// The host. *Nothing runs.*
    #[error("{0}")]
    Host(String),
    /// The lease has ended before its program could be run. *Nothing runs.*
    #[error("its lease has ended")]
    Lapsed,
}

impl Fault {
    /// The host could not do something.
    pub(super) fn host(attempt: &str, cause: impl Display) -> Self {
        Self::Host(format!("{attempt}: {cause}"))
    }

    /// The same as an answer.
    pub(super) fn into_answer(self) -> Answer {
        match self {
            Self::Invalid(reason) => Answer::Invalid(reason),
            Self::Host(reason) => Answer::Host(reason),
            Self::Lapsed => Answer::Lapsed,
        }
    }
}
