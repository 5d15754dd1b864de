//! `agentctl context`: the meshes that this machine knows, and the keys that it has for them.
//!
//! These commands work on the configuration file alone and ask no agent.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use mesh_coordinator::name::MeshName;
use mesh_identity::keys;
use mesh_identity::operator::{self, Context, ContextError, Contexts};

use crate::cli::Global;
use crate::complete::{self, Kind};
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::output::json;
use crate::target;
use crate::ui::{Cell, Table, Ui, table};

/// Stands for standard input or output where a file is expected.
const PIPE: &str = "-";
/// Where a file to import comes from.
const WRITES_A_FILE: &str = "on the machine that has the context: agentctl context export FILE";

/// Look after the meshes that this machine knows.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List contexts; the current one has a star.
    #[command(after_help = "Example: agentctl context ls")]
    Ls,
    /// Show a context, with the line by which somebody else finds the same mesh.
    #[command(after_help = "Example: agentctl context show prod")]
    Show(OptionalName),
    /// Make a context the current one.
    #[command(after_help = "Example: agentctl context use prod")]
    Use(Name),
    /// Call a context by another name, on this machine only.
    #[command(after_help = "Example: agentctl context rename prod-2 prod-berlin")]
    Rename(Rename),
    /// Forget a context and its key.
    #[command(after_help = "Example: agentctl context rm prod-2")]
    Rm(Remove),
    /// Write a context into a file, for another machine of your own. The file holds your private key.
    #[command(after_help = "For another person: agentctl login, on that person's machine.\n\n\
                      Examples:\n  agentctl context export prod.json\n  agentctl context export -y - | ssh laptop agentctl context import -")]
    Export(Export),
    /// Take over the contexts of a file that export wrote; the last one becomes the current one.
    #[command(after_help = "Example: agentctl context import prod.json")]
    Import(Import),
}

/// Which context, or the current one.
#[derive(Debug, clap::Args)]
pub(crate) struct OptionalName {
    /// Which context; the current one if not given.
    #[arg(add = complete::of(Kind::Context))]
    name: Option<String>,
}

/// Which context.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Which context.
    #[arg(add = complete::of(Kind::Context))]
    name: String,
}

/// A new name.
#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// Which context.
    #[arg(add = complete::of(Kind::Context))]
    name: String,
    /// What it is to be called.
    new: MeshName,
}

/// What is to be forgotten.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Which context.
    #[arg(add = complete::of(Kind::Context))]
    name: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What is written where.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// A new file, or - for standard output. The global option --context says which context.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What is read.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Does what was typed.
pub(crate) fn run(command: &Command, global: &Global, ui: &mut Ui) -> Result<Outcome, Failure> {
    let path = config::path(global)?;
    match command {
        Command::Ls => list(&path, ui),
        Command::Show(OptionalName { name }) => {
            show(&path, name.as_deref().or(global.context.as_deref()), ui)
        }
        Command::Use(Name { name }) => {
            edit(&path, |contexts| contexts.make_current(name))?;
            said(ui, format!("{name} is the current context"))
        }
        Command::Rename(Rename { name, new }) => {
            edit(&path, |contexts| contexts.rename(name, new.clone()))?;
            said(ui, format!("{name} is called {new} now"))
        }
        Command::Rm(args) => remove(args, &path, ui),
        Command::Export(args) => export(args, &path, global.context.as_deref(), ui),
        Command::Import(args) => import(args, &path, ui),
    }
}

/// Changes the file; without one there is nothing to change.
fn edit<T>(
    path: &Path,
    change: impl FnOnce(&mut Contexts) -> Result<T, ContextError>,
) -> Result<T, Failure> {
    Contexts::load(path).map_err(config::unusable)?;
    Contexts::edit(path, change).map_err(config::unusable)
}

fn said(ui: &mut Ui, change: String) -> Result<Outcome, Failure> {
    if ui.is_json() {
        ui.json(&json::Changed { change, stored: None, rollout: None })?;
    } else {
        ui.line(change)?;
    }
    Ok(Outcome::Done)
}

fn list(path: &Path, ui: &mut Ui) -> Result<Outcome, Failure> {
    let contexts = Contexts::load(path).map_err(config::unusable)?;
    if ui.is_json() {
        let list = contexts.all().iter().map(|one| document(one, &contexts)).collect();
        ui.json(&json::Contexts { contexts: list })?;
    } else {
        ui.table(&rows(&contexts))?;
        if let Some(newcomer) = contexts.newcomer() {
            ui.note(format!("a key of {} waits for its mesh: agentctl login", newcomer.name))?;
        }
    }
    Ok(Outcome::Done)
}

fn rows(contexts: &Contexts) -> Table {
    let columns = &["CONTEXT", "MESH", "OPERATOR", "FINGERPRINT OF THE KEY", "AGENTS"];
    let mut table = table(columns).spare(&["AGENTS", "FINGERPRINT OF THE KEY"]);
    for context in contexts.all() {
        let star = if contexts.current() == Some(&context.name) { " *" } else { "" };
        let mesh: String = context.mesh.to_string().chars().take(12).collect();
        table.add_row(vec![
            Cell::new(format!("{}{star}", context.name)),
            Cell::new(format!("{} ({mesh})", context.mesh_name)),
            Cell::new(&context.operator_name),
            Cell::new(keys::fingerprint(&context.operator.public())),
            Cell::new(context.agents.len()),
        ]);
    }
    table
}

