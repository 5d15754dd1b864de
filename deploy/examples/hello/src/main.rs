//! A small web app that says which replica answered; for demonstrations and tests.
//!
//! `hello` serves on `$PORT` (8080). `hello health` asks a running one whether it is well and exits with 0 or 1, so that an image
//! with nothing but this program can check itself. `hello ask` asks whoever sits at the terminal for a name.

use std::io::{self, IsTerminal as _, Write};
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
        (Some("ask"), None) => ask(),
        _ => {
            say("usage: hello [health | ask]");
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

fn ask() -> io::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(io::Error::other("there is no terminal, and so nobody to ask"));
    }
    let mut out = io::stdout();
    write!(out, "What is your name? ")?;
    out.flush()?;
    let mut name = String::new();
    io::stdin().read_line(&mut name)?;
    writeln!(out, "Hello, {}.", name.trim())
}

/// Writes a line to standard error; nobody may be reading it, and that is fine.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "hello: {line}"));
}
