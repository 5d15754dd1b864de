//! The system calls that nix does not have or cannot make safe: one small function each.
#![expect(unsafe_code, reason = "raw system calls, each with its reason")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, SysconfVar, fork, sysconf};
use seccompiler::BpfProgramRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The two sides of a fork.
pub(crate) enum Side {
    /// The process that called.
    Parent,
    /// The new process.
    Child,
}

/// Forks a process that has one thread.
pub(crate) fn fork_single_threaded() -> io::Result<Side> {
    // SAFETY: callers have one thread (the shim's `main` before anything else), so no lock is held by a thread that is lost.
    match unsafe { fork() }? {
        ForkResult::Parent { child: _ } => Ok(Side::Parent),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// Closes whatever this process was started with beside its three streams: a socket that a service manager gave to the agent
/// must not stay open in a process that outlives it. Only at the very start, when nothing of ours is open yet.
pub(crate) fn close_inherited() {
    // SAFETY: no object of this process owns a descriptor yet. A kernel without the call leaves them open, which does no harm
    // to memory.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}

/// A descriptor that names the process `pid` for as long as it is open, and is readable once the process has ended.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the kernel checks both numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for a descriptor without a thread.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open file until it is dropped, which it is only with the `AsyncFd`.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Sends a signal to the process behind a pidfd: never to another one that got its number.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means what kill(2) would send.
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets what a signal does to its default, or lets it be ignored.
pub(crate) fn set_ignored(signal: Signal, ignored: bool) -> io::Result<()> {
    let handler = if ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: neither the default nor ignoring runs code of ours in a handler.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Locks a whole file for this process, until it closes the file or ends; fails at once when another process has it.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    let exclusive = libc::c_short::try_from(libc::F_WRLCK).unwrap_or(1);
    // SAFETY: the structure is numbers only, for which zero is a value: from the start to the end of the file.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = exclusive;
    // SAFETY: the structure outlives the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, std::ptr::from_ref(&whole)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[repr(C)]
struct Program {
    len: libc::c_ushort,
    filter: *const seccompiler::sock_filter,
}

/// Installs a filter without the no-new-privileges bit, which `seccompiler::apply_filter` would set and which would take
/// set-user-id programs and file capabilities from containers. Needs `CAP_SYS_ADMIN`.
pub(crate) fn install_filter(filter: BpfProgramRef<'_>) -> io::Result<()> {
    let len = libc::c_ushort::try_from(filter.len())
        .map_err(|_too_long| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call, and changes nothing of ours.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            std::ptr::from_ref(&program),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3` of the kernel's `capability.h`.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets the effective and permitted capabilities of this process to `set` (a bit each) and empties the inheritable ones.
pub(crate) fn set_capabilities(set: u64) -> io::Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |bits: u64| {
        let bits = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        CapData { effective: bits, permitted: bits, inheritable: 0 }
    };
    let data = [half(set), half(set >> 32)];
    // SAFETY: version 3 reads one header and two data entries, which is what is passed; both outlive the call.
    let done =
        unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes a capability out of the bounding set of this process.
pub(crate) fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    let done =
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives free memory of the allocator back to the kernel: a shim lives for months and needs little after the start.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only touches the allocator's own free lists.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes a constant of this program out of memory; where it is needed again, the kernel reads it from the program's file.
pub(crate) fn put_away(constant: &'static [u8]) {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|len| usize::try_from(len).ok()).unwrap_or(4096);
    let skipped = constant.as_ptr().align_offset(page);
    let Some(pages) = constant.get(skipped..) else { return };
    let len = pages.len() / page * page;
    // SAFETY: whole pages of what nobody writes to. They are a private map of a file, so what is read there later is the same.
    unsafe {
        libc::madvise(pages.as_ptr().cast_mut().cast(), len, libc::MADV_DONTNEED);
    }
}

/// Waits; for shims and for blocking tasks, which have no timer of a runtime.
pub(crate) fn pause(duration: Duration) {
    let spec = libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos().cast_signed()),
    };
    // SAFETY: the request outlives the call, and the remainder may be null.
    unsafe {
        libc::nanosleep(std::ptr::from_ref(&spec), std::ptr::null_mut());
    }
}

/// Ends this process at once, without running anything of the process it was cloned from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// Waits for a child and returns its exit code as shells say it, and the signal that ended it. Not nix's, which does not know
/// real-time signals and loses the end of whoever one of them killed.
pub(crate) fn wait_for(pid: u32) -> (i32, Option<u8>) {
    let pid = i32::try_from(pid).unwrap_or(0);
    loop {
        let mut status = 0;
        // SAFETY: the status is written while the call lasts, and nothing else is touched.
        let waited = unsafe { libc::waitpid(pid, std::ptr::from_mut(&mut status), 0) };
        if waited == pid && libc::WIFEXITED(status) {
            return (libc::WEXITSTATUS(status), None);
        }
        if waited == pid && libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            return (128 + signal, u8::try_from(signal).ok());
        }
        if waited < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return (255, None);
        }
    }
}

/// With which right a process runs before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// None: it is one among others.
    None,
    /// The best of the ordinary priorities.
    Nice,
    /// In real time.
    RealTime,
}

/// Lets this thread, and what it becomes, run before others: in real time where that is permitted, else by the best priority. Of the real-time
/// priorities the lowest: whatever else is in real time has its reasons.
pub(crate) fn hurry() -> Haste {
    // SAFETY: the structure is numbers only, for which zero is a value.
    let mut wish: libc::sched_param = unsafe { std::mem::zeroed() };
    wish.sched_priority = 1;
    // SAFETY: the structure outlives the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, std::ptr::from_ref(&wish)) };
    if done == 0 {
        return Haste::RealTime;
    }
    // SAFETY: plain numbers.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if done == 0 { Haste::Nice } else { Haste::None }
}

/// Which process has locked a file, by [`lock`]; `None` when none has, or this one.
pub(crate) fn lock_holder(file: &File) -> Option<u32> {
    // SAFETY: the structure is numbers only, for which zero is a value: from the start to the end of the file.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::c_short::try_from(libc::F_WRLCK).unwrap_or(1);
    // SAFETY: the structure outlives the call, which writes into it.
    let done =
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, std::ptr::from_mut(&mut whole)) };
    let is_free = i32::from(whole.l_type) == libc::F_UNLCK;
    if done == 0 && !is_free { u32::try_from(whole.l_pid).ok() } else { None }
}