fn document(context: &Context, contexts: &Contexts) -> json::Context {
    let key = context.operator.public();
    let agent = context.agents.first();
    json::Context {
        name: context.name.to_string(),
        current: contexts.current() == Some(&context.name),
        mesh: context.mesh_name.to_string(),
        mesh_id: context.mesh.to_string(),
        operator: context.operator_name.to_string(),
        key: key.to_string(),
        fingerprint: keys::fingerprint(&key),
        agents: context.agents.iter().map(|agent| agent.address.clone()).collect(),
        login: agent.map(|agent| config::way(context.mesh, &context.mesh_name, agent)),
    }
}

fn show(path: &Path, name: Option<&str>, ui: &mut Ui) -> Result<Outcome, Failure> {
    let contexts = Contexts::load(path).map_err(config::unusable)?;
    let context = contexts.select(name).map_err(config::unusable)?;
    let document = document(context, &contexts);
    if ui.is_json() {
        ui.json(&document)?;
        return Ok(Outcome::Done);
    }
    let current = if document.current { ", the current one" } else { "" };
    ui.line(format!("context      {}{current}", document.name))?;
    ui.line(format!("mesh         {} ({})", document.mesh, document.mesh_id))?;
    ui.line(format!("operator     {}", document.operator))?;
    ui.line(format!("key          {}", document.key))?;
    ui.line(format!("fingerprint  {}", document.fingerprint))?;
    ui.line(format!("agents       {}", document.agents.join(", ")))?;
    if let Some(login) = &document.login {
        ui.line(format!("for others   {login}"))?;
    }
    Ok(Outcome::Done)
}

fn remove(args: &Remove, path: &Path, ui: &mut Ui) -> Result<Outcome, Failure> {
    let contexts = Contexts::load(path).map_err(config::unusable)?;
    let context = contexts.select(Some(&args.name)).map_err(config::unusable)?;
    let Context { operator_name, mesh_name, .. } = context;
    let what = format!(
        "The key of {operator_name} on {mesh_name} is deleted from this machine; without a copy elsewhere it is lost.\n\
         It stays an operator's key until an admin types: agentctl operator rm {operator_name}"
    );
    ui.consent_for_good(&what, args.yes)?;
    edit(path, |contexts| contexts.remove(&args.name))?;
    said(ui, format!("forgot the context {}", args.name))
}

fn export(args: &Export, path: &Path, name: Option<&str>, ui: &mut Ui) -> Result<Outcome, Failure> {
    let contexts = Contexts::load(path).map_err(config::unusable)?;
    let context = contexts.select(name).map_err(config::unusable)?;
    let is_piped = args.file.as_os_str() == PIPE;
    if is_piped && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a private key is not printed on a terminal",
            "agentctl context export FILE, or pipe it into agentctl context import -",
        ));
    }
    let what = format!(
        "The private key of {} on {} goes with it: whoever reads it can do what {0} can. Keep it to machines of your own.",
        context.operator_name, context.mesh_name
    );
    ui.consent_for_good(&what, args.yes)?;
    let mut exported = Contexts::default();
    exported.add(context.clone());
    if is_piped {
        ui.pass_out(exported.to_text().map_err(config::unusable)?.as_bytes())?;
        return Ok(Outcome::Done);
    }
    operator::export(&exported, &args.file).map_err(config::unusable)?;
    let file = args.file.display();
    ui.note(format!(
        "it holds your private key, readable by you alone; on the other machine: agentctl context import {file}, then delete it \
         on both"
    ))?;
    said(ui, format!("wrote the context {} to {file}", context.name))
}

fn import(args: &Import, path: &Path, ui: &mut Ui) -> Result<Outcome, Failure> {
    let imported = if args.file.as_os_str() == PIPE {
        Contexts::read(std::io::stdin().lock(), Path::new("standard input"))
    } else {
        Contexts::load(&args.file)
    };
    let imported = imported.map_err(|error| {
        if let ContextError::Missing { path } = error {
            let guess = target::path::guess(&args.file);
            Failure::usage(format!("there is no file {path}{guess}"), WRITES_A_FILE)
        } else {
            config::unusable(error)
        }
    })?;
    if imported.all().is_empty() {
        let text = format!("{} holds no context", args.file.display());
        return Err(Failure::usage(text, WRITES_A_FILE));
    }
    let names = Contexts::edit(path, |contexts| {
        let each = imported.all().iter().cloned();
        Ok::<Vec<MeshName>, ContextError>(each.map(|context| contexts.add(context)).collect())
    });
    let names: Vec<String> =
        names.map_err(config::unusable)?.iter().map(ToString::to_string).collect();
    let current = names.last().cloned().unwrap_or_default();
    said(ui, format!("took over {}; {current} is the current context", names.join(", ")))
}
