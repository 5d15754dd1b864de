//! Where a manifest comes from.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use mesh_coordinator::name::AppName;

use crate::problem::{Place, Problem, Problems, Severity};

/// The names that a manifest may have in a directory, in Compose's order.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Files that Compose would merge into the manifest without being asked.
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

/// The largest file that is read. Manifests have a few kilobytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Where a manifest comes from, and the name that its app shall have.
#[derive(Debug, Clone)]
pub struct Source {
    origin: Origin,
    pub(crate) name: Option<AppName>,
}

#[derive(Debug, Clone)]
enum Origin {
    Path(PathBuf),
    Text { file: String, text: String, directory: Option<PathBuf> },
}

/// A manifest that was read and not yet understood.
pub(crate) struct Document {
    /// The file as the operator would name it.
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) directory: Option<PathBuf>,
    /// What is noteworthy about the way that it was found.
    pub(crate) notes: Vec<Problem>,
}

impl Source {
    /// A file, or a directory with a file of one of Compose's names.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { origin: Origin::Path(path.into()), name: None }
    }

    /// A text that problems call `file`; it can name no other files.
    pub fn text(file: impl Into<String>, text: impl Into<String>) -> Self {
        let origin = Origin::Text { file: file.into(), text: text.into(), directory: None };
        Self { origin, name: None }
    }

    /// Gives a text a directory, at which its paths begin and where its `.env` is.
    #[must_use]
    pub fn within(mut self, directory: impl Into<PathBuf>) -> Self {
        if let Origin::Text { directory: own, .. } = &mut self.origin {
            *own = Some(directory.into());
        }
        self
    }

    /// Names the app, whatever the manifest says.
    #[must_use]
    pub fn named(mut self, name: AppName) -> Self {
        self.name = Some(name);
        self
    }

    pub(crate) fn read(&self) -> Result<Document, Problems> {
        let path = match &self.origin {
            Origin::Path(path) => path,
            Origin::Text { file, text, directory } => {
                let (file, directory) = (file.clone(), directory.clone());
                let text = normal(text);
                return Ok(Document { file, text, directory, notes: Vec::new() });
            }
        };
        let (path, notes) = if path.is_dir() { find(path)? } else { (path.clone(), Vec::new()) };
        let file = shown(&path);
        let text = read_text(&path)
            .map_err(|fault| Problems::new(vec![fault.into_problem(file.clone())], 0))?;
        let directory = path.parent().map(|parent| {
            if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
        });
        Ok(Document { file, text, directory, notes })
    }
}

/// The path without a leading `./`.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// The manifest of a directory.
fn find(directory: &Path) -> Result<(PathBuf, Vec<Problem>), Problems> {
    let present =
        |names: [&'static str; 4]| names.into_iter().filter(|name| directory.join(name).exists());
    let note = |severity: Severity, found: String, help: &str| Problem {
        severity,
        path: String::new(),
        place: None,
        found,
        help: help.to_owned(),
    };
    let mut found = present(NAMES);
    let Some(name) = found.next() else {
        let text = format!("no manifest is in {}", directory.display());
        let help = format!("write one of {}, or name another file", NAMES.join(", "));
        return Err(Problems::new(vec![note(Severity::Error, text, &help)], 0));
    };
    let unused = found.map(|other| {
        let text = format!("{other} is not read, because {name} is there");
        note(Severity::Warning, text, "remove one of them, or name the file")
    });
    let overrides = present(OVERRIDES).map(|other| {
        let text = format!("{other} is not read: one file describes an app");
        note(
            Severity::Warning,
            text,
            "write what it changes into the manifest, with variables if need be",
        )
    });
    Ok((directory.join(name), unused.chain(overrides).collect()))
}

/// Why a file could not be read.
pub(crate) struct ReadFault {
    pub(crate) found: String,
    /// Whether there is no such file.
    pub(crate) is_missing: bool,
    /// Line and column of what is not text.
    position: Option<(usize, usize)>,
}

impl ReadFault {
    pub(crate) fn into_problem(self, file: String) -> Problem {
        let place = self.position.map(|(line, column)| Place { file, line, column, excerpt: None });
        let help = String::new();
        Problem { severity: Severity::Error, path: String::new(), place, found: self.found, help }
    }
}

/// Reads a text file of bounded size, with its ends of line made uniform.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadFault> {
    let name = shown(path);
    let fault = |found: String| ReadFault { found, is_missing: false, position: None };
    let unreadable = |error: std::io::Error| ReadFault {
        found: format!("cannot read {name}: {error}"),
        is_missing: error.kind() == ErrorKind::NotFound,
        position: None,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_LEN_MAX {
        return Err(fault(format!("{name} is larger than 1 MiB")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(normal(&text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let before = String::from_utf8_lossy(before);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
            let found = format!("{name} is not UTF-8 text");
            Err(ReadFault { found, is_missing: false, position: Some((line, column)) })
        }
    }
}

/// The text without a byte order mark and with `\n` as the end of each line.
fn normal(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.replace("\r\n", "\n").replace('\r', "\n")
}
