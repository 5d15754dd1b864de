//! One file for each command.

pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod leases;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod operator;
pub(crate) mod place;
pub(crate) mod ps;
pub(crate) mod recover;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod slot;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod version;
pub(crate) mod why;

use std::time::Duration;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};
use crate::mesh::Mesh;
use crate::output::json;
use crate::remote::Remote;
use crate::ui::Ui;

/// How commands wait for what they asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Waiting {
    /// Do not wait until it is done.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Stop waiting after this time; the mesh goes on.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

impl Waiting {
    /// What was asked for in words, and that it was not waited for.
    pub(crate) fn words(&self, change: String) -> String {
        if self.detach { format!("{change}, not waiting until it is so") } else { change }
    }
}

/// Does what was typed.
pub(crate) async fn run(cli: Cli, ui: &mut Ui) -> Result<Outcome, Failure> {
    if matches!(cli.command, Command::Json) {
        ui.line(json::markdown().trim_end())?;
        return Ok(Outcome::Done);
    }
    if let Command::Completions(args) = &cli.command {
        return completions::run(args, ui);
    }
    if let Command::Man(args) = &cli.command {
        return man::run(args, ui);
    }
    if let Command::Context(command) = &cli.command {
        return context::run(command, &cli.global, ui);
    }
    if let Command::Login(args) = &cli.command {
        return login::run(args, &cli.global, ui).await;
    }
    if let Command::Recover(args) = &cli.command {
        return recover::run(args, &cli.global, ui).await;
    }
    let remote = Remote::open(&cli.global);
    if matches!(cli.command, Command::Version) {
        return version::run(remote.ok().as_ref(), ui).await;
    }
    let remote = remote?;
    let outcome = on_mesh(&remote, ui, cli.command).await;
    compare_clocks(&remote, ui).await?;
    // What was asked for is done; that the next command may have to look longer for an agent is worth a word only.
    if let Err(why) = remote.remember().await {
        ui.note(format!("note: the agents of the mesh were not remembered: {why}"))?;
    }
    outcome
}

/// Says so when something was signed at a time that this machine's clock finds wrong.
async fn compare_clocks(remote: &Remote, ui: &mut Ui) -> Result<(), Failure> {
    remote.doubt_of_time().await.map_or(Ok(()), |doubt| ui.warn(doubt))
}

/// Does what needs a mesh.
#[expect(clippy::cognitive_complexity, reason = "one arm for each command, and nothing else")]
pub(crate) async fn on_mesh<M: Mesh>(
    mesh: &M,
    ui: &mut Ui,
    command: Command,
) -> Result<Outcome, Failure> {
    match command {
        Command::Place(args) => place::run(&args, mesh, ui).await,
        Command::Ps(args) => ps::run(&args, mesh, ui).await,
        Command::Status => status::run(mesh, ui).await,
        Command::Nodes => nodes::run(mesh, ui).await,
        Command::Why(args) => why::run(&args, mesh, ui).await,
        Command::Leases(args) => leases::run(&args, mesh, ui).await,
        Command::Events(args) => events::run(&args, mesh, ui).await,
        Command::Logs(args) => logs::run(&args, mesh, ui).await,
        Command::Exec(args) => exec::run(args, mesh, ui).await,
        Command::Scale(args) => scale::run(&args, mesh, ui).await,
        Command::Restart(args) => run::restart(&args, mesh, ui).await,
        Command::Stop(args) => run::stop(&args, mesh, ui).await,
        Command::Start(args) => run::start(&args, mesh, ui).await,
        Command::Rm(args) => rm::run(&args, mesh, ui).await,
        Command::Drain(args) => drain::drain(&args, mesh, ui).await,
        Command::Undrain(args) => drain::undrain(&args, mesh, ui).await,
        Command::Slot(command) => slot::run(command, mesh, ui).await,
        Command::Node(command) => node::run(command, mesh, ui).await,
        Command::Token(command) => token::run(&command, mesh, ui).await,
        Command::Operator(command) => operator::run(command, mesh, ui).await,
        Command::Image(command) => image::run(command, mesh, ui).await,
        Command::Version => version::run(Some(mesh), ui).await,
        Command::Json
        | Command::Completions(_)
        | Command::Context(_)
        | Command::Login(_)
        | Command::Man(_)
        | Command::Recover(_) => Ok(Outcome::Done),
    }
}

/// What a command that changes something has to say in the end.
pub(crate) struct Change {
    /// What was asked for, in words.
    pub(crate) change: String,
    /// Where it is written down; `None` when there was nothing to do.
    pub(crate) stored: Option<json::Stored>,
    /// How the rollout ended; `None` when there was none.
    pub(crate) rollout: Option<json::Rollout>,
}

impl Change {
    /// Prints it.
    pub(crate) fn print(self, ui: &mut Ui) -> Result<(), Failure> {
        let Self { change, stored, rollout } = self;
        if ui.is_json() {
            return ui.json(&json::Changed { change, stored, rollout });
        }
        match (&stored, &rollout) {
            (None, _) => ui.line(format!("nothing to do: {change} already")),
            (Some(_), Some(rollout)) => {
                let json::Rollout { ready, wanted, .. } = rollout;
                ui.line(format!("{change}: {ready} of {wanted} replicas ready"))
            }
            (Some(_), None) => ui.line(change),
        }
    }
}

#[cfg(test)]
mod tests;
