//! Builds the tree from the parser's events: anchors, merge keys, interpolation, and the bounds of all of it.

#![expect(clippy::wildcard_enum_match_arm, reason = "the parser's list of events is open-ended")]

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, options};

use super::syntax::{is_tab, syntax};
use super::{Entry, Node, Span, Value, member_path, quoted};
use crate::interpolate::{Lookup, interpolate};
use crate::report::{Fault, Report};

/// How deep lists and maps may be nested. Compose needs seven levels; each level costs stack.
pub(super) const DEPTH_MAX: usize = 64;

/// The most nodes of a document, each use of an alias counted with all that it stands for: what stops an alias bomb.
const NODES_MAX: usize = 20_000;

/// The most text of a document, each use of an alias and of a variable counted.
const TEXT_LEN_MAX: usize = 4 << 20;

/// The longest key. Each value carries the keys that lead to it while it is built.
const KEY_LEN_MAX: usize = 256;

type Located<'t> = (Event<'t>, granit_parser::Span);

/// Marks that the building ended early; the report has the reason.
struct Stopped;

/// Reads `text` as one document; `None` when that is impossible, which is then in the report.
pub(crate) fn build(text: &str, lookup: Lookup<'_>, report: &mut Report) -> Option<Node> {
    if let Some(span) = control_character(text) {
        let help = "remove it, or write it as an escape in double quotes";
        report.error("", span, Fault::new("an unprintable character is in the file", help));
        return None;
    }
    let options = options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    let events = Parser::new_from_str_with_options(text, options);
    let anchors = BTreeMap::new();
    let mut builder = Builder {
        text,
        events,
        lookup,
        anchors,
        path: String::new(),
        n_nodes: 0,
        text_len: 0,
        warned: Vec::new(),
        report,
    };
    builder.document().ok()
}

/// The first character that has no business in a text file; the parser would take a NUL for the end of the file.
fn control_character(text: &str) -> Option<Span> {
    for (index, line) in text.split('\n').enumerate() {
        let stray = |c: char| c.is_control() && c != '\t' && c != '\u{85}';
        if let Some(column) = line.chars().position(stray) {
            return Some(Span { line: index + 1, column: column + 1, width: 1 });
        }
    }
    None
}

