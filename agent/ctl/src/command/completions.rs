//! `agentctl completions`: what a shell needs to complete commands, and the names that there are on the mesh.

use clap_complete::Shell;

use crate::complete::script;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Print completions for a shell: commands, options, and the names of what is on the mesh.
#[derive(Debug, clap::Args)]
#[command(after_help = "On servers deploy/install has done it.\n\n\
    Examples:\n  \
    agentctl completions bash > ~/.local/share/bash-completion/completions/agentctl\n  \
    agentctl completions zsh > ~/.zfunc/_agentctl        # with fpath+=~/.zfunc before compinit\n  \
    agentctl completions fish > ~/.config/fish/completions/agentctl.fish")]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, ui: &mut Ui) -> Result<Outcome, Failure> {
    ui.pass_out(&script::of(args.shell)?)?;
    Ok(Outcome::Done)
}
