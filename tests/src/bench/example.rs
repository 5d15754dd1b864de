//! Programs that use the agent's crates, which this crate does not depend on; they are built as examples.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::lab::{Programs, shell};

/// Runs an example to its end and returns what it printed.
pub(super) fn run(name: &str, args: &[String]) -> Result<String> {
    let programs = Programs::find()?;
    let mut command = Command::new(programs.path("examples").join(name));
    command.args(args);
    shell::output(&mut command).context("./tests/bench builds the examples")
}
