//! What the nemesis runs in containers: it says all the time that it runs, in a file that no agent has a hand in.
//!
//! A line is `TOKEN NANOSECONDS EVENT`: the fencing token, `CLOCK_MONOTONIC_RAW`, and `started`, `tick`, `term` or `bye`. Each is
//! one write to a file of this start's own in `/history`, every 10 ms. By its argument the program `ignores` SIGTERM, `forks`
//! others that do the same, or `becomes` another user, so that the kernel does not end it with whoever started it. One that
//! cannot write ends: nobody could tell that it runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Uid, setuid};

const DIR: &str = "/history";
const PACE_MS: u16 = 10;
const CHILDREN: usize = 3;
const NOBODY: u32 = 65_534;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (Ok(()) | Err(_)) = writeln!(io::stderr(), "ticker {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let asked = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK)?;
    let token = std::env::var("MESH_FENCING_TOKEN").map_err(io::Error::other)?;
    let (does, path) = match words {
        [] => ("", fresh()?),
        [does] => (does.as_str(), fresh()?),
        // One of several that write to the same file.
        [does, path, ..] => (does.as_str(), PathBuf::from(path)),
    };
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if does != "child" {
        write(&mut file, &token, "started")?;
    }
    match does {
        "" | "ignores" | "child" => {}
        "becomes" => setuid(Uid::from_raw(NOBODY))?,
        "forks" => fork(&path)?,
        _ => return Err(io::Error::other("usage: ticker [becomes | forks | ignores]")),
    }
    let obeys = !matches!(does, "ignores" | "child");
    loop {
        write(&mut file, &token, "tick")?;
        // An interrupted wait is a shorter one.
        let (Ok(_) | Err(_)) = poll(&mut [PollFd::new(asked.as_fd(), PollFlags::POLLIN)], PACE_MS);
        if asked.read_signal()?.is_some() {
            write(&mut file, &token, "term")?;
            if obeys {
                return write(&mut file, &token, "bye");
            }
        }
    }
}

/// A name that no other start in this container has.
fn fresh() -> io::Result<PathBuf> {
    fs::create_dir_all(DIR)?;
    Ok(Path::new(DIR).join(nanos()?.to_string()))
}

fn fork(path: &Path) -> io::Result<()> {
    for _ in 0..CHILDREN {
        Command::new("/proc/self/exe").arg("child").arg(path).spawn()?;
    }
    Ok(())
}

fn nanos() -> io::Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

fn write(file: &mut File, token: &str, event: &str) -> io::Result<()> {
    file.write_all(format!("{token} {} {event}\n", nanos()?).as_bytes())
}
