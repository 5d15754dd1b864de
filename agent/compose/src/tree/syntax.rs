//! What the YAML parser's errors mean to somebody who writes a manifest.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most errors are rare enough for the parser's own words"
)]

use granit_parser::{ErrorKind, ScanError};

use super::build::DEPTH_MAX;
use crate::report::Fault;

/// Whether the error is about a tab.
pub(super) fn is_tab(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
    )
}

/// The error in our words, or else in the parser's.
pub(super) fn syntax(error: &ScanError) -> Fault {
    let text = |found: &str, help: &str| Fault::new(found, help);
    match error.kind() {
        kind if is_tab(kind) => text("a tab is used as indentation", "indent with spaces"),
        ErrorKind::MappingValueNotAllowed => text(
            "a colon makes a map here, where none can be",
            "put text that has a colon in quotes",
        ),
        ErrorKind::UnclosedFlowCollection { open } => {
            Fault::new(format!("the bracket {open} is not closed"), "close it")
        }
        ErrorKind::UnknownAnchor => {
            text("the alias has no anchor above it", "define it before its use: key: &name value")
        }
        ErrorKind::RecursionLimitExceeded => Fault::new(
            format!("lists and maps are nested deeper than {DEPTH_MAX} levels"),
            "Compose needs seven levels",
        ),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => text(
            "this line does not fit the indentation above it",
            "give all keys of a map the same indentation",
        ),
        ErrorKind::UnclosedQuotedScalar => text("a quote is opened and not closed", "close it"),
        kind => Fault::new(format!("not YAML: {kind}"), ""),
    }
}
