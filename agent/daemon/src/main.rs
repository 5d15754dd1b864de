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
    cli::Cli::parse().execute()
}
