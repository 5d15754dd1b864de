//! How the guard of the host begins: the agent's program, started as a shim is, becomes the small one, see `keeper/host.rs`.
//!
//! It is alone by a lock on a file, which it holds for as long as it lives.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::{execve, setsid};

use super::keeper::{self, KEEP_HOST};
use crate::cgroup::Tree;
use crate::sys::{self, Side};

/// Tells a shim that it is to be the guard of the host: its control group, a line's end, and the program that it becomes.
pub(crate) const HOST: &str = "MESH_SHIM_HOST";

/// The file that the one guard of a directory has locked.
pub(crate) const LOCK: &str = "lock";

/// Guards the runs in `dir`; at once over when another process does.
pub(super) fn run(dir: &Path, told: &OsStr) -> ExitCode {
    // As with a shim, whoever called does not have to wait.
    match sys::fork_single_threaded() {
        Ok(Side::Parent) => return ExitCode::SUCCESS,
        Ok(Side::Child) => {}
        Err(error) => return complain(&error),
    }
    match begin(dir, told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(error: &io::Error) -> ExitCode {
    let (Ok(()) | Err(_)) = writeln!(io::stderr(), "guard the host: {error}");
    ExitCode::FAILURE
}

fn begin(dir: &Path, told: &OsStr) -> io::Result<()> {
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    if sys::lock(&lock).is_err() {
        return Ok(());
    }
    // Fails only for the leader of a group, which a forked child is not.
    let (Ok(_) | Err(_)) = setsid();
    let mut told = told.as_bytes().splitn(2, |byte| *byte == b'\n');
    let cgroup = String::from_utf8_lossy(told.next().unwrap_or_default()).into_owned();
    let program = told.next().unwrap_or_default().to_vec();
    Tree::discover()?.enter(&cgroup)?;
    // Each as far as the host permits; `doctor` says what it does not.
    let _permitted = sys::hurry();
    let (Ok(()) | Err(_)) = fs::write("/proc/self/oom_score_adj", "-1000");
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        let (Ok(()) | Err(_)) = sys::set_ignored(signal, true);
    }
    if !program.is_empty() {
        fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let text = |text: OsString| CString::new(text.into_vec());
        let args = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
        let Err(errno) =
            execve(&CString::new(program)?, &args, &[text(format!("{KEEP_HOST}=1").into())?]);
        let (Ok(()) | Err(_)) = writeln!(io::stderr(), "the guard goes on as it is: {errno}");
    }
    sys::trim_memory();
    let stood = keeper::host::stand(dir);
    drop(lock);
    stood
}
