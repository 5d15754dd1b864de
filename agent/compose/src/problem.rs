//! What is wrong with a manifest, and where.
//!
//! A problem names the file, the line and column, the path of the key, what was found and what to write instead, so that it
//! can be repaired without a look into the documentation. It prints without colour; who prints to a terminal may add some.

use std::fmt;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The manifest cannot be used.
    Error,
    /// The manifest can be used; the operator should know this about it.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The line itself; `None` for files of variables, whose lines are often secret.
    pub excerpt: Option<Excerpt>,
}

/// A line of the file, cut to a printable length, and what to mark in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The text of the line or of its interesting part.
    pub text: String,
    /// How many characters precede the marked part.
    pub offset: usize,
    /// How many characters to mark, at least one.
    pub width: usize,
}

/// One thing that is wrong or noteworthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it prevents the use of the manifest.
    pub severity: Severity,
    /// The path of the key, such as `services.web.ports[1]`; empty when the problem concerns the whole file.
    pub path: String,
    /// Where it is; `None` when it does not come from a file.
    pub place: Option<Place>,
    /// What was found.
    pub found: String,
    /// What is allowed, or what to write instead; empty when `found` says it all.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.found)?;
        let mut margin = 0;
        if let Some(place) = &self.place {
            let line = place.line.to_string();
            margin = line.len();
            write!(f, "\n{:margin$}--> {}:{line}:{}", "", place.file, place.column)?;
            if let Some(excerpt) = &place.excerpt {
                write!(f, "\n{:margin$} |\n{line} | {}\n{:margin$} | ", "", excerpt.text, "")?;
                write!(f, "{:offset$}{}", "", "^".repeat(excerpt.width), offset = excerpt.offset)?;
            }
        }
        if self.help.is_empty() {
            return Ok(());
        }
        write!(f, "\n{:margin$} = help: {}", "", self.help)
    }
}

/// Everything that is wrong with a manifest, warnings included, in the order of the file.
///
/// Nothing was changed: a manifest with problems is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    n_unlisted: usize,
}

impl Problems {
    pub(crate) const fn new(list: Vec<Problem>, n_unlisted: usize) -> Self {
        Self { list, n_unlisted }
    }

    /// The problems, at most two hundred of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> + '_ {
        self.list.iter()
    }

    /// How many more there are.
    #[must_use]
    pub const fn n_unlisted(&self) -> usize {
        self.n_unlisted
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|problem| problem.severity == severity).count()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            write!(f, "{problem}\n\n")?;
        }
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let errors = self.count(Severity::Error);
        write!(f, "{errors} error{}", plural(errors))?;
        let warnings = self.count(Severity::Warning);
        if warnings > 0 {
            write!(f, ", {warnings} warning{}", plural(warnings))?;
        }
        if self.n_unlisted > 0 {
            write!(f, ", and {} more that are not listed", self.n_unlisted)?;
        }
        Ok(())
    }
}
