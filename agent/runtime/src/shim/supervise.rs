//! A shim's life beside its container: it becomes the program that keeps the log, and at the end says how the container ended.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::unistd::execve;

use super::keeper::guard::Guard;
use super::keeper::{self, KEEP, KEEP_FENCE, KEEP_IN, KEEP_LEASE, Limits, Log, Sources};
use super::program;
use super::run::Run;
use crate::cgroup::{Group, KILL_MAX, Tree};
use crate::record::{self, Plan, State, StoredExit, VERSION, file};
use crate::sys;

/// Standard error, among the streams of the log.
const STDERR: usize = 1;

/// Keeps the log until the container ends and says how it ended.
pub(super) fn to_the_end(dir: &Path, plan: &Plan, run: Run) -> io::Result<()> {
    let Run { state, stdout, stderr, lock, guard } = run;
    for fd in [&stdout, &stderr] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let init = sys::pidfd_open(state.init.pid)?;
    let sources = Sources { init, streams: [stdout, stderr] };
    let logs = dir.join(file::LOGS);
    // Another build's may not know what a guard is told.
    if let Some(program) = plan.keeper.as_deref().filter(|path| program::is_own(path)) {
        // Only a failure comes back, and what is done here then is the same, in more memory.
        let Err(error) =
            become_keeper(program, (&logs, limits(plan)), &sources, &lock, guard.as_ref());
        let (Ok(()) | Err(_)) = writeln!(io::stderr(), "cannot run {}: {error}", program.display());
    }
    sys::trim_memory();
    keeper::keep(&logs, limits(plan), sources, guard)?;
    finish(dir, plan, &state)
}

/// Goes on where the program that kept the log has ended.
pub(super) fn end(dir: &Path, plan: &Plan) -> io::Result<()> {
    let state: Option<State> = record::read(dir, file::STATE)?;
    finish(dir, plan, &state.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?)
}

fn limits(plan: &Plan) -> Limits {
    Limits { bytes_max: plan.log.bytes_max, files_max: plan.log.files_max }
}

/// Runs another program in this process, which keeps its children, its number and its lock.
fn become_keeper(
    program: &Path,
    (logs, limits): (&Path, Limits),
    sources: &Sources,
    lock: &File,
    guard: Option<&Guard>,
) -> io::Result<std::convert::Infallible> {
    let own = File::open("/proc/self/exe")?;
    let [stdout, stderr] = &sources.streams;
    for fd in [sources.init.as_fd(), stdout.as_fd(), stderr.as_fd(), own.as_fd(), lock.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let fds = [sources.init.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd(), own.as_raw_fd()];
    let fds = fds.map(|fd| fd.to_string()).join(",");
    let Limits { bytes_max, files_max } = limits;
    let mut place = OsString::from(format!("{KEEP_IN}="));
    place.push(logs);
    let text = |text: OsString| CString::new(text.into_vec());
    let args = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
    let mut told =
        vec![text(format!("{KEEP}={fds},{bytes_max},{files_max}").into())?, text(place)?];
    if let Some(guard) = guard {
        let (file, socket, signal) = guard.parts();
        let socket = socket.ok_or_else(|| io::Error::other("its socket is gone"))?;
        for fd in [file.as_fd(), socket.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let fds = format!("{KEEP_FENCE}={},{},{signal}", file.as_raw_fd(), socket.as_raw_fd());
        told.push(text(fds.into())?);
        let mut place = OsString::from(format!("{KEEP_LEASE}="));
        place.push(guard.lease());
        told.push(text(place)?);
    }
    Ok(execve(&text(program.as_os_str().to_owned())?, &args, &told)?)
}

fn finish(dir: &Path, plan: &Plan, state: &State) -> io::Result<()> {
    let status = sys::wait_for(state.init.pid);
    let group = Tree::discover()?.group(&state.cgroup);
    let oom = group.was_out_of_memory();
    tell_of_refusals(dir, plan, &group);
    // Nothing is left but what somebody moved in from outside; the exit is only told when the group is empty.
    let emptied = group.kill(KILL_MAX).and_then(|()| group.remove());
    // Small, and made again by the next start.
    let (Ok(()) | Err(_)) = fs::remove_dir_all(plan.run.join(file::OCI));
    let (code, signal) = status;
    let ended_ms = record::now_ms();
    let exit = StoredExit { version: VERSION, code, signal, oom, ended_ms };
    record::write_durably(dir, file::EXIT, &exit)?;
    emptied
}

/// A program that may not fork says so in its own words, if at all; the log says it in ours.
fn tell_of_refusals(dir: &Path, plan: &Plan, group: &Group) {
    let refused = group.refused_processes();
    if refused == 0 {
        return;
    }
    let limit = group.processes_max().map_or_else(String::new, |limit| format!(" of {limit}"));
    let text = if refused == 1 {
        format!("mesh: 1 process or thread beyond its limit{limit} was refused\n")
    } else {
        format!("mesh: {refused} processes or threads beyond its limit{limit} were refused\n")
    };
    let mut log = Log::open(&dir.join(file::LOGS), limits(plan));
    log.write(STDERR, text.as_bytes());
    log.finish();
}
