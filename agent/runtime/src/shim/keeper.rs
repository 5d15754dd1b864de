//! The long part of a shim's life: the container's output goes to its log until the container ends.
//!
//! This file is compiled twice. As a module it is the last resort of a shim that cannot become the program; and the build script
//! makes it a program of its own, which needs nothing but the standard library. A shim that has started its container becomes
//! that program: the agent's is tens of megabytes large, and the tables that the loader writes into each time it is started
//! alone are a megabyte, for each container, for as long as it runs. At the end the program becomes the shim again, which knows
//! how to clean up. All of them are the same process: its children, its lock and its number stay what they are.
//!
//! One line of the container is one line of the log, in the format that Kubernetes' runtimes use, so `grep` and every log
//! collector read it:
//!
//! ```text
//! 2026-11-22T23:20:51.123456789Z stdout F the line
//! 2026-11-22T23:20:51.123456789Z stderr P the first piece of a line that is longer than 16 KiB
//! ```
//!
//! `F` ends a line, `P` is a piece of one. `output.log` is the newest file, `output.log.1` the one before. A file never grows
//! beyond its limit and there are never more files than allowed; with one file allowed, a full file is started afresh. How much
//! was dropped on the way is in `dropped`, and a disk that is full costs lines, never the container, which must not wait for
//! its log: it says how many bytes were lost as soon as it can.
//!
//! Beside that the shim of a container that runs by a lease is its guard ([`guard`]), and the same program is the guard of the
//! host ([`host`]), for when a shim cannot: both must be small, and need nothing that could fail.
#![cfg_attr(keeper, expect(unsafe_code, reason = "descriptors that came through an exec"))]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::guard::Guard;
use self::sys::PollFd;

// This file is a module in one of its two lives and a crate in the other, and the two look elsewhere for what belongs to it.
#[cfg_attr(keeper, path = "keeper/answer.rs")]
pub(crate) mod answer;
#[cfg_attr(keeper, path = "keeper/beat.rs")]
pub(crate) mod beat;
#[cfg_attr(keeper, path = "keeper/cut.rs")]
pub(crate) mod cut;
#[cfg_attr(keeper, path = "keeper/fence.rs")]
pub(crate) mod fence;
#[cfg_attr(keeper, path = "keeper/group.rs")]
pub(crate) mod group;
#[cfg_attr(keeper, path = "keeper/guard.rs")]
pub(crate) mod guard;
#[cfg_attr(keeper, path = "keeper/host.rs")]
pub(crate) mod host;
#[cfg_attr(keeper, path = "keeper/lease.rs")]
pub(crate) mod lease;
#[cfg_attr(keeper, path = "keeper/left.rs")]
pub(crate) mod left;
#[cfg_attr(keeper, path = "keeper/numbers.rs")]
mod numbers;
#[cfg_attr(keeper, path = "keeper/sys.rs")]
pub(crate) mod sys;

/// Tells the program what it keeps: the container's first process, its two outputs, the shim's program (four descriptors), the
/// largest size of a file of the log, and the number of these files.
pub(crate) const KEEP: &str = "MESH_SHIM_KEEP";

/// Tells the program by what it guards the container: descriptors of the run's file and of the socket at which the workload asks,
/// and the signal that asks it to stop. Without it the container runs without a lease.
pub(crate) const KEEP_FENCE: &str = "MESH_SHIM_KEEP_FENCE";

/// Tells the program the directory of what the workload is told of its lease.
pub(crate) const KEEP_LEASE: &str = "MESH_SHIM_KEEP_LEASE";

/// Tells the program that it is the guard of the host; its argument is the directory of fences.
pub(crate) const KEEP_HOST: &str = "MESH_SHIM_KEEP_HOST";

/// Tells the shim that its container has ended.
pub(crate) const ENDED: &str = "MESH_SHIM_ENDED";

/// Tells the program the directory of the log.
pub(crate) const KEEP_IN: &str = "MESH_SHIM_KEEP_IN";

/// Longer lines are split.
pub(crate) const LINE_LEN_MAX: usize = 16 * 1024;

const LOG: &str = "output.log";
const DROPPED: &str = "dropped";

/// What is gathered before it is written.
const BATCH_LEN: usize = 32 * 1024;

/// Room for what a pipe gives at once: a quarter of what it holds, so that the shim stays small.
const READ_LEN: usize = 16 * 1024;

