//! The demonstration: three hosts, an app on them, and a host that loses power while clients ask.
//!
//! It types what a person would type, and shows it. `deploy/demo` builds and runs it.

mod screen;
mod story;

use std::process::ExitCode;

use crate::lab;

/// The name of the demonstration's lab, always the same so that it can be found again.
const NAME: &str = "mesh-demo";

/// Runs the demonstration, or removes one that was kept.
#[must_use]
pub fn main() -> ExitCode {
    let mut is_kept = false;
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--keep" => is_kept = true,
            "--clean" => {
                lab::clean(NAME);
                return ExitCode::SUCCESS;
            }
            _ => {
                screen::line("usage: deploy/demo [--keep | --clean]");
                return ExitCode::from(2);
            }
        }
    }
    let missing = lab::missing(false);
    if !missing.is_empty() {
        screen::line("This machine cannot show it. What is missing:");
        for what in missing {
            screen::line(&format!("  - {what}"));
        }
        return ExitCode::FAILURE;
    }
    lab::clean(NAME);
    match story::tell(is_kept) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::line(&format!("The demonstration failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
