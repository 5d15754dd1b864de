//! Why a request was not done, as the one who asks needs to know it.

use std::fmt;

use tonic::{Code, Status};

use crate::convert::Malformed;
use crate::status::{self, REMOVED};

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "it is the one error of the client and is named with its module"
)]
pub enum Error {
    /// No agent answers, or the one that did is gone. *Whether a request that was under way was done is unknown.*
    #[error("no agent answers: {}", Tried(tried))]
    Unreachable {
        /// Each address that was tried, and what happened there.
        tried: Vec<(String, String)>,
    },
    /// The agent does not do this for this key, or not now. *Nothing was done.*
    #[error("refused: {reason}")]
    Refused {
        /// What the agent says.
        reason: String,
    },
    /// Nobody in the mesh knows this key. *Nothing was done.*
    #[error("{reason}")]
    Stranger {
        /// What the agent says.
        reason: String,
    },
    /// The key was removed from the mesh. *Nothing was done.*
    #[error("{REMOVED}")]
    Removed,
    /// What was asked about is not there.
    #[error("{reason}")]
    NotFound {
        /// What the agent says.
        reason: String,
    },
    /// The request makes no sense to the agent. *Nothing was done.*
    #[error("{reason}")]
    Invalid {
        /// What the agent says.
        reason: String,
    },
    /// The agent has too much to do. *Nothing was done; try again.*
    #[error("{reason}")]
    Busy {
        /// What the agent says.
        reason: String,
    },
    /// The agent could not do it. *What was done is unknown.*
    #[error("{reason}")]
    Server {
        /// What the agent says.
        reason: String,
    },
}

impl Error {
    /// What `status`, which came from `address`, means.
    pub(crate) fn of(status: &Status, address: &str) -> Self {
        let reason = reason(status);
        match status.code() {
            Code::PermissionDenied if reason == REMOVED => Self::Removed,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unreachable { tried: vec![(address.to_owned(), reason)] }
            }
            Code::PermissionDenied | Code::FailedPrecondition => Self::Refused { reason },
            Code::Unauthenticated => Self::Stranger { reason },
            Code::NotFound => Self::NotFound { reason },
            // Only a call that came with a later version is unknown to an agent, and nothing is wrong with what was asked.
            Code::Unimplemented => {
                let node = status::named(status).map(|node| format!("node {node}"));
                let who = node.unwrap_or_else(|| format!("the agent at {address}"));
                Self::Refused { reason: format!("{who} runs an older version: upgrade it") }
            }
            Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => {
                Self::Invalid { reason }
            }
            Code::ResourceExhausted => Self::Busy { reason },
            Code::Ok | Code::Unknown | Code::Aborted | Code::Internal | Code::DataLoss => {
                Self::Server { reason }
            }
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Server { reason: format!("the agent's answer is not understood: {malformed}") }
    }
}

/// What a status says, with its causes when the connection broke and there is nothing else to say.
pub(crate) fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = error.source();
    }
    if text.is_empty() { status.code().to_string() } else { text }
}

struct Tried<'a>(&'a [(String, String)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no address is known");
        }
        self.0.iter().enumerate().try_for_each(|(place, (address, reason))| {
            let comma = if place == 0 { "" } else { "; " };
            write!(f, "{comma}{address} ({reason})")
        })
    }
}

#[cfg(test)]
mod tests {
    //! Whoever is told no learns what to do about it.

    use mesh_coordinator::id::NodeId;
    use tonic::Status;

    use super::Error;
    use crate::status;

    #[test]
    fn a_call_that_an_older_agent_does_not_know_says_which_agent_to_upgrade() {
        // As tonic answers: without a word.
        let mut unknown = Status::unimplemented("");
        let reason = "the agent at a:7420 runs an older version: upgrade it".to_owned();
        assert_eq!(Error::of(&unknown, "a:7420"), Error::Refused { reason });
        let node = NodeId::from_bytes([7; 10]);
        status::name(&mut unknown, node);
        let reason = format!("node {node} runs an older version: upgrade it");
        assert_eq!(Error::of(&unknown, "a:7420"), Error::Refused { reason });
    }
}
