//! The program that runs in the containers of the tests: static, so it is the whole image, and it does what its arguments say,
//! one after another.
#![expect(unsafe_code, reason = "system calls that only a filter answers")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    while let Some(verb) = args.next() {
        let mut next = || args.next().unwrap_or_default();
        match verb.as_str() {
            "out" => say(&mut io::stdout(), &next()),
            "err" => say(&mut io::stderr(), &next()),
            "env" => say(&mut io::stdout(), &std::env::var(next()).unwrap_or_default()),
            "cat" => say(&mut io::stdout(), &read(&next())),
            "write" => {
                let path = next();
                let done = fs::write(path, next());
                say(&mut io::stdout(), &format!("{done:?}"));
            }
            "cwd" => {
                let dir = std::env::current_dir().unwrap_or_default();
                say(&mut io::stdout(), &dir.to_string_lossy());
            }
            "stdin" => {
                let mut text = String::new();
                let (Ok(_) | Err(_)) = io::stdin().read_to_string(&mut text);
                say(&mut io::stdout(), &text);
            }
            "exit" => return ExitCode::from(next().parse().unwrap_or(255)),
            "sleep" => wait(&next()),
            "signal" => raise(&next()),
            "ignore" => ignore(&next()),
            "hear" => catch(&next(), heard),
            "obey" => catch(&next(), obeyed),
            "become" => become_user(next().parse().unwrap_or(0)),
            "allocate" => allocate(next().parse().unwrap_or(0)),
            "fork" => fork(next().parse().unwrap_or(0)),
            "child" => child(&next()),
            "bomb" => bomb(),
            "flood" => flood(next().parse().unwrap_or(0)),
            "loop" => loop {
                wait("60000");
            },
            "device" => device(&next()),
            "spin" => spin(next().parse().unwrap_or(0)),
            "call" => call(&next()),
            "ask" => say(&mut io::stdout(), &ask()),
            "holder" if !ask().contains("\"state\":\"held\"") => return ExitCode::FAILURE,
            "holder" => {}
            "unlink" => say(&mut io::stdout(), &format!("{:?}", fs::remove_file(next()))),
            "crowd" => crowd(),
            "cling" => cling(),
            "tty" => tty(),
            "resized" => resized(&next()),
            "listen" => listen(next().parse().unwrap_or(0)),
            "await" => await_file(&next()),
            "append" => append(&next()),
            "lines" => lines(next().parse().unwrap_or(0)),
            unknown => say(&mut io::stderr(), &format!("unknown verb {unknown}")),
        }
    }
    ExitCode::SUCCESS
}

fn say(to: &mut dyn io::Write, text: &str) {
    let (Ok(()) | Err(_)) = writeln!(to, "{text}").and_then(|()| to.flush());
}

fn read(path: &str) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[expect(clippy::disallowed_methods, reason = "one thread, and nothing else to do")]
fn wait(millis: &str) {
    std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(0)));
}

fn raise(number: &str) {
    let number = number.parse().unwrap_or(0);
    // SAFETY: a signal to this process itself.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
    }
}

fn ignore(number: &str) {
    // SAFETY: ignoring runs no code.
    unsafe {
        libc::signal(number.parse().unwrap_or(0), libc::SIG_IGN);
    }
}

fn catch(number: &str, handler: extern "C" fn(libc::c_int)) {
    let signal = number.parse().ok().and_then(|number: i32| Signal::try_from(number).ok());
    // SAFETY: the handlers make system calls and nothing else.
    let caught = signal
        .map(|signal| unsafe { nix::sys::signal::signal(signal, SigHandler::Handler(handler)) });
    if !matches!(caught, Some(Ok(_))) {
        say(&mut io::stderr(), &format!("signal {number}: {caught:?}"));
    }
}

fn say_heard() {
    let text = b"heard it\n";
    // SAFETY: the text outlives the call.
    unsafe {
        libc::write(1, text.as_ptr().cast(), text.len());
    }
}

/// Says that a signal came, and goes on.
extern "C" fn heard(_number: libc::c_int) {
    say_heard();
}

/// Says that a signal came, and ends.
extern "C" fn obeyed(_number: libc::c_int) {
    say_heard();
    // SAFETY: ends the process.
    unsafe { libc::_exit(3) };
}

/// Becomes another user, as the entry points of databases do.
fn become_user(number: libc::uid_t) {
    // SAFETY: plain numbers.
    let done = unsafe { libc::setgid(number) | libc::setuid(number) };
    say(&mut io::stdout(), &format!("user {number}: {done}"));
}

