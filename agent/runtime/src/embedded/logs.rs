//! Reading a container's log while its shim writes it; the format is described in `shim/keeper.rs`.
//!
//! A reader holds one file open at a time and knows it by its inode, so a rotation under its hands neither repeats nor loses
//! lines: what it has open keeps its content, and the next file is the one numbered just below it. Whoever reads from the
//! beginning is told how much had to make room since the container was made.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use mesh_coordinator::time::WallTime;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerError, ContainerId, LogLine, LogQuery, Output};
use mesh_telemetry::Chain;
use tokio::sync::mpsc;
use tracing::warn;

use super::place::name_fault;
use super::{Driver, blocking, host};
use crate::record::file;
use crate::shim::{dropped, log_path};

/// Lines under way; then the reader waits for whoever reads them.
const LINES: usize = 256;

/// How much is read at once.
const CHUNK_LEN: usize = 64 * 1024;

/// How often a followed log is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// More files than any setting asks for; searching stops at the first that is missing.
const FILES_MAX: u32 = 1000;

pub(super) async fn read<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    query: LogQuery,
) -> Result<mpsc::Receiver<LogLine>, ContainerError> {
    let place = driver.place(id);
    if name_fault(id).is_some() || !place.dir.join(file::RECORD).exists() {
        return Err(ContainerError::Unknown(id.clone()));
    }
    let dir = place.dir.join(file::LOGS);
    let reader = blocking(move || Reader::open(dir, query.tail))
        .await
        .map_err(|error| host(format!("read the log of {id}"), error))?;
    let (lines, receiver) = mpsc::channel(LINES);
    let (id, record) = (id.clone(), place.dir.join(file::RECORD));
    driver.inner.tasks.spawn("logs", async move {
        if let Err(error) = stream(reader, query, &record, lines).await {
            warn!(container = %id, error = %Chain(&error), "a log cannot be read");
        }
    });
    Ok(receiver)
}

