//! What the app answers.

use std::env;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Request, Response};

const MIB: usize = 1024 * 1024;

/// The longest wait of `/slow`, so that a typing error does not hold a thread for a year.
const SLOW_MAX: Duration = Duration::from_secs(600);

/// What `/eat` took, one piece per mebibyte; never given back.
static EATEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An answer, and the code with which the program ends after it was sent.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What is sent.
    pub(crate) response: Response,
    /// `None` is to go on.
    pub(crate) exit: Option<u8>,
}

/// Answers a request.
pub(crate) fn answer(request: &Request) -> Answer {
    let mut exit = None;
    let body = match request.path.as_str() {
        "/healthz" => "ok\n".to_owned(),
        "/slow" => slow(Duration::from_millis(request.number("ms").unwrap_or(1000))),
        "/eat" => eat(request.number("mb").unwrap_or(1)),
        "/exit" => {
            let code = request.number("code").and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            exit = Some(code);
            format!("exits with {code}\n")
        }
        _ => greeting(),
    };
    Answer { response: Response { status: "200 OK", body }, exit }
}

fn greeting() -> String {
    let known = |name| env::var(name).unwrap_or_else(|_unset| "-".to_owned());
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!(
        "hello from {} on {} ({})\n",
        known("MESH_SLOT"),
        known("MESH_NODE"),
        host.to_string_lossy()
    )
}

fn slow(wanted: Duration) -> String {
    let (wanted, start) = (wanted.min(SLOW_MAX), Instant::now());
    while let Some(left) = wanted.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
    format!("waited {} ms\n", wanted.as_millis())
}

fn eat(n_mib: u64) -> String {
    for _ in 0..n_mib {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(MIB).is_err() {
            break;
        }
        // Memory counts only once it is written to.
        piece.resize(MIB, 1);
        EATEN.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
    }
    format!("has eaten {} MiB\n", EATEN.lock().unwrap_or_else(PoisonError::into_inner).len())
}
