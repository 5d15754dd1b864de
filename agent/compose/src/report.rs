//! Collects the problems of a file, and adds the lines that they point at.

use crate::problem::{Excerpt, Place, Problem, Problems, Severity};
use crate::tree::Span;

/// The most problems that are listed. More help nobody, and a hostile file could ask for a million of them.
const PROBLEMS_MAX: usize = 200;

/// The longest part of a line that is shown.
const EXCERPT_LEN: usize = 120;

/// How much of a long line is shown in front of the marked part.
const EXCERPT_LEAD: usize = 40;

/// What was found, and what is allowed instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) found: String,
    pub(crate) help: String,
}

impl Fault {
    pub(crate) fn new(found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { found: found.into(), help: help.into() }
    }
}

/// Collects problems; those of the manifest get their line shown.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    lines: Vec<String>,
    list: Vec<Problem>,
    n_errors: usize,
    n_unlisted: usize,
}

impl Report {
    /// A report about `text`, which came from `file`.
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let lines = text.split('\n').map(str::to_owned).collect();
        Self { file: file.to_owned(), lines, list: Vec::new(), n_errors: 0, n_unlisted: 0 }
    }

    /// An error at a place of the manifest.
    pub(crate) fn error(&mut self, path: &str, span: Span, fault: Fault) {
        self.add(Severity::Error, path, span, fault);
    }

    /// A warning at a place of the manifest.
    pub(crate) fn warning(&mut self, path: &str, span: Span, fault: Fault) {
        self.add(Severity::Warning, path, span, fault);
    }

    fn add(&mut self, severity: Severity, path: &str, span: Span, fault: Fault) {
        if self.list.len() >= PROBLEMS_MAX {
            // Not even looked up: a hostile file may have very many problems in very long lines.
            self.count(severity);
            self.n_unlisted += 1;
            return;
        }
        let Fault { found, help } = fault;
        let place = Some(self.place(span));
        self.push(Problem { severity, path: path.to_owned(), place, found, help });
    }

    /// A problem that was completed elsewhere.
    pub(crate) fn push(&mut self, problem: Problem) {
        self.count(problem.severity);
        if self.list.len() >= PROBLEMS_MAX {
            self.n_unlisted += 1;
        } else {
            self.list.push(problem);
        }
    }

    fn count(&mut self, severity: Severity) {
        self.n_errors += usize::from(severity == Severity::Error);
    }

    /// The result, with either the warnings or everything.
    pub(crate) fn finish<T>(mut self, result: Option<T>) -> Result<(T, Vec<Problem>), Problems> {
        let line = |problem: &Problem| {
            problem.place.as_ref().map(|place| (place.file != self.file, place.line, place.column))
        };
        self.list.sort_by_key(line);
        match result {
            Some(result) if self.n_errors == 0 => Ok((result, self.list)),
            _ => Err(Problems::new(self.list, self.n_unlisted)),
        }
    }

    /// The column of the first `c` in a line of the manifest.
    pub(crate) fn column_of(&self, line: usize, c: char) -> Option<usize> {
        let text = self.lines.get(line.checked_sub(1)?)?;
        text.chars().position(|other| other == c).map(|index| index + 1)
    }

    fn place(&self, span: Span) -> Place {
        let column = span.column.max(1);
        let line = span.line.max(1);
        let text = self.lines.get(line - 1).map_or("", String::as_str);
        Place {
            file: self.file.clone(),
            line,
            column,
            excerpt: Some(excerpt(text, column - 1, span.width.max(1))),
        }
    }
}

fn excerpt(line: &str, start: usize, width: usize) -> Excerpt {
    let length = line.chars().count();
    let skipped = if length > EXCERPT_LEN { start.saturating_sub(EXCERPT_LEAD) } else { 0 };
    let text: String = line
        .chars()
        .skip(skipped)
        .take(EXCERPT_LEN)
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect();
    let offset = start - skipped;
    let room = text.trim_end().chars().count().saturating_sub(offset).max(1);
    Excerpt { text: text.trim_end().to_owned(), offset, width: width.min(room) }
}
