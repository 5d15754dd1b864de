//! Files of variables: `.env` and `env_file`.
//!
//! A line is `NAME=value`, with `export` in front if one likes, or only `NAME`. A value in single quotes is taken as it is; in
//! double quotes it knows `\n`, `\r`, `\t`, `\"`, `\$` and `\\`; both may go over several lines. Without quotes it ends at the
//! end of the line or at ` #`. Variables are replaced except in single quotes; they may come from lines above.

use std::collections::BTreeMap;

use crate::interpolate::{Lookup, interpolate};
use crate::report::Fault;
use crate::tree::quoted;

/// Line and column, both from 1.
type Position = (usize, usize);

/// What a file has.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The variables in the order of the file; `None` where only the name is there.
    pub(crate) variables: Vec<(String, Option<String>)>,
    /// What is wrong.
    pub(crate) faults: Vec<(Position, Fault)>,
    /// The variables that were used and are not set.
    pub(crate) unset: Vec<(Position, String)>,
}

/// Reads a file whose values may be quoted and hold variables.
pub(crate) fn read(text: &str, lookup: Lookup<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let body = first.trim_start();
        let body = body.strip_prefix("export ").map_or(body, str::trim_start);
        let column = first.chars().count() - body.chars().count() + 1;
        if body.is_empty() || body.starts_with('#') {
            rest = after;
            line += 1;
            continue;
        }
        // The value may go on in the following lines.
        let tail = rest.get(first.len() - body.len()..).unwrap_or_default();
        let (found, left) = match entry(tail) {
            Ok((entry, left)) => (Ok(entry), left),
            Err(fault) => (Err(fault), after),
        };
        let found = found.and_then(|(name, value)| {
            let mut unset = Vec::new();
            let lookup = |name: &str| lookup(name).or_else(|| known.get(name).cloned());
            let value = value.map(|value| value.resolve(&lookup, &mut unset)).transpose()?;
            outcome.unset.extend(unset.into_iter().map(|name| ((line, column), name)));
            Ok((name, value))
        });
        match found {
            Ok((name, value)) => {
                if let Some(value) = &value {
                    known.insert(name.clone(), value.clone());
                }
                outcome.variables.push((name, value));
            }
            Err(fault) => outcome.faults.push(((line, column), fault)),
        }
        line += rest
            .len()
            .checked_sub(left.len())
            .and_then(|n| rest.get(..n))
            .map_or(1, |read| read.matches('\n').count().max(1));
        rest = left;
    }
    outcome
}

/// Reads a file in which everything after `=` belongs to the value, as `docker run --env-file` does.
pub(crate) fn read_raw(text: &str, _lookup: Lookup<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .map_or((line, None), |(name, value)| (name, Some(value.to_owned())));
        match check_name(name.trim()) {
            Ok(name) => outcome.variables.push((name, value)),
            Err(fault) => outcome.faults.push(((index + 1, 1), fault)),
        }
    }
    outcome
}

/// A value before its variables are replaced.
enum Written {
    Literal(String),
    Open(String),
}

impl Written {
    fn resolve(self, lookup: Lookup<'_>, unset: &mut Vec<String>) -> Result<String, Fault> {
        match self {
            Self::Literal(text) => Ok(text),
            Self::Open(text) => interpolate(&text, lookup, unset).map_err(|broken| broken.fault),
        }
    }
}

type Named = (String, Option<Written>);

/// The entry at the beginning of `text`, and what follows its last line.
fn entry(text: &str) -> Result<(Named, &str), Fault> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let Some(end) = line.find(['=', ':']) else {
        return Ok(((check_name(line.trim())?, None), after));
    };
    let name = check_name(line.get(..end).unwrap_or_default().trim())?;
    let value = text.get(end + 1..).unwrap_or_default().trim_start_matches([' ', '\t']);
    if let Some(inside) = value.strip_prefix('\'') {
        let (value, left) = inside.split_once('\'').ok_or_else(open_quote)?;
        return Ok(((name, Some(Written::Literal(value.to_owned()))), end_of_line(left)?));
    }
    if let Some(inside) = value.strip_prefix('"') {
        let (value, left) = double_quoted(inside)?;
        return Ok(((name, Some(Written::Open(value))), end_of_line(left)?));
    }
    let value = value.split('\n').next().unwrap_or_default();
    let value = match value.find(" #").or_else(|| value.starts_with('#').then_some(0)) {
        Some(comment) => value.get(..comment).unwrap_or_default(),
        None => value,
    };
    Ok(((name, Some(Written::Open(value.trim().to_owned()))), after))
}

fn open_quote() -> Fault {
    Fault::new("a quote is opened and not closed", "close it")
}

fn check_name(name: &str) -> Result<String, Fault> {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.chars().all(inside) {
        return Ok(name.to_owned());
    }
    // The text is not shown: it may be a value that lost its name.
    Err(Fault::new(
        "this is not NAME=value",
        "a name has letters, digits and _, and no digit first",
    ))
}

/// The value up to its closing quote, ready for interpolation, and what follows the quote.
fn double_quoted(text: &str) -> Result<(String, &str), Fault> {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok((value, rest.as_str())),
            '\\' => match rest.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some('$') => value.push_str("$$"),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(other) => value.extend(['\\', other]),
                None => return Err(open_quote()),
            },
            c => value.push(c),
        }
    }
    Err(open_quote())
}

/// Passes over the end of a line on which nothing but a comment may stand.
fn end_of_line(text: &str) -> Result<&str, Fault> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(after);
    }
    let first: String = line.chars().take(1).collect();
    let found = format!("{} follows the closing quote", quoted(&first));
    Err(Fault::new(found, "put the whole value in quotes"))
}

#[cfg(test)]
mod tests;
