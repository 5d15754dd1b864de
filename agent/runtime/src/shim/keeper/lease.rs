//! What a workload is told of its lease: by a file, when something changes, and by a socket, whenever it asks.
//!
//! The file `/run/mesh/lease.json` is replaced as a whole. To connect to `/run/mesh/lease.sock` (a stream) is to ask "am I still the
//! holder?": the answer is the line that the file would be if it were written at this moment, and then the connection is closed.
//! Nothing is to be sent. Any user of the container may ask.
//!
//! ```text
//! $ socat -u UNIX-CONNECT:/run/mesh/lease.sock -
//! {"token":7,"state":"held","written_at_ms":81234567,"valid_for_ms":7760,"killed_in_ms":9760}
//! ```
//!
//! * `token`: the fencing token, as in `MESH_FENCING_TOKEN`. Whatever the workload writes to should refuse a lower one.
//! * `state`: `held`; `ending` from the stop signal on, whoever sends it; `over` when the workload is being killed. It never goes back.
//! * `written_at_ms`: when this was written, by `CLOCK_BOOTTIME` in milliseconds, which is the same inside and outside.
//! * `valid_for_ms`: how long from then until the stop signal, unless the lease is renewed; 0 from that signal on.
//! * `killed_in_ms`: how long from then until nothing of the workload runs any more, unless the lease is renewed.
//!
//! Both are the word of the guard in the shim, so they are true without the agent. Who is stopped between the answer and what it does
//! by it finds that out from `written_at_ms`; what must be safe even then goes by the token. Who gets no answer (nobody listens any
//! more, or not within a time that the workload chooses) does not know, and does well to act as if it were over. At most
//! [`ANSWERS_MAX`](super::answer::ANSWERS_MAX) questions are answered in a tenth of a second; more of them wait.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::fence::{Moment, Told};

/// The file in its directory.
pub(crate) const FILE: &str = "lease.json";

/// The socket beside it.
pub(crate) const SOCKET: &str = "lease.sock";

const TEMPORARY: &str = ".lease.json.new";

/// How a workload stands with its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has been asked to stop.
    Ending,
    /// It may go on.
    Held,
    /// It is being killed.
    Over,
}

/// What is told at a moment.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) told: Told,
    pub(crate) state: State,
    pub(crate) now: Moment,
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { told, state, now } = self;
        let (word, valid) = match state {
            State::Ending => ("ending", 0),
            State::Held => ("held", now.millis_until(told.stop)),
            State::Over => ("over", 0),
        };
        let (token, written) = (told.token, now.boot / 1_000_000);
        let killed = now.millis_until(told.kill);
        writeln!(
            f,
            "{{\"token\":{token},\"state\":\"{word}\",\"written_at_ms\":{written},\
             \"valid_for_ms\":{valid},\"killed_in_ms\":{killed}}}"
        )
    }
}

/// Replaces the file in `dir`.
pub(crate) fn tell(dir: &Path, line: &Line) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY);
    fs::write(&temporary, line.to_string())?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
    fs::rename(temporary, dir.join(FILE))
}

#[cfg(test)]
mod tests {
    //! It is JSON, and says what is documented.

    use super::{FILE, Line, Moment, State, Told, tell};

    const fn at(millis: u64) -> Moment {
        Moment { boot: millis * 1_000_000, raw: millis * 1_000_000 }
    }

    #[test]
    fn what_is_told_is_what_holds_by_the_clock_that_is_ahead() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = Told { boot: 1, token: 7, stop: at(8000), kill: at(10_000) };
        let ahead = Moment { boot: at(1000).boot, raw: at(1500).raw };
        let cases = [
            (State::Held, ahead, ("held", 1000, 6500, 8500)),
            (State::Ending, ahead, ("ending", 1000, 0, 8500)),
            (State::Ending, at(9000), ("ending", 9000, 0, 1000)),
            (State::Over, at(10_001), ("over", 10_001, 0, 0)),
        ];
        for (state, now, (word, written, valid, killed)) in cases {
            tell(dir.path(), &Line { told, state, now }).expect("written");
            let text = std::fs::read_to_string(dir.path().join(FILE)).expect("read");
            assert_eq!(text.find('\n'), Some(text.len() - 1), "one line");
            let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let expected = serde_json::json!({
                "token": 7, "state": word, "written_at_ms": written, "valid_for_ms": valid,
                "killed_in_ms": killed,
            });
            assert_eq!(found, expected);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
