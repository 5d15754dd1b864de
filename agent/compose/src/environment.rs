//! `environment`, `env_file` and `labels`: names with values, as a map or as a list of `name=value`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::amount::truth;
use crate::context::Context;
use crate::dotenv;
use crate::problem::{Place, Problem, Severity};
use crate::report::Report;
use crate::tree::quoted;
use crate::walk::{At, Table};

/// What the agent sets for every container, and what a manifest therefore cannot.
const RESERVED: &[&str] =
    &["MESH_APP", "MESH_SERVICE", "MESH_SLOT", "MESH_NODE", "MESH_RELEASE", "MESH_FENCING_TOKEN"];

/// Names with values; `None` where only the name was given.
type Pairs<'t> = Vec<(String, Option<String>, At<'t>)>;

/// The variables of a service: those of its files, in their order, and over them those of `environment`.
pub(crate) fn environment(
    table: &mut Table<'_>,
    context: &Context<'_>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if let Some(at) = table.take("env_file") {
        files(&at, context, &mut variables, report);
    }
    let Some(at) = table.take("environment") else {
        return variables;
    };
    for (name, value, at) in pairs(&at, report).unwrap_or_default() {
        if !is_variable(&name) {
            let found = format!("{} is not a variable's name", quoted(&name));
            at.refuse_key(found, "write NAME=value; a name has neither spaces nor '='", report);
        } else if RESERVED.contains(&name.as_str()) {
            let help = "choose another name";
            at.refuse_key(format!("{name} is set by the mesh for every container"), help, report);
        } else if let Some(value) = value.or_else(|| context.variable(&name)) {
            variables.insert(name, value);
        } else {
            let help = "set it, or give it a value here";
            let found = format!("{name} is to be taken from the environment, where it is not set");
            at.warn(found, help, report);
            // Compose unsets what a file had set.
            variables.remove(&name);
        }
    }
    variables
}

/// The labels of a service.
pub(crate) fn labels(at: &At<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value, at) in pairs(at, report).unwrap_or_default() {
        if name.is_empty() {
            at.refuse_key("a label has no name", "write name=value", report);
        } else {
            labels.insert(name, value.unwrap_or_default());
        }
    }
    labels
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == '=' || c.is_whitespace() || c.is_control())
}

fn pairs<'t>(at: &At<'t>, report: &mut Report) -> Option<Pairs<'t>> {
    if !at.is_list() {
        let members = at.members(report)?;
        let pair = |(name, at): (&str, At<'t>)| {
            let value = if at.is_null() { None } else { Some(at.text(report)?.to_owned()) };
            Some((name.to_owned(), value, at))
        };
        return Some(members.into_iter().filter_map(pair).collect());
    }
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut pairs: Pairs<'t> = Vec::new();
    for item in at.list(report)? {
        let Some(text) = item.text(report) else {
            continue;
        };
        let (name, value) =
            text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if let Some(first) = seen.get(name) {
            let help = format!("keep one; the other is {first}");
            item.refuse(format!("{} is given twice", quoted(name)), help, report);
        } else {
            seen.insert(name, item.path.clone());
            pairs.push((name.to_owned(), value.map(str::to_owned), item));
        }
    }
    Some(pairs)
}

/// Reads `env_file`: a path, or a list of paths and of maps with `path`, `required` and `format`.
fn files(
    at: &At<'_>,
    context: &Context<'_>,
    variables: &mut BTreeMap<String, String>,
    report: &mut Report,
) {
    let items = if at.is_list() { at.list(report).unwrap_or_default() } else { vec![at.clone()] };
    for item in items {
        if !item.is_map() {
            file(&item, true, dotenv::read, (context, variables), report);
            continue;
        }
        let Some(mut table) = item.table(report) else {
            continue;
        };
        let path = table.take("path");
        let required =
            table.take("required").and_then(|at| at.parse(truth, report)).unwrap_or(true);
        let read = match table.take("format").and_then(|at| Some((at.text(report)?, at))) {
            None => dotenv::read,
            Some(("raw", _)) => dotenv::read_raw,
            Some((other, at)) => {
                at.refuse(
                    format!("the format {} is unknown", quoted(other)),
                    "write raw, or leave it out",
                    report,
                );
                dotenv::read
            }
        };
        table.finish(&[], report);
        match path {
            Some(path) => file(&path, required, read, (context, variables), report),
            None => item.refuse("the file has no path", "write path: ./name.env", report),
        }
    }
}

type Read = fn(&str, crate::interpolate::Lookup<'_>) -> dotenv::Outcome;

fn file(
    at: &At<'_>,
    required: bool,
    read: Read,
    (context, variables): (&Context<'_>, &mut BTreeMap<String, String>),
    report: &mut Report,
) {
    let Some(path) = at.text(report) else {
        return;
    };
    let Some(directory) = context.directory else {
        let help = "place a file or a directory";
        at.refuse("the manifest has no directory that the path could begin at", help, report);
        return;
    };
    let whole = directory.join(path);
    let text = match crate::source::read_text(&whole) {
        Ok(text) => text,
        Err(fault) if fault.is_missing && !required => return,
        Err(fault) => {
            at.refuse(fault.found, "the path begins at the directory of the manifest", report);
            return;
        }
    };
    let outcome = read(&text, &|name| context.variable(name));
    outcome.report(Path::new(path), &at.path, report);
    for (name, value) in outcome.variables {
        if RESERVED.contains(&name.as_str()) {
            let help = "choose another name";
            at.refuse(
                format!("{path} sets {name}, which the mesh sets for every container"),
                help,
                report,
            );
        } else if let Some(value) = value.or_else(|| context.variable(&name)) {
            variables.insert(name, value);
        }
    }
}

impl dotenv::Outcome {
    /// Reports what is wrong with the file `path`, without its lines, which are often secret.
    pub(crate) fn report(&self, path: &Path, key: &str, report: &mut Report) {
        let note = |severity: Severity, (line, column): (usize, usize), found: &str, help: &str| {
            let file = path.display().to_string();
            let place = Some(Place { file, line, column, excerpt: None });
            let path = key.to_owned();
            Problem { severity, path, place, found: found.to_owned(), help: help.to_owned() }
        };
        for (place, fault) in &self.faults {
            report.push(note(Severity::Error, *place, &fault.found, &fault.help));
        }
        for (place, name) in &self.unset {
            let found = format!("the variable {name} is not set, so it became empty text");
            let help = format!("set it, or give a default: ${{{name}:-default}}");
            report.push(note(Severity::Warning, *place, &found, &help));
        }
    }
}
