//! Commands, typed as an operator types them, against a mesh in memory.

mod change;
mod lease;
mod names;
mod operator;
mod place;
mod read;
mod slot;

use clap::Parser as _;

use super::on_mesh;
use crate::cli::{Cli, Command};
use crate::mesh::fake::Fake;
use crate::ui::capture::Captured;

/// What a command did.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    /// All of it, for a snapshot.
    fn all(&self) -> String {
        format!("{}\n--- on standard error\n{}\n--- exit code {}", self.out, self.err, self.code)
    }
}

/// Runs a line; every question is answered with `answer`, and with none there is nobody to ask.
async fn run_with(fake: &Fake, answer: Option<bool>, line: &str) -> Ran {
    run_at(fake, (None, answer), line).await
}

/// Runs a line in front of a terminal that is so wide, with an answer to every question.
async fn run_at(fake: &Fake, (width, answer): (Option<u16>, Option<bool>), line: &str) -> Ran {
    let captured = Captured::default();
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("the line is well formed");
    let mut ui = captured.ui_at(width, cli.global.output, answer);
    let code = match on_mesh(fake, &mut ui, cli.command).await {
        Ok(outcome) => outcome.code(),
        Err(failure) => {
            ui.warn(failure.message().unwrap_or_default()).unwrap();
            failure.code()
        }
    };
    Ran { code, out: captured.out.text(), err: captured.err.text() }
}

/// Runs a line in a script; what needs no mesh in memory, with the configuration file that it names.
async fn run_line(fake: &Fake, line: &str) -> Ran {
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("the line is well formed");
    let works_alone = matches!(cli.command, Command::Context(_) | Command::Recover(_));
    if !works_alone && cli.global.context.is_none() {
        return run(fake, line).await;
    }
    let captured = Captured::default();
    let mut ui = captured.ui(cli.global.output, None);
    let code = match super::run(cli, &mut ui).await {
        Ok(outcome) => outcome.code(),
        Err(failure) => {
            ui.warn(failure.message().unwrap_or_default()).unwrap();
            failure.code()
        }
    };
    Ran { code, out: captured.out.text(), err: captured.err.text() }
}

/// Runs a line in a script.
async fn run(fake: &Fake, line: &str) -> Ran {
    run_with(fake, None, line).await
}

/// A mesh on which `hello` runs with two replicas.
async fn with_hello() -> Fake {
    let fake = Fake::new();
    let ran = run(&fake, "agentctl place hello:1 --name hello --replicas 2 --port 8080").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    fake
}
