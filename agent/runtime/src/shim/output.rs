//! The container's output on disk.
//!
//! One line of the container is one line of the file, in the format that Kubernetes' runtimes use, so `grep` and every log
//! collector read it:
//!
//! ```text
//! 2026-11-22T23:20:51.123456Z stdout F the line
//! 2026-11-22T23:20:51.123456Z stderr P the first piece of a line that is longer than 16 KiB
//! ```
//!
//! `F` ends a line, `P` is a piece of one. `output.log` is the newest file, `output.log.1` the one before. A file never grows
//! beyond its limit and there are never more files than allowed; with one file allowed, a full file is started afresh.
//! A disk that is full costs lines, never the container, which must not wait for its log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mesh_ports::runtime::Output;

use crate::record::{LogLimits, file};

/// Longer lines are split.
pub(crate) const LINE_LEN_MAX: usize = 16 * 1024;

/// What is gathered before it is written.
const BATCH_LEN: usize = 32 * 1024;

/// Writes the output of one container.
pub(super) struct Log {
    dir: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    /// What is in the file.
    size: u64,
    /// What is still to be written to it.
    batch: Vec<u8>,
    /// The beginnings of lines, by stream.
    partial: [Vec<u8>; 2],
}

impl Log {
    /// Goes on with the log in `dir`.
    pub(super) fn open(dir: &Path, limits: LogLimits) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = append(dir)?;
        let size = file.metadata()?.len();
        let batch = Vec::new();
        let partial = [Vec::new(), Vec::new()];
        Ok(Self { dir: dir.to_path_buf(), limits, file: Some(file), size, batch, partial })
    }

    /// Takes a piece of output.
    pub(super) fn write(&mut self, output: Output, bytes: &[u8]) {
        let time = jiff::Timestamp::now().to_string();
        let stream = match output {
            Output::Stdout => 0,
            Output::Stderr => 1,
        };
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
                self.line(&time, output, 'P', &partial);
                partial.clear();
                text = later;
            }
            partial.extend_from_slice(text);
            if ends {
                self.line(&time, output, 'F', &partial);
                partial.clear();
            }
        }
        if let Some(slot) = self.partial.get_mut(stream) {
            *slot = partial;
        }
    }

    fn line(&mut self, time: &str, output: Output, mark: char, text: &[u8]) {
        let stream = name(output);
        let head = format!("{time} {stream} {mark} ");
        let len = head.len() + text.len() + 1;
        let full = self.size + count(self.batch.len() + len) > self.limits.bytes_max;
        if full {
            self.flush();
            self.rotate();
        }
        if count(len) > self.limits.bytes_max {
            return;
        }
        self.batch.extend_from_slice(head.as_bytes());
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
        if self.batch.len() >= BATCH_LEN {
            self.flush();
        }
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.file = append(&self.dir).ok();
        }
        let batch = std::mem::take(&mut self.batch);
        if let Some(file) = &mut self.file {
            // On a full disk the lines are lost; the size is what was meant to be written, so rotation still makes room.
            let (Ok(()) | Err(_)) = file.write_all(&batch);
            self.size += count(batch.len());
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// Writes what never got its line end.
    pub(super) fn finish(&mut self) {
        let time = jiff::Timestamp::now().to_string();
        for output in [Output::Stdout, Output::Stderr] {
            let stream = usize::from(output == Output::Stderr);
            let partial = self.partial.get_mut(stream).map(std::mem::take).unwrap_or_default();
            if !partial.is_empty() {
                self.line(&time, output, 'F', &partial);
            }
        }
        self.flush();
    }

    fn rotate(&mut self) {
        self.file = None;
        self.size = 0;
        let older = self.limits.files_max.saturating_sub(1);
        if older == 0 {
            let (Ok(()) | Err(_)) = fs::remove_file(path(&self.dir, 0));
        }
        for number in (0..older).rev() {
            // The oldest is replaced; a missing one is nothing to move.
            let (Ok(()) | Err(_)) =
                fs::rename(path(&self.dir, number), path(&self.dir, number + 1));
        }
    }
}

fn append(dir: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path(dir, 0))
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Where a file of the log is; 0 is the newest.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    if number == 0 { dir.join(file::LOG) } else { dir.join(format!("{}.{number}", file::LOG)) }
}

/// What a stream is called in the file.
pub(crate) const fn name(output: Output) -> &'static str {
    match output {
        Output::Stdout => "stdout",
        Output::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    //! Lines, pieces and files.

    use std::fs;

    use mesh_ports::runtime::Output;

    use super::{LINE_LEN_MAX, Log, path};
    use crate::record::LogLimits;

    fn texts(dir: &std::path::Path, number: u32) -> Vec<String> {
        let text = fs::read_to_string(path(dir, number)).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
    }

    #[test]
    fn streams_do_not_mix_within_a_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log =
            Log::open(dir.path(), LogLimits { bytes_max: 1 << 20, files_max: 3 }).expect("opened");
        log.write(Output::Stdout, b"one\ntw");
        log.write(Output::Stderr, b"bad\n");
        log.write(Output::Stdout, b"o\n\nthree");
        log.finish();
        let lines = ["stdout F one", "stderr F bad", "stdout F two", "stdout F ", "stdout F three"];
        assert_eq!(texts(dir.path(), 0), lines);
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log =
            Log::open(dir.path(), LogLimits { bytes_max: 1 << 20, files_max: 3 }).expect("opened");
        let long = vec![b'x'; LINE_LEN_MAX * 2 + 5];
        log.write(Output::Stdout, &long);
        log.write(Output::Stdout, b"y\n");
        log.flush();
        let lines = texts(dir.path(), 0);
        let marks: Vec<&str> = lines.iter().filter_map(|line| line.get(..8)).collect();
        assert_eq!(marks, ["stdout P", "stdout P", "stdout F"]);
        assert_eq!(lines[2], "stdout F xxxxxy");
        assert_eq!(lines[0].len(), LINE_LEN_MAX + 9);
    }

    #[test]
    fn files_are_never_larger_nor_more_than_allowed() {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = LogLimits { bytes_max: 4096, files_max: 3 };
        let mut log = Log::open(dir.path(), limits).expect("opened");
        for number in 0..1000_u32 {
            log.write(Output::Stdout, format!("line {number}\n").as_bytes());
            log.flush();
        }
        let files: Vec<_> = fs::read_dir(dir.path()).expect("listed").flatten().collect();
        assert_eq!(files.len(), 3);
        assert!(files.iter().all(|file| file.metadata().expect("there").len() <= 4096));
        let newest = texts(dir.path(), 0);
        assert_eq!(newest.last().map(String::as_str), Some("stdout F line 999"));
        let (before, after) = (texts(dir.path(), 1), newest);
        let number = |line: &String| line.rsplit(' ').next().and_then(|n| n.parse::<u32>().ok());
        assert_eq!(before.last().and_then(number).map(|n| n + 1), after.first().and_then(number));
    }
}
