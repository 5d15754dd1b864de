//! The system calls of a guard that the standard library does not have, one small function each.
#![expect(unsafe_code, reason = "calls into the C library that std links anyway")]

use std::ffi::{c_int, c_long, c_short, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::fence::Moment;

#[repr(C)]
pub(crate) struct PollFd {
    pub(crate) fd: c_int,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

#[repr(C)]
struct Timespec {
    seconds: c_long,
    nanos: c_long,
}

unsafe extern "C" {
    #[link_name = "poll"]
    fn c_poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    #[link_name = "kill"]
    fn c_kill(pid: c_int, signal: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn mlockall(flags: c_int) -> c_int;
    fn setns(fd: c_int, kind: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

/// What the kernel is asked about an interface, and told of it: its name, its flags, and room for what else there is to tell.
#[repr(C)]
struct Interface {
    name: [u8; INTERFACE_LEN],
    flags: c_short,
    rest: [u8; 22],
}

/// The longest name of an interface, with the zero at its end.
const INTERFACE_LEN: usize = 16;

const SIOCGIFFLAGS: c_ulong = 0x8913;
const SIOCSIFFLAGS: c_ulong = 0x8914;
const IFF_UP: c_short = 1;

const CLONE_NEWNET: c_int = 0x4000_0000;

const CLOCK_MONOTONIC_RAW: c_int = 4;
const CLOCK_BOOTTIME: c_int = 7;

/// The same number on all architectures.
const SYS_PIDFD_SEND_SIGNAL: c_long = 424;

const SIGKILL: c_int = 9;

const MCL_CURRENT: c_int = 1;
const MCL_FUTURE: c_int = 2;

/// Waits for the descriptors, at most so many milliseconds; -1 is without end.
pub(crate) fn poll(fds: &mut [PollFd], timeout: i32) -> io::Result<usize> {
    let count = c_ulong::try_from(fds.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes into as many entries as are passed, which outlive the call.
    let ready = unsafe { c_poll(fds.as_mut_ptr(), count, timeout) };
    usize::try_from(ready).map_err(|_negative| io::Error::last_os_error())
}

/// What both clocks show, at one moment but for the time that it takes to ask.
pub(crate) fn now() -> Moment {
    Moment { boot: clock(CLOCK_BOOTTIME), raw: clock(CLOCK_MONOTONIC_RAW) }
}

/// A clock that cannot be read is past everything: what goes by it ends.
fn clock(clock: c_int) -> u64 {
    let mut time = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: the structure is the kernel's and outlives the call.
    let done = unsafe { clock_gettime(clock, std::ptr::from_mut(&mut time)) };
    if done != 0 {
        return u64::MAX;
    }
    let part = |number: c_long| u64::try_from(number).unwrap_or(u64::MAX);
    part(time.seconds).saturating_mul(1_000_000_000).saturating_add(part(time.nanos))
}

/// Kills a process by its number.
pub(crate) fn kill(pid: i32) {
    // SAFETY: no memory is touched. Gone already is what is wanted.
    unsafe { c_kill(pid, SIGKILL) };
}

/// Kills the process behind a pidfd.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>) {
    // Gone already is what is wanted.
    let (Ok(()) | Err(_)) = pidfd_signal(pidfd, SIGKILL);
}

/// Sends a signal to the process behind a pidfd.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let flags: c_uint = 0;
    let no_info: *const u8 = std::ptr::null();
    // SAFETY: no memory is touched: a null siginfo means what kill(2) would send.
    let done = unsafe {
        syscall(
            SYS_PIDFD_SEND_SIGNAL,
            c_long::from(pidfd.as_raw_fd()),
            c_long::from(signal),
            no_info,
            flags,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps all memory of this process in memory: what a guard does in need must not wait for a disk.
pub(crate) fn lock_memory() {
    // SAFETY: changes nothing that the program could see. Without the right to it the program does the same, perhaps later.
    unsafe { mlockall(MCL_CURRENT | MCL_FUTURE) };
}

/// Takes the calling thread, and no other, into the network of a namespace.
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched.
    let done = unsafe { setns(namespace.as_raw_fd(), CLONE_NEWNET) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an interface of the namespace down in which `socket` was made; fine when it is.
pub(crate) fn set_down(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut interface = Interface { name: [0; INTERFACE_LEN], flags: 0, rest: [0; 22] };
    let room = interface.name.get_mut(..name.len()).filter(|room| room.len() < INTERFACE_LEN);
    room.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?
        .copy_from_slice(name.as_bytes());
    let mut ask = |request| {
        // SAFETY: the structure is as large as the kernel's, which reads and writes no more than that, and outlives the call.
        let done =
            unsafe { ioctl(socket.as_raw_fd(), request, std::ptr::from_mut(&mut interface)) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        interface.flags &= !IFF_UP;
        Ok(())
    };
    ask(SIOCGIFFLAGS)?;
    ask(SIOCSIFFLAGS)
}