fn allocate(mebibytes: usize) {
    let mut kept = Vec::new();
    for _mebibyte in 0..mebibytes {
        // Written to, because the kernel gives no memory to pages that nobody touched.
        kept.push(vec![1_u8; 1 << 20]);
    }
    say(&mut io::stdout(), &format!("allocated {}", kept.len()));
}

/// Tries to have so many children at once.
fn fork(wanted: usize) {
    let mut children = Vec::new();
    for _child in 0..wanted {
        match Command::new("/payload").args(["sleep", "60000"]).spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                say(&mut io::stdout(), &format!("refused: {error}"));
                break;
            }
        }
    }
    say(&mut io::stdout(), &format!("children {}", children.len()));
}

/// Forks without end; every child does the same.
fn bomb() {
    say(&mut io::stdout(), "forking");
    loop {
        // SAFETY: one thread, and a child that does nothing but this.
        if unsafe { libc::fork() } < 0 {
            wait("500");
        }
    }
}

/// Writes so many mebibytes, in lines of a kibibyte.
fn flood(mebibytes: u32) {
    let line = format!("{}\n", "x".repeat(1023));
    let mebibyte = line.repeat(1024);
    let mut out = io::stdout().lock();
    for _mebibyte in 0..mebibytes {
        let (Ok(()) | Err(_)) = out.write_all(mebibyte.as_bytes());
    }
}

/// Leaves a child behind that sleeps so many milliseconds.
fn child(millis: &str) {
    match Command::new("/payload").args(["sleep", millis]).spawn() {
        Ok(_child) => {}
        Err(error) => say(&mut io::stderr(), &error.to_string()),
    }
}

/// Makes the node of a device that every host has, its memory, and tries to open it.
fn device(path: &str) {
    let name = std::ffi::CString::new(path).unwrap_or_default();
    // SAFETY: the name outlives the call.
    let made = unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 1)) };
    let opened = if made == 0 {
        fs::File::open(path).map(|_file| ())
    } else {
        Err(io::Error::last_os_error())
    };
    let said = opened.map_or_else(|error| error.kind().to_string(), |()| "opened".to_owned());
    say(&mut io::stdout(), &said);
}

fn spin(millis: u64) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(millis) {
        std::hint::spin_loop();
    }
}

/// Which of the streams are a terminal, how it is called, how large it is, and whether it can be opened as the own one.
fn tty() {
    let streams = [0, 1, 2].map(|number| {
        // SAFETY: asks for a number.
        unsafe { libc::isatty(number) == 1 }.to_string()
    });
    let name = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    let own =
        fs::File::open("/dev/tty").map_or_else(|error| error.to_string(), |_| "opened".to_owned());
    let said = format!("{} {} {} {own}", streams.join(" "), name.display(), size());
    say(&mut io::stdout(), &said);
}

fn size() -> String {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills in the structure, which outlives the call.
    unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) };
    format!("{}x{}", size.ws_row, size.ws_col)
}

/// Waits until the terminal has another size than the one before, and says it.
fn resized(before: &str) {
    while size() == before {
        wait("5");
    }
    say(&mut io::stdout(), &size());
}

fn lines(count: u32) {
    let mut out = io::stdout().lock();
    for number in 0..count {
        let (Ok(()) | Err(_)) = writeln!(out, "line {number} {}", "x".repeat(80));
    }
}

/// Takes connections from now on: the kernel does, as long as this process is there.
fn listen(port: u16) {
    match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => {
            let _open = listener.into_raw_fd();
        }
        Err(error) => say(&mut io::stderr(), &error.to_string()),
    }
}

fn await_file(path: &str) {
    while fs::metadata(path).is_err() {
        wait("5");
    }
}

/// Writes without end.
fn append(path: &str) {
    loop {
        let file = fs::File::options().append(true).open(path);
        let (Ok(()) | Err(_)) = file.and_then(|mut file| file.write_all(b"x"));
        wait("5");
    }
}

const LEASE: &str = "/run/mesh/lease.sock";

/// Asks for the lease: three lines, as in any language.
fn ask() -> String {
    let mut text = String::new();
    let asked = UnixStream::connect(LEASE).and_then(|mut lease| lease.read_to_string(&mut text));
    asked.map_or_else(|error| error.to_string(), |_len| text.trim_end().to_owned())
}

/// Asks from several sides without end, talks, never reads the answers, and keeps thousands of connections.
fn crowd() {
    say(&mut io::stdout(), "crowding");
    let pushes = || loop {
        let mut kept = Vec::new();
        while kept.len() < 1000 {
            let Ok(mut lease) = UnixStream::connect(LEASE) else { continue };
            let (Ok(_) | Err(_)) = lease.write(&[b'?'; 1024]);
            if kept.len() % 2 == 0 {
                let (Ok(()) | Err(_)) = lease.shutdown(std::net::Shutdown::Read);
            }
            kept.push(lease);
        }
    };
    let [_, _, _] = [(); 3].map(|()| std::thread::spawn(pushes));
    pushes();
}

