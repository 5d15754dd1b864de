//! What a workload is told of its lease: a file that it can read and not write, replaced as a whole.
//!
//! ```json
//! {"token":7,"state":"held","written_at_ms":81234567,"valid_for_ms":7760,"killed_in_ms":9760}
//! ```
//!
//! * `token`: the fencing token, as in `MESH_FENCING_TOKEN`. Whatever the workload writes to should refuse a lower one.
//! * `state`: `held`, or `ending` from the stop signal on. It never goes back.
//! * `written_at_ms`: when this was written, by `CLOCK_BOOTTIME` in milliseconds, which is the same inside and outside.
//! * `valid_for_ms`: how long from then until the stop signal, unless the lease is renewed; 0 when it was sent.
//! * `killed_in_ms`: how long from then until nothing of the workload runs any more, unless the lease is renewed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::fence::{Moment, Told};

/// The file in its directory.
pub(crate) const FILE: &str = "lease.json";

const TEMPORARY: &str = ".lease.json.new";

/// Replaces the file in `dir`.
pub(crate) fn tell(dir: &Path, told: &Told, is_ending: bool, now: Moment) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY);
    fs::write(&temporary, text(told, is_ending, now))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
    fs::rename(temporary, dir.join(FILE))
}

fn text(told: &Told, is_ending: bool, now: Moment) -> String {
    let state = if is_ending { "ending" } else { "held" };
    let valid = if is_ending { 0 } else { now.millis_until(told.stop) };
    let killed = now.millis_until(told.kill);
    let (token, written) = (told.token, now.boot / 1_000_000);
    format!(
        "{{\"token\":{token},\"state\":\"{state}\",\"written_at_ms\":{written},\
         \"valid_for_ms\":{valid},\"killed_in_ms\":{killed}}}\n"
    )
}

#[cfg(test)]
mod tests {
    //! It is JSON, and says what is documented.

    use super::{FILE, Moment, Told, tell};

    const fn at(millis: u64) -> Moment {
        Moment { boot: millis * 1_000_000, raw: millis * 1_000_000 }
    }

    #[test]
    fn what_is_told_is_what_holds_by_the_clock_that_is_ahead() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = Told { boot: 1, token: 7, stop: at(8000), kill: at(10_000) };
        let now = Moment { boot: at(1000).boot, raw: at(1500).raw };
        let read = || -> serde_json::Value {
            let text = std::fs::read(dir.path().join(FILE)).expect("read");
            serde_json::from_slice(&text).expect("JSON")
        };
        tell(dir.path(), &told, false, now).expect("written");
        let expected = serde_json::json!({
            "token": 7, "state": "held", "written_at_ms": 1000, "valid_for_ms": 6500, "killed_in_ms": 8500,
        });
        assert_eq!(read(), expected);
        tell(dir.path(), &told, true, at(9000)).expect("written");
        let expected = serde_json::json!({
            "token": 7, "state": "ending", "written_at_ms": 9000, "valid_for_ms": 0, "killed_in_ms": 1000,
        });
        assert_eq!(read(), expected);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
