//! What can be typed.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::command;
use crate::complete::{self, Kind};
use crate::config;
use crate::failure::EXIT_CODES;
use crate::ui::Format;

/// Places apps on a mesh of servers and shows what they do. Works against any agent of the mesh.
#[derive(Debug, Parser)]
#[command(
    name = "agentctl",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The form of the output.
    #[arg(short, long, global = true, value_enum, default_value = "text", value_name = "FORM")]
    pub(crate) output: Format,
    /// Which context of the configuration file, one for each mesh; the current one if not given.
    #[arg(
        long,
        global = true,
        env = "AGENTCTL_CONTEXT",
        hide_env_values = true,
        value_name = "NAME",
        add = complete::of(Kind::Context)
    )]
    pub(crate) context: Option<String>,
    /// The configuration file.
    #[arg(
        long,
        global = true,
        env = "AGENTCTL_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        help = "The configuration file, with your keys; agentmesh/operator.json in $XDG_CONFIG_HOME or ~/.config if not given"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Ask this agent and no other.
    #[arg(
        long,
        global = true,
        env = "AGENTCTL_AGENT",
        hide_env_values = true,
        value_name = "HOST:PORT",
        value_parser = config::address,
        add = complete::of(Kind::Agent)
    )]
    pub(crate) agent: Option<String>,
    /// Print results and errors only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an app: a directory, a compose file, or an image with --name.
    Place(command::place::Args),
    /// List apps; with an app, its replicas.
    Ps(command::ps::Args),
    /// Show the mesh on one screen.
    #[command(after_help = "Example: agentctl status")]
    Status,
    /// List nodes.
    #[command(after_help = command::nodes::HELP)]
    Nodes,
    /// Explain why a replica is where it is.
    Why(command::why::Args),
    /// Show who holds exclusive services, and what their witnesses say.
    Leases(command::leases::Args),
    /// Show what happened on the mesh.
    Events(command::events::Args),
    /// Show what replicas print.
    Logs(command::logs::Args),
    /// Run a command in the container of a replica.
    Exec(command::exec::Args),
    /// Change how many replicas services have.
    Scale(command::scale::Args),
    /// Replace the containers of an app, one after the other.
    Restart(command::run::RestartArgs),
    /// Stop an app and keep it.
    Stop(command::run::StopArgs),
    /// Start a stopped app.
    Start(command::run::StartArgs),
    /// Remove an app.
    Rm(command::rm::Args),
    /// Move everything away from a node.
    Drain(command::drain::Args),
    /// Let a drained node hold replicas again.
    Undrain(command::drain::UndrainArgs),
    /// Look after nodes.
    #[command(subcommand)]
    Node(command::node::Command),
    /// Look after single replicas.
    #[command(subcommand)]
    Slot(command::slot::Command),
    /// Let servers join.
    #[command(subcommand)]
    Token(command::token::Command),
    /// Make your own key, and learn of a mesh that others run.
    Login(command::login::Args),
    /// Look after those who may give orders, and their roles.
    #[command(subcommand)]
    Operator(command::operator::Command),
    /// Look after the meshes that this machine knows.
    #[command(subcommand)]
    Context(command::context::Command),
    /// Replace the root's key, lost or stolen, by means of the recovery key.
    Recover(command::recover::Args),
    /// Look after images.
    #[command(subcommand)]
    Image(command::image::Command),
    /// Show versions.
    #[command(after_help = "Example: agentctl version")]
    Version,
    /// Describe the JSON of every command.
    #[command(after_help = "Example: agentctl json")]
    Json,
    /// Print completions for a shell.
    Completions(command::completions::Args),
    /// Write the manual into a directory.
    #[command(hide = true)]
    Man(command::man::Args),
}

/// The definition of the whole command line.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
