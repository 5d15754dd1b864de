//! Names that people give: apps, services and nodes, all DNS labels (RFC 1123), so that they can become host names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name: 63 characters, the limit of a DNS label.
pub const NAME_LEN_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("a name needs at least one character")]
    Empty,
    /// The text is longer than a DNS label may be.
    #[error("a name has at most {NAME_LEN_MAX} characters, not {0}")]
    Long(usize),
    /// A character that a name cannot have.
    #[error("{0:?} cannot be in a name: use a to z, 0 to 9, and - or _ inside")]
    Character(char),
    /// The text begins or ends with something other than a letter or a digit.
    #[error("a name begins and ends with a letter or a digit")]
    Edge,
}

fn check(text: &str) -> Result<(), NameError> {
    let length = text.chars().count();
    if length == 0 {
        return Err(NameError::Empty);
    }
    if length > NAME_LEN_MAX {
        return Err(NameError::Long(length));
    }
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if let Some(stranger) = text.chars().find(|c| !inside(*c)) {
        return Err(NameError::Character(stranger));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if edge(text.chars().next()) && edge(text.chars().next_back()) {
        Ok(())
    } else {
        Err(NameError::Edge)
    }
}

// Shared text: a slot has a name in it, and slots are the keys of most tables.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of an app: one Compose project.
    AppName
}
name! {
    /// The name of a service within an app.
    ServiceName
}
name! {
    /// The name of a node: a label for people, not its identity.
    NodeName
}
name! {
    /// The name of a mesh.
    MeshName
}
name! {
    /// The name of an operator: a person or a CI job.
    OperatorName
}

impl MeshName {
    /// What a mesh is called before its genesis record has arrived.
    #[must_use]
    pub fn unnamed() -> Self {
        Self("unnamed".into())
    }
}
