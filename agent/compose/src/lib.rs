//! Compose files to app specifications, with the place of every fault.
//!
//! [`load`] reads a file in three steps: the YAML parser's events become a tree whose every part knows its place (`tree`,
//! where anchors, merge keys and variables are resolved and everything is bounded); a walk over that tree (`walk`) takes the
//! keys that this version honours, one file per section; and what the walk did not take is refused, with the reason from
//! `refused` or as unknown. So each key is honoured or refused, and all problems of a file are found in one run.
//!
//! The result is a [`Manifest`]. It becomes an [`AppSpec`](mesh_coordinator::spec::AppSpec) by [`Manifest::resolve`], because
//! only the mesh knows which digest an image's name means.
//!
//! The parser under serde's YAML crate is used directly: through serde a value forgets its place, and each error ends the run.

mod amount;
mod app;
mod bare;
mod command;
mod context;
mod deploy;
mod dotenv;
mod environment;
mod guarantee;
mod health;
mod image;
mod interpolate;
mod manifest;
mod ports;
mod problem;
mod refused;
mod report;
mod service;
mod signal;
mod source;
mod suggest;
mod tree;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;

pub use self::bare::BareImage;
pub use self::manifest::{Container, Manifest, MissingImage, Service};
pub use self::problem::{Excerpt, Place, Problem, Problems, Severity};
pub use self::source::Source;
use crate::context::Context;
use crate::interpolate::Lookup;
use crate::report::Report;
use crate::walk::At;

/// A manifest that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub manifest: Manifest,
    /// What the operator should know about it, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads a manifest. `environment` answers for variables; what it does not know may be in `.env` beside the file.
///
/// # Errors
///
/// Everything that is wrong with it, warnings included.
pub fn load(
    source: &Source,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let document = source.read()?;
    let mut report = Report::new(&document.file, &document.text);
    for note in document.notes {
        report.push(note);
    }
    let directory = document.directory.as_deref();
    let context = Context {
        directory,
        environment,
        defaults: defaults(directory, environment, &mut report),
        name: source.name.clone(),
        directory_name: directory.and_then(base_name),
    };
    let tree = tree::build(&document.text, &|name| context.variable(name), &mut report);
    let manifest = tree.and_then(|root| app::manifest(&At::root(&root), &context, &mut report));
    let (manifest, warnings) = report.finish(manifest)?;
    Ok(Loaded { manifest, warnings })
}

/// The variables of `.env`, if the directory has one.
fn defaults(
    directory: Option<&Path>,
    environment: Lookup<'_>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let Some(path) =
        directory.map(|directory| directory.join(".env")).filter(|path| path.is_file())
    else {
        return BTreeMap::new();
    };
    let text = match source::read_text(&path) {
        Ok(text) => text,
        Err(fault) => {
            report.push(fault.into_problem(path.display().to_string()));
            return BTreeMap::new();
        }
    };
    let outcome = dotenv::read(&text, environment);
    outcome.report(Path::new(".env"), "", report);
    let known = |(name, value): (String, Option<String>)| Some((name, value?));
    outcome.variables.into_iter().filter_map(known).collect()
}

/// The directory's own name.
fn base_name(directory: &Path) -> Option<String> {
    let whole = directory.canonicalize().ok()?;
    Some(whole.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
