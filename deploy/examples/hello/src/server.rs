//! Connections: accepted by one thread, served by a bounded number of others, and finished when the program is told to stop.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use crate::http::{self, Part, Response};
use crate::{app, say};

/// Threads that serve: more than one proxy per node of a small mesh keeps open, and little memory.
const N_WORKERS: usize = 64;

/// Connections that wait for a thread; more wait in the kernel.
const QUEUE_LEN: usize = 128;

/// How long a connection may be silent between two requests, and a client may take to send one or to read the answer.
const IDLE_MAX: Duration = Duration::from_secs(30);
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// How soon a silent connection notices that the program stops or that its thread is needed.
const TICK: Duration = Duration::from_millis(50);

/// How long open requests may take once the program was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// What the threads know of one another.
#[derive(Debug, Default)]
struct State {
    stops: AtomicBool,
    /// Connections that wait for a thread.
    n_waiting: AtomicUsize,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(port: u16) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Before any thread starts, so that all inherit it: then one thread can wait for the signals, and process 1 of a container
    // gets them at all.
    signals.thread_block()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    listener.set_nonblocking(true)?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;

    let state = Arc::new(State::default());
    let (asked, wake) = UnixStream::pair()?;
    thread::Builder::new().spawn(move || {
        let signal = signals.wait();
        say(&format!("stops: {}", signal.map_or("signals are lost", Signal::as_str)));
        drop(wake);
    })?;
    let (queue, connections) = sync_channel(QUEUE_LEN);
    let connections = Arc::new(Mutex::new(connections));
    let (done, all_done) = sync_channel::<()>(0);
    for _ in 0..N_WORKERS {
        let (connections, state, done) =
            (Arc::clone(&connections), Arc::clone(&state), done.clone());
        thread::Builder::new().spawn(move || {
            work(&connections, &state);
            drop(done);
        })?;
    }
    drop(done);
    accept(listener, &asked, &queue, &state)?;
    state.stops.store(true, Ordering::SeqCst);
    drop(queue);
    // Ends when the last worker dropped its sender, or when the grace is over; nothing is ever sent.
    if all_done.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
        say("ends with requests open");
    }
    Ok(())
}

/// Accepts connections until something is to be read from `asked`, then also those that the kernel has accepted already.
fn accept(
    listener: TcpListener,
    asked: &UnixStream,
    queue: &SyncSender<TcpStream>,
    state: &State,
) -> io::Result<()> {
    loop {
        let mut polled = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(asked.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [_, asked_polled] = polled;
        let stops = asked_polled.any().unwrap_or(false);
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    state.n_waiting.fetch_add(1, Ordering::SeqCst);
                    if queue.send(stream).is_err() {
                        return Ok(());
                    }
                }
                // The client went away between its knock and now.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    say(&format!("cannot accept: {error}"));
                    // Out of files or memory: let some connections end before the next try.
                    thread::park_timeout(TICK);
                    break;
                }
            }
        }
        if stops {
            return Ok(());
        }
    }
}

fn work(connections: &Mutex<Receiver<TcpStream>>, state: &State) {
    loop {
        let next = connections.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(stream) = next else { return };
        state.n_waiting.fetch_sub(1, Ordering::SeqCst);
        // A connection that fails is the client's business; the next one may be fine.
        drop(serve(stream, state));
    }
}

/// Serves the requests of one connection, one after the other.
fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(REQUEST_MAX))?;
    let mut out = stream.try_clone()?;
    let mut from = BufReader::new(Patient { stream, state, until: Instant::now(), is_idle: true });
    loop {
        from.get_mut().wait(IDLE_MAX, true);
        if from.fill_buf()?.is_empty() {
            return Ok(());
        }
        from.get_mut().wait(REQUEST_MAX, false);
        let request = http::read_head(&mut from).and_then(|request| {
            request.skip_body(&mut from, &mut out)?;
            Ok(request)
        });
        let request = match request {
            Ok(request) => request,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let response = Response { status: "400 Bad Request", body: format!("{error}\n") };
                return response.write(&mut out, false, Part::Whole);
            }
            Err(error) => return Err(error),
        };
        let answer = app::answer(&request);
        let keeps = request.keeps && answer.exit.is_none() && !state.stops.load(Ordering::SeqCst);
        let part = if request.method == "HEAD" { Part::Head } else { Part::Whole };
        let written = answer.response.write(&mut out, keeps, part);
        if let Some(code) = answer.exit {
            end(code);
        }
        written?;
        if !keeps {
            return Ok(());
        }
    }
}

#[expect(clippy::exit, reason = "ending at once with a given code is what was asked for")]
fn end(code: u8) -> ! {
    process::exit(i32::from(code))
}

/// Reads from a connection with a bound, and gives up a silent connection when there is something better to do.
struct Patient<'a> {
    stream: TcpStream,
    state: &'a State,
    until: Instant,
    is_idle: bool,
}

impl Patient<'_> {
    fn wait(&mut self, most: Duration, is_idle: bool) {
        (self.until, self.is_idle) = (Instant::now() + most, is_idle);
    }

    fn gives_up(&self) -> bool {
        let is_needed = || {
            self.state.stops.load(Ordering::SeqCst)
                || self.state.n_waiting.load(Ordering::SeqCst) > 0
        };
        Instant::now() >= self.until || (self.is_idle && is_needed())
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buf) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if self.gives_up() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                other => return other,
            }
        }
    }
}
