//! How a command ends: the one table of exit codes, and errors that say what to do next.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use crate::mesh::CallError;

/// The exit codes, as every command's help prints them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 3 partly done (the output says which parts).
`exec` exits with the code of the command that it ran.";

/// How a command ended that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was done.
    Done,
    /// It was not done; why was printed.
    Failed,
    /// Some of it was done; which parts was printed.
    Partly,
    /// A command that ran in a container ended with this code.
    Command(u8),
}

impl Outcome {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Partly => 3,
            Self::Command(code) => code,
        }
    }

    /// The worse of two ends.
    pub(crate) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, end) | (end, Self::Done) => end,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Partly, _) | (_, Self::Partly) => Self::Partly,
            (Self::Command(_), end @ Self::Command(_)) => end,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// What kind of failure, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It could not be done.
    Failed,
    /// What was asked makes no sense here.
    Usage,
    /// Nobody reads the output any more: not worth a word.
    NoReader,
}

/// Why a command ended early: what was found, what is allowed, and what to type next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
    next: Option<String>,
}

impl Failure {
    /// It could not be done.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, text: text.into(), next: None }
    }

    /// The arguments or the input are wrong, and this would be better: nobody is left with a no.
    pub(crate) fn usage(text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, text: text.into(), next: Some(next.into()) }
    }

    /// Adds what to type next.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NoReader => 0,
        }
    }

    /// What to print; `None` when nobody would read it.
    pub(crate) fn message(&self) -> Option<String> {
        if self.kind == Kind::NoReader {
            return None;
        }
        let mut message = format!("error: {}", self.text);
        if let Some(next) = &self.next {
            // Writing to a string cannot fail.
            let _infallible = write!(message, "\n  next: {next}");
        }
        Some(message)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let next = error.next();
        let is_bad_input = matches!(error, CallError::Invalid { .. });
        let kind = if is_bad_input { Kind::Usage } else { Kind::Failed };
        Self { kind, text: error.to_string(), next }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::NoReader, text: String::new(), next: None };
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    //! Whoever typed something wrong is told what to type instead.

    use super::Failure;
    use crate::mesh::CallError;

    #[test]
    fn bad_usage_never_ends_without_a_hint() {
        let invalid = CallError::Invalid { reason: "no such record".to_owned() };
        for failure in [Failure::usage("no", "agentctl ps"), invalid.into()] {
            let message = failure.message().unwrap();
            assert!(failure.code() == 2 && message.contains("\n  next: agentctl "), "{message}");
        }
    }
}
