//! A YAML document as a tree whose every part knows its place.
//!
//! Scalars stay text: whether `0755`, `on` or `22:22` is a number, a truth or a time is decided by the key that they are a
//! value of, never by their looks. So the traps of YAML 1.1 cannot spring: `restart: no` is the text "no", and a port that is
//! written `22:22` is not sixty times twenty-two.

mod build;
mod syntax;

pub(crate) use self::build::build;

/// A place in the manifest: line and column from 1, in characters, and how many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text, after interpolation.
    Scalar(String),
    /// Text whose variables could not be replaced. That is in the report already, and nothing more is said about it.
    Broken,
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file, without duplicates; merge keys are resolved.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
    /// What this is, to be read after "found".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(text) => quoted(text),
            Value::Broken => "text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// The path of what `key` stands for in the map at `parent`.
pub(crate) fn member_path(parent: &str, key: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match (parent, key) {
        (parent, key) if !key.chars().all(simple) => format!("{parent}[{}]", quoted(key)),
        ("", key) => key.to_owned(),
        (parent, key) => format!("{parent}.{key}"),
    }
}

/// The text in quotes, shortened to what fits a message.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() > SHOWN {
        let head: String = text.chars().take(SHOWN).collect();
        format!("{head:?}…")
    } else {
        format!("{text:?}")
    }
}
