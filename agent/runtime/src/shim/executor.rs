//! The last steps of a container's process before its program: the system call filter, Docker's capabilities, clean signals.
//!
//! Docker installs its filter while the process still has `CAP_SYS_ADMIN`, so that the no-new-privileges bit is not needed and
//! `sudo`, `ping` and file capabilities work in containers. libcontainer drops capabilities before it hands over, so the process
//! is given one capability too many ([`WITH_SYS_ADMIN`]), and loses it here, before the first instruction of the program.

use std::ffi::CString;
use std::io::{self, Write as _};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execvp;

use crate::seccomp::Filters;
use crate::sys;

/// Docker's default capabilities by name and number, and `CAP_SYS_ADMIN`, the last, which no program gets.
pub(super) const WITH_SYS_ADMIN: [(&str, u32); 15] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_MKNOD", 27),
    ("CAP_AUDIT_WRITE", 29),
    ("CAP_SETFCAP", 31),
    ("CAP_SYS_ADMIN", SYS_ADMIN),
];

const SYS_ADMIN: u32 = 21;

/// What a shell says of a program that is there and cannot be run, and of one that is not there.
pub(super) const CANNOT_RUN: i32 = 126;
pub(super) const NOT_FOUND: i32 = 127;

/// Runs a program under the filters, with Docker's capabilities.
#[derive(Clone)]
pub(super) struct Restricted {
    pub(super) filters: Filters,
    /// Whether standard input is a terminal that becomes the controlling one.
    pub(super) terminal: bool,
}

impl Restricted {
    fn prepare(&self, spec: &Spec) -> io::Result<()> {
        // The kernel kills this process when the shim ends, so that no container runs without one.
        set_pdeathsig(Signal::SIGKILL)?;
        if self.terminal {
            // libcontainer has made this process the leader of a session.
            rustix::process::ioctl_tiocsctty(io::stdin())?;
        }
        // Rust ignores SIGPIPE from the start, and what is ignored stays ignored in the program.
        for signal in Signal::iterator() {
            if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
                sys::set_ignored(signal, false)?;
            }
        }
        SigSet::empty().thread_set_mask()?;
        self.filters.install()?;
        sys::drop_bounding(SYS_ADMIN)?;
        let uid = spec.process().as_ref().map_or(0, |process| process.user().uid());
        let capabilities = WITH_SYS_ADMIN.iter().filter(|(_, number)| *number != SYS_ADMIN);
        let all = capabilities.fold(0_u64, |set, (_, number)| set | 1 << number);
        // Who is not root gets them only from a program's file: the bounding set is what is left to them.
        sys::set_capabilities(if uid == 0 { all } else { 0 })
    }
}

impl Executor for Restricted {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref();
        let args = process.and_then(|process| process.args().as_ref());
        let args = args.ok_or(ExecutorError::InvalidArg)?;
        let args = args
            .iter()
            .map(|arg| CString::new(arg.as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_nul| ExecutorError::InvalidArg)?;
        let program = args.first().ok_or(ExecutorError::InvalidArg)?;
        let code = match self.prepare(spec) {
            Err(error) => {
                complain(&format!("cannot restrict the program: {error}"));
                CANNOT_RUN
            }
            Ok(()) => {
                let Err(errno) = execvp(program, &args);
                complain(&format!("cannot run {}: {}", program.to_string_lossy(), errno.desc()));
                if errno == Errno::ENOENT { NOT_FOUND } else { CANNOT_RUN }
            }
        };
        // Nobody listens any more to what this function returns; the exit code and the log are seen.
        sys::exit_now(code)
    }

    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        // The shim has looked for the program with better words than there are here.
        Ok(())
    }
}

/// Writes into the container's standard error, where whoever looks for the reason will look.
fn complain(message: &str) {
    let (Ok(()) | Err(_)) = writeln!(io::stderr(), "mesh: {message}");
}
