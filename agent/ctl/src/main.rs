//! agentctl: what an operator types.
//!
//! It talks to any agent of a mesh and to the public API only (invariant I10). Everything that changes intent is a record that is
//! built and signed here. Start reading at [`cli`] for what can be typed, at [`command`] for what happens then, and at [`mesh`]
//! for what an agent can be asked. What a shell offers while somebody types is in [`complete`].

mod cli;
mod command;
mod complete;
mod config;
mod failure;
mod intent;
mod lease;
mod manifest;
mod mesh;
mod output;
mod plan;
mod remote;
mod roll;
mod roster;
mod target;
mod terminal;
mod ui;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use crate::failure::Failure;
use crate::ui::Ui;

fn main() -> ExitCode {
    if complete::answer() {
        return ExitCode::SUCCESS;
    }
    let cli = cli::Cli::parse();
    let mut ui = Ui::of_process(cli.global.output, cli.global.quiet);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(&Failure::failed(format!("cannot start threads: {error}")), &mut ui);
        }
    };
    let outcome = runtime.block_on(command::run(cli, &mut ui));
    // A read of standard input cannot be interrupted: it must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(failure) => end(&failure, &mut ui),
    }
}

fn end(failure: &Failure, ui: &mut Ui) -> ExitCode {
    if let Some(message) = failure.message() {
        // When even standard error is closed there is nobody to tell.
        drop(ui.warn(message));
    }
    ExitCode::from(failure.code())
}
