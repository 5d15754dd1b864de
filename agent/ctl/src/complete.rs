//! What a shell offers when the Tab key is pressed: commands and options, and the names that there are on the mesh now.
//!
//! The shell's script ([`script`]) calls agentctl itself with the words so far and the variable [`VARIABLE`]. The answer is made
//! here: [`ask`] finds out from those words which mesh is meant and asks it, [`names`] makes candidates out of what it said.
//! Whoever types a command has not asked for anything yet: when something fails or takes long there are no candidates, no
//! message, and nothing is written.

mod ask;
mod names;
pub(crate) mod script;

use std::ffi::OsStr;

use clap::Command;
use clap_complete::engine::ValueCompleter as _;
use clap_complete::env::CompleteEnv;
use clap_complete::{ArgValueCompleter, CompletionCandidate, PathCompleter};

use self::ask::Line;
use self::names::Candidate;
pub(crate) use self::names::{Kind, Which};
use crate::cli;
use crate::manifest;

/// Set by the scripts of the shells; its value says which shell asks.
pub(crate) const VARIABLE: &str = "AGENTCTL_COMPLETE";

/// Answers a shell that asks for candidates. False when none does, and there is a command to run.
pub(crate) fn answer() -> bool {
    if std::env::var_os(VARIABLE).is_none_or(|shell| shell.is_empty()) {
        return false;
    }
    let Some(line) = Line::of_process() else { return false };
    let directory = std::env::current_dir().ok();
    let definition =
        || if line.current.is_empty() { quiet(cli::definition()) } else { cli::definition() };
    let answered = CompleteEnv::with_factory(definition)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref());
    // Nobody reads what went wrong: the shell shows no candidates.
    drop(answered);
    true
}

/// The definition in which options are offered only where nothing else is: before anything is typed they would hide the names.
fn quiet(definition: Command) -> Command {
    let quiet_argument = |argument: clap::Arg| {
        let is_option = argument.get_long().is_some() || argument.get_short().is_some();
        argument.hide(is_option)
    };
    definition
        .disable_help_flag(true)
        .disable_version_flag(true)
        .mut_args(quiet_argument)
        .mut_subcommands(quiet)
}

/// What completes an argument that names something.
pub(crate) fn of(kind: Kind) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let candidates = Line::of_process().and_then(|line| candidates(kind, current, &line));
        candidates.unwrap_or_default()
    })
}

fn candidates(kind: Kind, current: &OsStr, line: &Line) -> Option<Vec<CompletionCandidate>> {
    if kind == Kind::Manifest {
        return Some(manifests(current, line));
    }
    let current = current.to_str()?;
    let found = match kind {
        Kind::Context => names::contexts(&line.contexts()?),
        Kind::Agent => names::agents(line.contexts()?.select(line.context().as_deref()).ok()?),
        Kind::Operator(which) => names::operators(&line.roll()?, which),
        Kind::Manifest => names::images(&line.images()?),
        Kind::App(_)
        | Kind::Label
        | Kind::Node(_)
        | Kind::Replicas
        | Kind::Scale
        | Kind::Service
        | Kind::Slot => names::of_overview(kind, &line.overview()?, current, line.app().as_deref()),
    };
    Some(offered(found, current))
}

/// Files and directories that can be a manifest, and images.
fn manifests(current: &OsStr, line: &Line) -> Vec<CompletionCandidate> {
    let is_manifest = |path: &std::path::Path| path.is_dir() || manifest::is_manifest(path);
    let mut all = PathCompleter::any().filter(is_manifest).complete(current);
    if let Some(text) = current.to_str()
        && !text.starts_with(['.', '/', '~'])
        && let Some(images) = line.images()
    {
        all.extend(offered(names::images(&images), text));
    }
    all
}

fn offered(found: Vec<Candidate>, current: &str) -> Vec<CompletionCandidate> {
    let fits = found.into_iter().filter(|candidate| candidate.value.starts_with(current));
    fits.map(|Candidate { value, help }| {
        let help = (!help.is_empty()).then(|| help.into());
        CompletionCandidate::new(value).help(help)
    })
    .collect()
}
