//! Between the messages of the wire and the types of the core.
//!
//! One file per family. `to_wire` functions cannot fail. What comes from the wire was written by somebody else: everything that
//! the core takes for granted is checked here, and a [`Malformed`] names the field. The length of a whole message is bounded
//! before it gets here ([`MESSAGE_LEN_MAX`]), so lists need bounds of their own only where an element costs more than its bytes.

pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod leases;
pub(crate) mod message;
pub(crate) mod overview;
pub(crate) mod request;
pub(crate) mod value;
pub(crate) mod who;
pub(crate) mod why;

/// The longest message that is read: a catalogue's largest records fit many times, and a flood is cut short.
pub(crate) const MESSAGE_LEN_MAX: usize = 4 << 20;

/// The longest answer that an operator's client reads. An overview of thousands of replicas is longer than any request may be.
pub(crate) const ANSWER_LEN_MAX: usize = 64 << 20;

/// A field that says something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct Malformed {
    /// Which field.
    pub(crate) field: &'static str,
    /// What is wrong with it, for people.
    pub(crate) reason: String,
}

impl Malformed {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A message that must be there.
pub(crate) fn required<T>(field: &'static str, message: Option<T>) -> Result<T, Malformed> {
    message.ok_or_else(|| {
        Malformed::new(field, "is missing, or of a kind that this version does not know")
    })
}
