//! A small web app that says which replica answered; for demonstrations and tests.
//!
//! `hello` serves on `$PORT` (8080). `hello health` asks a running one whether it is well and exits with 0 or 1, so that an image
//! with nothing but this program can check itself.

use std::io::{self, Write};
use std::process::ExitCode;

mod app;
mod health;
mod http;
mod server;

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let outcome = match (args.next().as_deref(), args.next()) {
        (None, _) => port().and_then(server::run),
        (Some("health"), None) => port().and_then(health::check),
        _ => {
            say("usage: hello [health]");
            return ExitCode::from(USAGE);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn port() -> io::Result<u16> {
    let Ok(port) = std::env::var("PORT") else { return Ok(8080) };
    port.parse().map_err(|_digits| io::Error::other(format!("PORT={port:?} is not a port")))
}

/// Writes a line to standard error; nobody may be reading it, and that is fine.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "hello: {line}"));
}
