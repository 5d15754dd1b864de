//! `agentctl completions`: what a shell needs to complete commands.

use clap_complete::Shell;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: agentctl completions bash > /etc/bash_completion.d/agentctl")]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::definition(), "agentctl", &mut script);
    ui.pass_out(&script)?;
    Ok(Outcome::Done)
}
