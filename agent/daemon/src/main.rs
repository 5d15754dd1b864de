//! The agent: one identical program on every server.

mod address;
mod admission;
mod assembly;
mod checks;
mod cli;
mod config;
mod contacts;
mod founding;
mod glue;
mod home;
mod joining;
mod life;
mod run;
mod stock;

use std::process::ExitCode;

use clap::Parser;

/// Bad usage or a bad setting (sysexits.h, `EX_USAGE`).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    // Before anything starts a thread: the shim makes containers by fork, which only a process of one thread may do.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "shim") {
        return match arguments.next() {
            Some(dir) => mesh_runtime::shim_main(dir.as_ref()),
            None => ExitCode::from(EXIT_USAGE),
        };
    }
    match cli::Cli::try_parse() {
        Ok(cli) => cli.execute(),
        Err(told) => end(&told),
    }
}

/// Prints help, or what is wrong with the arguments. The parser's own code for bad usage is another one.
fn end(told: &clap::Error) -> ExitCode {
    // When the stream is closed there is nobody to tell.
    drop(told.print());
    if told.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) }
}
