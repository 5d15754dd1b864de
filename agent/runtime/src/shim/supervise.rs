//! The long part of a shim's life: output to the log until the container ends, then how it ended.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use mesh_ports::runtime::Output;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use super::output::Log;
use super::run::Run;
use crate::cgroup::Tree;
use crate::record::{self, Plan, State, StoredExit, VERSION, file};
use crate::sys;

/// Room for what a pipe gives at once: a quarter of what it holds, so that the shim stays small.
const READ_LEN: usize = 16 * 1024;

/// Keeps the log until the container ends and says how it ended.
pub(super) fn to_the_end(dir: &Path, plan: &Plan, run: Run) -> io::Result<()> {
    let Run { state, stdout, stderr, lock: _lock } = run;
    let mut log = Log::open(&dir.join(file::LOGS), plan.log)?;
    let mut streams = [Some((Output::Stdout, stdout)), Some((Output::Stderr, stderr))];
    for (_, fd) in streams.iter().flatten() {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let init = sys::pidfd_open(state.init.pid)?;
    sys::trim_memory();
    let mut buffer = vec![0; READ_LEN];
    while !wait(&streams, Some(init.as_fd()))? {
        copy(&mut streams, &mut log, &mut buffer);
    }
    // Every process of the container has ended with its first one, so what the pipes hold now is all there will be.
    while streams.iter().any(Option::is_some) && copy(&mut streams, &mut log, &mut buffer) > 0 {}
    log.finish();
    finish(dir, plan, &state)
}

/// Waits for output or the end; true at the end.
fn wait(streams: &[Option<(Output, OwnedFd)>], init: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let readable = PollFlags::POLLIN;
    let mut fds: Vec<PollFd<'_>> = init.iter().map(|fd| PollFd::new(*fd, readable)).collect();
    fds.extend(streams.iter().flatten().map(|(_, fd)| PollFd::new(fd.as_fd(), readable)));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_ready) => {}
        Err(Errno::EINTR) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    Ok(fds.first().and_then(PollFd::any).unwrap_or(false))
}

/// Copies once from each stream that has something; returns how many bytes. A stream that has ended becomes `None`.
fn copy(streams: &mut [Option<(Output, OwnedFd)>], log: &mut Log, buffer: &mut [u8]) -> usize {
    let mut copied = 0;
    for slot in streams {
        let Some((output, fd)) = slot else { continue };
        match read(&*fd, buffer) {
            Ok(0) => *slot = None,
            Ok(count) => {
                copied += count;
                log.write(*output, buffer.get(..count).unwrap_or_default());
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_broken) => *slot = None,
        }
    }
    log.flush();
    copied
}

fn finish(dir: &Path, plan: &Plan, state: &State) -> io::Result<()> {
    let status = sys::wait_for(state.init.pid);
    let group = Tree::discover()?.group(&state.cgroup);
    let oom = group.was_out_of_memory();
    // Nothing is left but what somebody moved in from outside; the exit is only told when the group is empty.
    let emptied = group.kill().and_then(|()| group.remove());
    // Small, and made again by the next start.
    let (Ok(()) | Err(_)) = fs::remove_dir_all(plan.run.join(file::OCI));
    let (code, signal) = status;
    let ended_ms = record::now_ms();
    let exit = StoredExit { version: VERSION, code, signal, oom, ended_ms };
    record::write_durably(dir, file::EXIT, &exit)?;
    emptied
}
