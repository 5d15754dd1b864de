//! What the binaries print about themselves.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter is not understood, or a subscriber is already set.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("the log filter {filter:?} is malformed: {reason}")]
    Filter {
        /// The text that was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else has set up logging in this process.
    #[error("logging is already set up")]
    Twice,
}

/// Sends log lines to standard error. `filter` is a level (`info`) or directives (`info,mesh_gossip=debug`).
///
/// # Errors
/// When the filter is malformed or logging was already set up.
pub fn start(filter: &str, format: Format) -> Result<(), LogError> {
    let env_filter = EnvFilter::try_new(filter).map_err(|error| LogError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(env_filter).with_writer(std::io::stderr);
    let set = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        Format::Json => lines.json().finish().try_init(),
    };
    set.map_err(|_already| LogError::Twice)
}