/// Asks, and gives a connection away whose last close waits for ten minutes: whoever closes this question. Again, if it was
/// answered and closed before this process had let go.
fn cling() {
    let mut is_given = false;
    while !is_given {
        // They are answered first, and more than are answered at once.
        let line: Vec<_> = (0..40).map(|_number| UnixStream::connect(LEASE)).collect();
        match clinging().and_then(|tcp| give(&tcp).map(|lease| (tcp, lease))) {
            Ok((tcp, lease)) => {
                let closing = std::thread::spawn(move || drop(tcp));
                wait("20");
                is_given = closing.is_finished();
                drop(lease);
            }
            Err(error) => say(&mut io::stderr(), &error.to_string()),
        }
        drop(line);
    }
    say(&mut io::stdout(), "given");
}

/// A connection with more to send than its other end, which lives as long as this process, will ever take.
fn clinging() -> io::Result<TcpStream> {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let mut tcp = TcpStream::connect(other.local_addr()?)?;
    // It stays open, and nobody reads.
    let _open = other.into_raw_fd();
    tcp.set_nonblocking(true)?;
    while tcp.write(&[0; 4096]).is_ok() {}
    Ok(tcp)
}

fn linger(tcp: &TcpStream, seconds: libc::c_int) -> io::Result<()> {
    let linger = libc::linger { l_onoff: libc::c_int::from(seconds > 0), l_linger: seconds };
    let len = libc::socklen_t::try_from(size_of_val(&linger)).unwrap_or(0);
    // SAFETY: the structure outlives the call.
    let done = unsafe {
        let value = std::ptr::from_ref(&linger).cast();
        libc::setsockopt(tcp.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the connection with the question.
fn give(tcp: &TcpStream) -> io::Result<UnixStream> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    let lease = UnixStream::connect(LEASE)?;
    linger(tcp, 600)?;
    let fds = [tcp.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(
        lease.as_raw_fd(),
        &[io::IoSlice::new(b"?")],
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
    if let Err(refused) = sent {
        linger(tcp, 0)?;
        return Err(refused.into());
    }
    Ok(lease)
}

/// Makes a system call with arguments that do nothing and says what the kernel answered.
fn call(name: &str) {
    let namespace = libc::c_long::from(libc::CLONE_NEWUSER);
    let (number, first): (libc::c_long, libc::c_long) = match name {
        "keyctl" => (libc::SYS_keyctl, 0),
        "add_key" => (libc::SYS_add_key, 0),
        "bpf" => (libc::SYS_bpf, 0),
        "mount" => (libc::SYS_mount, 0),
        "umount2" => (libc::SYS_umount2, 0),
        "unshare" => (libc::SYS_unshare, namespace),
        "setns" => (libc::SYS_setns, -1),
        "clone-user" => (libc::SYS_clone, namespace | libc::c_long::from(libc::SIGCHLD)),
        "clone3" => (libc::SYS_clone3, 0),
        "userfaultfd" => (libc::SYS_userfaultfd, 0),
        "io_uring_setup" => (libc::SYS_io_uring_setup, 0),
        "reboot" => (libc::SYS_reboot, 0),
        "personality-get" => (libc::SYS_personality, 0xffff_ffff),
        "personality-aslr" => (libc::SYS_personality, 0x4_0000),
        "socket-vsock" => (libc::SYS_socket, 40),
        "getppid" => (libc::SYS_getppid, 0),
        "ptrace" => (libc::SYS_ptrace, -1),
        "chroot" => (libc::SYS_chroot, 0),
        _ => (-1, 0),
    };
    // SAFETY: every pointer that the kernel could follow is null.
    let answer = unsafe { libc::syscall(number, first, 0, 0, 0, 0) };
    if name == "clone-user" && answer == 0 {
        // SAFETY: ends the child that should not be.
        unsafe { libc::_exit(0) };
    }
    let said = if answer < 0 {
        let number = io::Error::last_os_error().raw_os_error();
        match number {
            Some(libc::EPERM) => "EPERM".to_owned(),
            Some(libc::ENOSYS) => "ENOSYS".to_owned(),
            other => format!("error {}", other.unwrap_or(0)),
        }
    } else {
        "done".to_owned()
    };
    say(&mut io::stdout(), &format!("{name} {said}"));
}
