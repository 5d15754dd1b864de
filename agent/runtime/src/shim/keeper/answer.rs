//! The workload's question whether it still has its lease, see [`lease`](super::lease), answered by a thread of its own.
//!
//! Not by the guard: to close a connection is to close what the other end has sent through it, and a file can be made so that its last
//! close waits as long as somebody likes (a TCP connection that lingers, for one). Who does that stops the answers to its own
//! container, and nothing else. The thread has no memory that grows and one connection at a time, and it shares no lock with the guard.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use super::fence::{Held, Moment};
use super::guard::refresh;
use super::lease::Line;
use super::sys;

/// So many questions are answered at most in [`WINDOW_MS`]: more than a program needs that asks before each thing it does, and
/// so few that one that does nothing but ask takes less than a hundredth of a processor beyond its own share.
pub(crate) const ANSWERS_MAX: u32 = 32;

const WINDOW_MS: u64 = 100;

/// How many may wait for an answer: who connects then waits for a place first.
pub(crate) const BACKLOG: i32 = 64;

/// Eight pages: it calls nothing deep, and what it does not touch costs nothing.
const STACK_LEN: usize = 32 * 1024;

/// More than a line ever is.
const LINE_LEN_MAX: usize = 192;

/// Answers from now on, for as long as this process is the guard.
///
/// # Errors
/// When there is no thread to be had; then nobody listens.
pub(crate) fn spawn(socket: UnixListener, file: File, held: Held) -> io::Result<()> {
    let thread = std::thread::Builder::new().stack_size(STACK_LEN);
    thread.spawn(move || answer(&socket, &file, held)).map(drop)
}

fn answer(socket: &UnixListener, file: &File, mut held: Held) {
    let mut pace = Pace::default();
    loop {
        let pause = match socket.accept() {
            Ok((client, _)) => {
                refresh(&mut held, file);
                let now = sys::now();
                // Who went away meanwhile is told nothing.
                let (Ok(()) | Err(_)) = reply(client, &held, now);
                pace.count(now)
            }
            // The kernel has no room: asking all the time does not make any.
            Err(_) => WINDOW_MS,
        };
        if pause > 0 {
            // An interrupted wait is a shorter one.
            let (Ok(_) | Err(_)) = sys::poll(&mut [], i32::try_from(pause).unwrap_or(1));
        }
    }
}

/// Says it in one write, for which a fresh connection has room.
fn reply(mut client: UnixStream, held: &Held, now: Moment) -> io::Result<()> {
    let mut line = [0; LINE_LEN_MAX];
    let mut rest = line.as_mut_slice();
    write!(rest, "{}", Line { told: held.told(), state: held.state(now), now })?;
    let free = rest.len();
    client.write(line.get(..LINE_LEN_MAX - free).unwrap_or_default()).map(drop)
}

/// Counts what was answered.
#[derive(Debug, Default)]
struct Pace {
    /// When the window began, in milliseconds since boot.
    begun: u64,
    n_answered: u32,
}

impl Pace {
    /// Counts one more; returns how many milliseconds to wait before the next.
    const fn count(&mut self, now: Moment) -> u64 {
        let now = now.boot / 1_000_000;
        if now >= self.begun.saturating_add(WINDOW_MS) {
            *self = Self { begun: now, n_answered: 0 };
        }
        self.n_answered = self.n_answered.saturating_add(1);
        let end = self.begun.saturating_add(WINDOW_MS);
        if self.n_answered < ANSWERS_MAX { 0 } else { end.saturating_sub(now) }
    }
}

#[cfg(test)]
mod tests;