/// What the streams are called in the log.
pub(crate) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// The largest files of a log, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes_max: u64,
    pub(crate) files_max: u32,
}

/// What is read: a descriptor that becomes readable when the container ends, and its outputs, which do not block.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) init: OwnedFd,
    pub(crate) streams: [OwnedFd; 2],
}

/// Writes the container's output to the log in `dir` until the container ends, and ends it when its lease does.
pub(crate) fn keep(
    dir: &Path,
    limits: Limits,
    sources: Sources,
    mut guard: Option<Guard>,
) -> io::Result<()> {
    if let Some(Err(error)) = guard.as_mut().map(Guard::answer) {
        let (Ok(()) | Err(_)) = writeln!(io::stderr(), "the workload cannot ask: {error}");
    }
    let mut log = Log::open(dir, limits);
    let Sources { init, streams } = sources;
    let mut streams = streams.map(|stream| Some(File::from(stream)));
    let mut buffer = vec![0; READ_LEN];
    loop {
        // Before the log: a disk that stands still costs lines, and must not cost the stop signal.
        let timeout = guard.as_mut().map_or(-1, |guard| guard.watch(&init));
        match wait(&init, &streams, timeout)? {
            Woken::End => break,
            Woken::Output => {
                copy(&mut streams, &mut log, &mut buffer);
            }
            Woken::Time => {}
        }
    }
    // Every process of the container has ended with its first one, so what the pipes hold now is all there will be.
    while streams.iter().any(Option::is_some) && copy(&mut streams, &mut log, &mut buffer) > 0 {}
    log.finish();
    Ok(())
}

const POLLIN: i16 = 1;

/// What there is to do.
enum Woken {
    /// The container has ended.
    End,
    /// It has written something.
    Output,
    /// Neither.
    Time,
}

/// Waits for output or the end, at most so many milliseconds.
fn wait(init: &OwnedFd, streams: &[Option<File>; 2], timeout: i32) -> io::Result<Woken> {
    // The kernel passes over negative descriptors.
    let of = |fd| PollFd { fd, events: POLLIN, revents: 0 };
    let [stdout, stderr] = streams;
    let stream = |stream: &Option<File>| of(stream.as_ref().map_or(-1, AsRawFd::as_raw_fd));
    let mut fds = [of(init.as_raw_fd()), stream(stdout), stream(stderr)];
    let ready = match sys::poll(&mut fds, timeout) {
        Ok(ready) => ready,
        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Woken::Time),
        Err(error) => return Err(error),
    };
    let [init, _, _] = fds;
    Ok(match (init.revents, ready) {
        (0, 0) => Woken::Time,
        (0, _) => Woken::Output,
        (_, _) => Woken::End,
    })
}

/// Copies once from each stream that has something; returns how many bytes. A stream that has ended becomes `None`.
fn copy(streams: &mut [Option<File>; 2], log: &mut Log, buffer: &mut [u8]) -> usize {
    let mut copied = 0;
    for (number, slot) in streams.iter_mut().enumerate() {
        let Some(stream) = slot else { continue };
        match stream.read(buffer) {
            Ok(0) => *slot = None,
            Ok(count) => {
                copied += count;
                log.write(number, buffer.get(..count).unwrap_or_default());
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_broken) => *slot = None,
        }
    }
    log.flush();
    copied
}

/// Writes the output of one container.
pub(crate) struct Log {
    dir: PathBuf,
    limits: Limits,
    file: Option<File>,
    /// What is in the file.
    size: u64,
    /// What is still to be written to it.
    batch: Vec<u8>,
    /// The beginnings of lines, by stream.
    partial: [Vec<u8>; 2],
    /// Whether the file ends within a line.
    torn: bool,
    /// Bytes that the disk did not take and of which the log does not tell yet.
    lost: u64,
    /// How much of the batch, at its beginning, tells of them.
    notice: usize,
}

impl Log {
    /// Goes on with the log in `dir`; where there is none and cannot be one now, it begins as soon as there can.
    pub(crate) fn open(dir: &Path, limits: Limits) -> Self {
        let mut log = Self {
            dir: dir.to_path_buf(),
            limits,
            file: None,
            size: 0,
            batch: Vec::new(),
            partial: [Vec::new(), Vec::new()],
            torn: false,
            lost: 0,
            notice: 0,
        };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let Ok((file, size, torn)) = append(&self.dir) else { return };
        (self.file, self.size, self.torn) = (Some(file), size, torn);
    }