async fn stream(
    mut reader: Reader,
    query: LogQuery,
    record: &Path,
    lines: mpsc::Sender<LogLine>,
) -> io::Result<()> {
    loop {
        let (back, chunk) = blocking(move || {
            let chunk = reader.read()?;
            Ok((reader, chunk))
        })
        .await?;
        reader = back;
        let Some(mut chunk) = chunk else {
            if !query.follow || !record.exists() {
                return Ok(());
            }
            tokio::select! {
                () = lines.closed() => return Ok(()),
                () = tokio::time::sleep(FOLLOW_PAUSE) => continue,
            }
        };
        if let (Some(bytes), Some(first)) = (reader.dropped, chunk.first()) {
            reader.dropped = None;
            let text = Bytes::from(made_room(bytes));
            chunk.insert(0, LogLine { written: first.written, output: Output::Stderr, text });
        }
        for line in chunk {
            let is_wanted = query.since.is_none_or(|since| line.written >= since);
            if is_wanted && lines.send(line).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What stands in the place of what was dropped.
fn made_room(bytes: u64) -> String {
    let (amount, unit) = match bytes {
        0..=1023 => (bytes, "bytes"),
        1024..=1_048_575 => (bytes >> 10, "KiB"),
        _ => (bytes >> 20, "MiB"),
    };
    format!("mesh: {amount} {unit} of older output had to make room for what follows")
}

/// A place in the log.
#[derive(Debug)]
struct Reader {
    dir: PathBuf,
    /// The file that is read, with its inode; `None` before there is one.
    file: Option<(File, u64)>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    /// How many bytes are missing before the first line, and nobody was told yet; `None` when nothing is, or older lines than
    /// the first are there.
    dropped: Option<u64>,
}

impl Reader {
    /// Before the last `tail` lines, or at the beginning.
    fn open(dir: PathBuf, tail: Option<usize>) -> io::Result<Self> {
        let mut reader = Self { dir, file: None, rest: Vec::new(), dropped: None };
        let mut wanted = tail.unwrap_or(usize::MAX);
        for number in 0..FILES_MAX {
            let Some((mut file, inode)) = reader.open_file(number)? else { break };
            if tail.is_some() {
                let (position, found) = before_last_lines(&mut file, wanted)?;
                file.seek(SeekFrom::Start(position))?;
                wanted -= found.min(wanted);
            }
            reader.file = Some((file, inode));
            if wanted == 0 {
                return Ok(reader);
            }
        }
        reader.dropped = Some(dropped(&reader.dir)).filter(|bytes| *bytes > 0);
        Ok(reader)
    }

    fn open_file(&self, number: u32) -> io::Result<Option<(File, u64)>> {
        match File::open(log_path(&self.dir, number)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some((file, inode)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Some more lines; `None` when there are none now.
    fn read(&mut self) -> io::Result<Option<Vec<LogLine>>> {
        // Every file once, and the last of them again.
        for _file in 0..=FILES_MAX {
            if let Some(lines) = self.read_file()? {
                return Ok(Some(lines));
            }
            let Some(next) = self.next_file()? else { return Ok(None) };
            // What was written to the last file between the two looks; it has been renamed since, so this is all of it.
            let late = self.read_file()?;
            if late.is_some() {
                return Ok(late);
            }
            self.rest.clear();
            self.file = Some(next);
        }
        Ok(None)
    }

    fn read_file(&mut self) -> io::Result<Option<Vec<LogLine>>> {
        let Some((file, _)) = &mut self.file else { return Ok(None) };
        let mut chunk = vec![0; CHUNK_LEN];
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(None);
        }
        self.rest.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let later = self.rest.split_off(end);
        let whole = std::mem::replace(&mut self.rest, later);
        // A line that is longer than any that is written is damage, and is not gathered for ever.
        if self.rest.len() > 4 * CHUNK_LEN {
            self.rest.clear();
        }
        Ok(Some(whole.split(|byte| *byte == b'\n').filter_map(parse).collect()))
    }

    /// The file after the one that is read; `None` when that is the newest.
    fn next_file(&self) -> io::Result<Option<(File, u64)>> {
        let Some((_, own)) = &self.file else { return self.open_file(0) };
        let mut later = None;
        for number in 0..FILES_MAX {
            match fs::metadata(log_path(&self.dir, number)) {
                Ok(metadata) if metadata.ino() == *own => return Ok(later),
                Ok(_) => later = self.open_file(number)?,
                // Between a rename and the next file there is no newest one for a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        // Its own file is gone, and so are lines: it goes on with the oldest there is.
        Ok(later)
    }
}

/// Where the last `wanted` lines of a file begin, and how many they are.
fn before_last_lines(file: &mut File, wanted: usize) -> io::Result<(u64, usize)> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if wanted == 0 {
        return Ok((end, 0));
    }
    let mut chunk = vec![0; CHUNK_LEN];
    let mut found = 0;
    while end > 0 {
        let len = end.min(u64::try_from(CHUNK_LEN).unwrap_or(u64::MAX));
        let start = end - len;
        file.seek(SeekFrom::Start(start))?;
        let part = chunk.get_mut(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
        file.read_exact(part)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The end of the line before the wanted ones.
            if found == wanted {
                return Ok((start + u64::try_from(at).unwrap_or(0) + 1, found));
            }
            found += 1;
        }
        end = start;
    }
    Ok((0, found))
}

fn parse(line: &[u8]) -> Option<LogLine> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = str::from_utf8(fields.next()?).ok()?;
    let time: jiff::Timestamp = time.parse().ok()?;
    let output = match fields.next()? {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    let _mark = fields.next()?;
    let text = Bytes::copy_from_slice(fields.next()?);
    let written = WallTime(u64::try_from(time.as_millisecond()).unwrap_or(0));
    Some(LogLine { written, output, text })
}

#[cfg(test)]
mod tests;