struct Builder<'t, 'r> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    lookup: Lookup<'r>,
    /// The finished nodes that carry an anchor.
    anchors: BTreeMap<usize, Node>,
    /// The path of the value that is being built.
    path: String,
    n_nodes: usize,
    text_len: usize,
    /// The unset variables that were warned about: once each, as Compose does.
    warned: Vec<String>,
    report: &'r mut Report,
}

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Result<Node, Stopped> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_none() => {}
                Event::DocumentStart(..) => {
                    let help = "keep one document per file, and place each file";
                    return self
                        .stop(place(&span), Fault::new("a second document begins here", help));
                }
                Event::StreamEnd => {
                    let span = Span { line: 1, column: 1, width: 1 };
                    return Ok(root.unwrap_or(Node { span, value: Value::Null }));
                }
                event => root = Some(self.node((event, span))?),
            }
        }
    }

    fn next(&mut self) -> Result<Located<'t>, Stopped> {
        match self.events.next() {
            Some(Ok(located)) => Ok(located),
            Some(Err(error)) => {
                let mark = error.marker();
                let mut span = Span { line: mark.line(), column: mark.col() + 1, width: 1 };
                if is_tab(error.kind()) {
                    // The parser points behind the tab.
                    span.column = self.report.column_of(span.line, '\t').unwrap_or(span.column);
                }
                self.report.error("", span, syntax(&error));
                Err(Stopped)
            }
            None => Err(Stopped),
        }
    }

    fn stop<T>(&mut self, span: Span, fault: Fault) -> Result<T, Stopped> {
        self.report.error(&self.path, span, fault);
        Err(Stopped)
    }

    fn spend(&mut self, n_nodes: usize, text_len: usize, span: Span) -> Result<(), Stopped> {
        self.n_nodes = self.n_nodes.saturating_add(n_nodes);
        self.text_len = self.text_len.saturating_add(text_len);
        if self.n_nodes > NODES_MAX {
            let found = format!("with its aliases the file has more than {NODES_MAX} values");
            return self.stop(span, Fault::new(found, "use fewer aliases (*name)"));
        }
        if self.text_len > TEXT_LEN_MAX {
            let found = "with its aliases and variables the file has more than 4 MiB of text";
            return self.stop(span, Fault::new(found, "use fewer aliases (*name) and variables"));
        }
        Ok(())
    }

    fn node(&mut self, (event, located): Located<'t>) -> Result<Node, Stopped> {
        let span = place(&located);
        self.spend(1, 0, span)?;
        let anchor = event.anchor_id();
        let plain = self.check_tag(&event, &located, span);
        let value = match event {
            Event::Alias(id) => return self.alias(id, span),
            Event::Scalar(text, style, ..) => {
                self.scalar(&text, plain && style == ScalarStyle::Plain, &located)?
            }
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            _ => return Err(Stopped),
        };
        let node = Node { span, value };
        if let Some(id) = anchor {
            let (n_nodes, text_len) = weight(&node);
            self.spend(n_nodes, text_len, span)?;
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    /// Refuses tags that do not fit; true unless the tag makes the value a text.
    fn check_tag(&mut self, event: &Event<'_>, located: &granit_parser::Span, span: Span) -> bool {
        let Some(tag) = event.tag() else {
            return true;
        };
        let fits = match event {
            Event::Scalar(..) => ["str", "int", "float", "bool"].as_slice(),
            Event::SequenceStart(..) => &["seq"],
            Event::MappingStart(..) => &["map"],
            _ => &[],
        };
        if tag.is_yaml_core_schema() && fits.contains(&tag.suffix()) {
            return tag.suffix() != "str";
        }
        let start = located.tag_start.map_or(span, |mark| Span {
            line: mark.line(),
            column: mark.col() + 1,
            width: tag.original().chars().count(),
        });
        let found = format!("the tag {} is not supported here", tag.original());
        self.report.error(&self.path, start, Fault::new(found, "remove it"));
        true
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Stopped> {
        let Some(node) = self.anchors.get(&id) else {
            let help = "move the anchor (&name) out of the value that uses it";
            return self
                .stop(span, Fault::new("the alias stands for a value that contains it", help));
        };
        let node = node.clone();
        let (n_nodes, text_len) = weight(&node);
        self.spend(n_nodes, text_len, span)?;
        Ok(node)
    }

    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        located: &granit_parser::Span,
    ) -> Result<Value, Stopped> {
        let span = place(located);
        if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Ok(Value::Null);
        }
        let mut unset = Vec::new();
        let text = match interpolate(text, self.lookup, &mut unset) {
            Ok(text) => text,
            Err(broken) => {
                let span = self.within(located, &broken.expression);
                self.report.error(&self.path, span, broken.fault);
                return Ok(Value::Broken);
            }
        };
        for name in unset {
            if !self.warned.contains(&name) {
                let found = format!("the variable {name} is not set, so it became empty text");
                let help = format!("set it, or give a default: ${{{name}:-default}}");
                let span = self.within(located, &name);
                self.report.warning(&self.path, span, Fault::new(found, help));
                self.warned.push(name);
            }
        }
        self.spend(0, text.len(), span)?;
        Ok(Value::Scalar(text))
    }

    /// The place of `needle` in the source of a scalar, or that of the scalar.
    fn within(&self, located: &granit_parser::Span, needle: &str) -> Span {
        let whole = place(located);
        let range = located.byte_range().unwrap_or_default();
        let Some(at) = self.text.get(range.clone()).and_then(|source| source.find(needle)) else {
            return whole;
        };
        let before = self.text.get(range.start..range.start + at).unwrap_or_default();
        let width = needle.chars().count();
        match before.rsplit_once('\n') {
            None => Span { width, column: whole.column + before.chars().count(), ..whole },
            Some((above, last)) => Span {
                line: whole.line + above.matches('\n').count() + 1,
                column: last.chars().count() + 1,
                width,
            },
        }
    }

    fn list(&mut self) -> Result<Value, Stopped> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                located => {
                    let parent = self.path.clone();
                    self.path = format!("{parent}[{}]", items.len());
                    items.push(self.node(located)?);
                    self.path = parent;
                }
            }
        }
    }

    fn map(&mut self) -> Result<Value, Stopped> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        while let Some((key, key_span, is_plain)) = self.key()? {
            let path = member_path(&self.path, &key);
            let parent = std::mem::replace(&mut self.path, path.clone());
            let located = self.next()?;
            let value = self.node(located)?;
            self.path = parent;
            if key == "<<" && is_plain {
                merged.push(value);
                continue;
            }
            match seen.get(&key) {
                Some(first) => {
                    let found = format!("the key {} is given twice", quoted(&key));
                    let help =
                        format!("it is first at line {}, column {}", first.line, first.column);
                    self.report.error(&path, key_span, Fault::new(found, help));
                }
                None => {
                    seen.insert(key.clone(), key_span);
                    entries.push(Entry { key, key_span, value });
                }
            }
        }
        for value in merged {
            self.merge(value, &mut seen, &mut entries);
        }
        Ok(Value::Map(entries))
    }

    fn key(&mut self) -> Result<Option<(String, Span, bool)>, Stopped> {
        let (event, located) = self.next()?;
        let span = place(&located);
        if let (Some(id), Event::Scalar(text, ..)) = (event.anchor_id(), &event) {
            self.anchors.insert(id, Node { span, value: Value::Scalar(text.to_string()) });
        }
        match event {
            Event::MappingEnd => Ok(None),
            Event::Scalar(text, style, ..) if !(text.is_empty() && style == ScalarStyle::Plain) => {
                self.spend(1, text.len(), span)?;
                if text.len() > KEY_LEN_MAX {
                    let found = format!("a key has {} bytes", text.len());
                    return self.stop(span, Fault::new(found, format!("at most {KEY_LEN_MAX}")));
                }
                Ok(Some((text.into_owned(), span, style == ScalarStyle::Plain)))
            }
            _ => self.stop(span, Fault::new("a key is not text", "write key: value")),
        }
    }

    /// Adds what the map lacks, as `<<` asks; of several sources the first wins.
    fn merge(&mut self, source: Node, seen: &mut BTreeMap<String, Span>, entries: &mut Vec<Entry>) {
        let sources = if let Value::List(items) = source.value { items } else { vec![source] };
        for source in sources {
            if matches!(source.value, Value::Broken) {
                continue;
            }
            let Value::Map(more) = source.value else {
                let found =
                    format!("<< wants a map or a list of maps, found {}", source.describe());
                self.report.error(&self.path, source.span, Fault::new(found, "write <<: *name"));
                continue;
            };
            for entry in more {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.key_span);
                    entries.push(entry);
                }
            }
        }
    }
}

/// How many nodes and how much text a node stands for.
fn weight(node: &Node) -> (usize, usize) {
    let plus = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
    match &node.value {
        Value::Null | Value::Broken => (1, 0),
        Value::Scalar(text) => (1, text.len()),
        Value::List(items) => items.iter().map(weight).fold((1, 0), plus),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| plus(weight(&entry.value), (1, entry.key.len())))
            .fold((1, 0), plus),
    }
}

fn place(span: &granit_parser::Span) -> Span {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() {
        end.col().saturating_sub(start.col())
    } else {
        // More than a line can show; the report cuts it at the line's end.
        usize::MAX
    };
    Span { line: start.line(), column: start.col() + 1, width }
}