    /// Takes a piece of the output of a stream.
    pub(crate) fn write(&mut self, stream: usize, bytes: &[u8]) {
        let time = now();
        let mut partial = self.partial.get_mut(stream).map(std::mem::take).unwrap_or_default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                Some(_) | None => (piece, false),
            };
            let mut text = text;
            while partial.len() + text.len() > LINE_LEN_MAX {
                let (now, later) =
                    text.split_at(LINE_LEN_MAX.saturating_sub(partial.len()).min(text.len()));
                partial.extend_from_slice(now);
                self.line(&time, stream, 'P', &partial);
                partial.clear();
                text = later;
            }
            if !ends {
                partial.extend_from_slice(text);
            } else if partial.is_empty() {
                self.line(&time, stream, 'F', text);
            } else {
                partial.extend_from_slice(text);
                self.line(&time, stream, 'F', &partial);
                partial.clear();
            }
        }
        if let Some(slot) = self.partial.get_mut(stream) {
            *slot = partial;
        }
    }

    fn line(&mut self, time: &str, stream: usize, mark: char, text: &[u8]) {
        let stream = STREAMS.get(stream).copied().unwrap_or_default();
        // The time, the stream, the mark, three spaces and the end of the line.
        let len = time.len() + stream.len() + text.len() + 5;
        if !self.has_room(self.notice(time).len() + len) {
            self.flush();
            self.rotate();
        }
        if count(len) > self.limits.bytes_max {
            return;
        }
        let notice = self.notice(time);
        if !notice.is_empty() && self.has_room(notice.len() + len) {
            self.notice = notice.len();
            self.batch.extend_from_slice(notice.as_bytes());
        }
        let (Ok(()) | Err(_)) = write!(self.batch, "{time} {stream} {mark} ");
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
        if self.batch.len() >= BATCH_LEN {
            self.flush();
        }
    }

    /// Whether the file holds so much more, with the end of a torn line.
    fn has_room(&self, len: usize) -> bool {
        let more = self.batch.len() + usize::from(self.torn) + len;
        self.size.saturating_add(count(more)) <= self.limits.bytes_max
    }

    /// The line that tells of what was lost, to begin a batch with; empty when there is nothing to tell.
    fn notice(&self, time: &str) -> String {
        if self.lost == 0 || !self.batch.is_empty() {
            return String::new();
        }
        let [_, stderr] = STREAMS;
        let lost = self.lost;
        format!(
            "{time} {stderr} F mesh: {lost} bytes of output before this were lost: disk full?\n"
        )
    }

    /// Writes what was gathered.
    pub(crate) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.reopen();
        }
        let mut batch = std::mem::take(&mut self.batch);
        let notice = std::mem::take(&mut self.notice);
        if self.torn {
            self.size += count(self.put(b"\n"));
        }
        let written = if self.torn { 0 } else { self.put(&batch) };
        // On a full disk too the size is what was meant to be written, so that rotation makes room.
        self.size += count(batch.len());
        if notice > 0 && written >= notice {
            self.lost = 0;
        }
        self.lost = self.lost.saturating_add(count(batch.len() - written.max(notice)));
        batch.clear();
        self.batch = batch;
    }

    /// Writes to the file what it takes; returns how much that is.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let Some(file) = &mut self.file else { return 0 };
        let mut rest = bytes;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => break,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_full) => break,
            }
        }
        let written = bytes.len() - rest.len();
        if let Some(last) = bytes.get(..written).and_then(<[u8]>::last) {
            self.torn = *last != b'\n';
        }
        written
    }

    /// Writes what never got its line end.
    pub(crate) fn finish(&mut self) {
        let time = now();
        for stream in [0, 1] {
            let partial = self.partial.get_mut(stream).map(std::mem::take).unwrap_or_default();
            if !partial.is_empty() {
                self.line(&time, stream, 'F', &partial);
            }
        }
        self.flush();
    }

    fn rotate(&mut self) {
        self.file = None;
        self.size = 0;
        self.torn = false;
        let older = self.limits.files_max.saturating_sub(1);
        let oldest = path(&self.dir, older);
        if let Ok(metadata) = fs::metadata(&oldest) {
            let total = dropped(&self.dir).saturating_add(metadata.len());
            // A number for people: without it the log is as good.
            let (Ok(()) | Err(_)) = fs::write(self.dir.join(DROPPED), total.to_string());
        }
        if older == 0 {
            let (Ok(()) | Err(_)) = fs::remove_file(&oldest);
        }
        for number in (0..older).rev() {
            // The oldest is replaced; a missing one is nothing to move.
            let (Ok(()) | Err(_)) =
                fs::rename(path(&self.dir, number), path(&self.dir, number + 1));
        }
    }
}

