//! Steps through the tree and reports what is not as it should be.
//!
//! A step that fails says so in the report and gives `None`, and the walk goes on beside it, so that one run finds everything.

use crate::report::{Fault, Report};
use crate::suggest::closest;
use crate::tree::{Entry, Node, Span, Value, member_path, quoted};

/// A value and the path that led to it.
#[derive(Debug, Clone)]
pub(crate) struct At<'t> {
    pub(crate) path: String,
    pub(crate) node: &'t Node,
    /// The key that it is the value of; `None` for the document and for what is in a list.
    key_span: Option<Span>,
}

impl<'t> At<'t> {
    /// The whole document.
    pub(crate) const fn root(node: &'t Node) -> Self {
        Self { path: String::new(), node, key_span: None }
    }

    fn member(&self, entry: &'t Entry) -> Self {
        let path = member_path(&self.path, &entry.key);
        At { path, node: &entry.value, key_span: Some(entry.key_span) }
    }

    /// Where to point: at the key when it has no value or one of many lines.
    pub(crate) fn span(&self) -> Span {
        match (&self.node.value, self.key_span) {
            (Value::Scalar(_) | Value::Broken, _) | (_, None) => self.node.span,
            (Value::Null | Value::List(_) | Value::Map(_), Some(key)) => key,
        }
    }

    /// Where the key is.
    pub(crate) fn key_span(&self) -> Span {
        self.key_span.unwrap_or(self.node.span)
    }

    /// Reports an error here.
    pub(crate) fn refuse(
        &self,
        found: impl Into<String>,
        help: impl Into<String>,
        report: &mut Report,
    ) {
        report.error(&self.path, self.span(), Fault::new(found, help));
    }

    /// Reports an error about the key, whatever its value.
    pub(crate) fn refuse_key(
        &self,
        found: impl Into<String>,
        help: impl Into<String>,
        report: &mut Report,
    ) {
        report.error(&self.path, self.key_span(), Fault::new(found, help));
    }

    /// Reports a warning here.
    pub(crate) fn warn(
        &self,
        found: impl Into<String>,
        help: impl Into<String>,
        report: &mut Report,
    ) {
        report.warning(&self.path, self.key_span(), Fault::new(found, help));
    }

    fn mismatch(&self, wanted: &str, help: &str, report: &mut Report) {
        let found = format!("found {} where {wanted} belongs", self.node.describe());
        match self.node.value {
            Value::Broken => {}
            Value::Null => self.refuse(found, "give it a value, or leave the key out", report),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => self.refuse(found, help, report),
        }
    }

    /// The value as a map.
    pub(crate) fn table(&self, report: &mut Report) -> Option<Table<'t>> {
        let entries = self.entries(report)?;
        Some(Table { at: self.clone(), left: entries.iter().collect(), known: Vec::new() })
    }

    fn entries(&self, report: &mut Report) -> Option<&'t [Entry]> {
        if let Value::Map(entries) = &self.node.value {
            return Some(entries);
        }
        self.mismatch("a map", "write key: value", report);
        None
    }

    /// The value as a map whose keys are free.
    pub(crate) fn members(&self, report: &mut Report) -> Option<Vec<(&'t str, Self)>> {
        let entries = self.entries(report)?;
        Some(entries.iter().map(|entry| (entry.key.as_str(), self.member(entry))).collect())
    }

    /// The value as a list.
    pub(crate) fn list(&self, report: &mut Report) -> Option<Vec<Self>> {
        let Value::List(items) = &self.node.value else {
            self.mismatch("a list", "write [item], or - item on a line of its own", report);
            return None;
        };
        let item = |(index, node): (usize, &'t Node)| {
            let path = format!("{}[{index}]", self.path);
            At { path, node, key_span: None }
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The value as text.
    pub(crate) fn text(&self, report: &mut Report) -> Option<&'t str> {
        let Value::Scalar(text) = &self.node.value else {
            self.mismatch("text", "write one value", report);
            return None;
        };
        if text.contains('\0') {
            self.refuse("the text holds a NUL character", "no program can receive one", report);
            return None;
        }
        Some(text)
    }

    /// The value as text that `parse` understands.
    pub(crate) fn parse<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
        report: &mut Report,
    ) -> Option<T> {
        let text = self.text(report)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(fault) => {
                report.error(&self.path, self.span(), fault);
                None
            }
        }
    }

    /// Whether there is no value.
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Whether the value is a list.
    pub(crate) const fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Whether the value is a map.
    pub(crate) const fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }
}

/// A map whose keys are taken one by one; what is left in the end is refused.
#[derive(Debug)]
pub(crate) struct Table<'t> {
    pub(crate) at: At<'t>,
    left: Vec<&'t Entry>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    /// The value of `key`, if it is there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<At<'t>> {
        self.known.push(key);
        let index = self.left.iter().position(|entry| entry.key == key)?;
        Some(self.at.member(self.left.remove(index)))
    }

    /// Whether `key` is there and not yet taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.left.iter().any(|entry| entry.key == key)
    }

    /// The values of all keys that begin with `x-`, with their keys.
    pub(crate) fn take_extensions(&mut self) -> Vec<(&'t str, At<'t>)> {
        let (extensions, left) = std::mem::take(&mut self.left)
            .into_iter()
            .partition::<Vec<_>, _>(|entry| entry.key.starts_with("x-"));
        self.left = left;
        extensions.into_iter().map(|entry| (entry.key.as_str(), self.at.member(entry))).collect()
    }

    /// Refuses every key that was not taken: by `refused`, which says what to do instead, or as unknown.
    pub(crate) fn finish(self, refused: &[(&'static str, &'static str)], report: &mut Report) {
        for entry in &self.left {
            let at = self.at.member(entry);
            if let Some((key, help)) = refused.iter().find(|(key, _)| *key == entry.key) {
                at.refuse_key(format!("{key} is not supported by this version"), *help, report);
                continue;
            }
            let names = self.known.iter().copied().chain(refused.iter().map(|(key, _)| *key));
            let help = closest(&entry.key, names).map_or_else(
                || format!("known here: {}", self.known.join(", ")),
                |name| format!("did you mean {name}?"),
            );
            at.refuse_key(format!("the key {} is unknown", quoted(&entry.key)), help, report);
        }
    }
}