/// The newest file, its size, and whether it ends within a line.
fn append(dir: &Path) -> io::Result<(File, u64, bool)> {
    fs::create_dir_all(dir)?;
    let file = OpenOptions::new().create(true).append(true).read(true).open(path(dir, 0))?;
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(before) = size.checked_sub(1) {
        file.read_exact_at(&mut last, before)?;
    }
    Ok((file, size, last != [b'\n']))
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Where a file of the log is; 0 is the newest.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    if number == 0 { dir.join(LOG) } else { dir.join(format!("{LOG}.{number}")) }
}

/// How many bytes of the log in `dir` had to make room for newer ones.
pub(crate) fn dropped(dir: &Path) -> u64 {
    let text = fs::read_to_string(dir.join(DROPPED)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[expect(clippy::disallowed_types, reason = "the times of log lines are for people")]
fn now() -> String {
    use std::time::SystemTime;

    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    stamp(since.unwrap_or_default())
}

/// A moment after the beginning of 1970 as RFC 3339 says it.
fn stamp(since: Duration) -> String {
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March end with the day that only some have; 400 of them are 146,097 days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let (month, more) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    let year = year + era * 400 + more;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The program. Its arguments are the shim's.
#[cfg(keeper)]
fn main() -> std::process::ExitCode {
    let Err(error) = run();
    let (Ok(()) | Err(_)) = writeln!(io::stderr(), "keep the log: {error}");
    std::process::ExitCode::FAILURE
}

/// Returns only with an error.
#[cfg(keeper)]
fn run() -> io::Result<std::convert::Infallible> {
    use std::os::unix::process::CommandExt as _;

    let missing = || io::Error::from(ErrorKind::InvalidInput);
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let [name, args @ ..] = words.as_slice() else { return Err(missing()) };
    if std::env::var_os(KEEP_HOST).is_some() {
        host::stand(Path::new(args.last().ok_or_else(missing)?))?;
        std::process::exit(0);
    }
    let dir = std::env::var_os(KEEP_IN).ok_or_else(missing)?;
    let told = std::env::var(KEEP).map_err(|_| missing())?;
    let numbers: Option<Vec<u64>> = told.split(',').map(|word| word.parse().ok()).collect();
    let numbers = numbers.ok_or_else(missing)?;
    let &[init, stdout, stderr, program, bytes_max, files_max] = numbers.as_slice() else {
        return Err(missing());
    };
    let sources = Sources { init: take(init)?, streams: [take(stdout)?, take(stderr)?] };
    let files_max = u32::try_from(files_max).map_err(io::Error::other)?;
    keep(Path::new(&dir), Limits { bytes_max, files_max }, sources, own_guard()?)?;
    // The descriptor, so that it is the very program that began, whatever lies in its place now.
    let mut shim = std::process::Command::new(format!("/proc/self/fd/{program}"));
    Err(shim.arg0(name).args(args).env_clear().env(ENDED, "1").exec())
}

/// The guard that this process is to be. Its failure is the program's: a container that nobody guards must not run, and it ends
/// with this process.
#[cfg(keeper)]
fn own_guard() -> io::Result<Option<Guard>> {
    use std::os::unix::net::UnixListener;

    let Ok(told) = std::env::var(KEEP_FENCE) else { return Ok(None) };
    let missing = || io::Error::from(ErrorKind::InvalidInput);
    let numbers: Option<Vec<u64>> = told.split(',').map(|word| word.parse().ok()).collect();
    let &[file, socket, signal] = numbers.ok_or_else(missing)?.as_slice() else {
        return Err(missing());
    };
    let file = take(file)?;
    // A copy closes when this process becomes the shim again: from then on nobody answers.
    let socket = UnixListener::from(take(socket)?).try_clone()?;
    let signal = i32::try_from(signal).map_err(io::Error::other)?;
    let lease = std::env::var_os(KEEP_LEASE).ok_or_else(missing)?;
    Guard::open(file.into(), signal, lease.into(), socket).map(Some)
}

/// Takes a descriptor that this process was given.
#[cfg(keeper)]
fn take(number: u64) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;

    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the shim left it open for this program, which takes each of them once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests;
