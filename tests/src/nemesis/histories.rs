//! The files that the programs write, found on the hosts' disks and kept.
//!
//! A container has nothing that outlives it but what somebody outside holds on to. Its output goes through its shim, which some faults
//! stop; a socket would lead through a network that the agent makes, and lose lines. So the program writes into its own root, which is a directory
//! on the host's disk: nobody stands between it and the file, and a line is there when the write has returned, whoever is killed
//! next. This looks into all containers' directories every few milliseconds and makes a second name for each new file; the
//! agent may then remove the container and its name. What ends *and* is removed between two looks is missed: an agent takes
//! longer than that to learn of an end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::history::Run;
use crate::lab::pause;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// A start that has said nothing for so long is not looked at until the end.
const QUIET: Duration = Duration::from_mins(5);

/// One file.
#[derive(Debug)]
struct Kept {
    run: Run,
    read: u64,
}

/// By the name that was made for it.
type Files = BTreeMap<PathBuf, Kept>;

/// All files of a lab.
#[derive(Debug)]
pub(crate) struct Histories {
    files: Arc<Mutex<Files>>,
    stop: Arc<AtomicBool>,
    looks: Option<JoinHandle<()>>,
}

impl Histories {
    /// Begins to look into the hosts' directories of containers for those of an app, and keeps what it finds in `to`.
    pub(crate) fn begin(hosts: Vec<(usize, PathBuf)>, app: &str, to: &Path) -> Result<Self> {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        let files = Arc::new(Mutex::new(Files::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (found, told) = (Arc::clone(&files), Arc::clone(&stop));
        let (prefix, to) = (format!("{app}-"), to.to_owned());
        let looks = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for (host, dir) in &hosts {
                    look(*host, dir, &prefix, &to, &found);
                }
                pause(PAUSE);
            }
        });
        Ok(Self { files, stop, looks: Some(looks) })
    }

    /// What all of them say until now.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn read(&self, now: Duration) -> Result<Vec<Run>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, kept) in files.iter_mut() {
            let is_quiet = kept.run.said.is_some_and(|said| now.saturating_sub(said.last) > QUIET);
            if !is_quiet {
                kept.read_on(path)?;
            }
        }
        Ok(files.values().map(|kept| kept.run.clone()).collect())
    }

    /// Looks no more, and reads all of them to their ends.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn end(mut self) -> Result<Vec<Run>> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(looks) = self.looks.take() {
            looks.join().ok().context("whoever looked for histories has panicked")?;
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, kept) in files.iter_mut() {
            kept.read_on(path)?;
        }
        Ok(std::mem::take(&mut *files).into_values().map(|kept| kept.run).collect())
    }
}

impl Drop for Histories {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Kept {
    fn read_on(&mut self, path: &Path) -> Result<()> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.read += u64::try_from(bytes.len())?;
        self.run.take(&bytes);
        Ok(())
    }
}

/// Keeps what is new on one host.
fn look(host: usize, dir: &Path, prefix: &str, to: &Path, files: &Mutex<Files>) {
    for (container, history) in entries(dir) {
        let Some(slot) = container.strip_prefix(prefix).and_then(slot) else { continue };
        for (start, file) in entries(&history.join("upper/history")) {
            let kept = to.join(format!("{host}_{container}_{start}"));
            let is_known = files.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&kept);
            if !is_known && fs::hard_link(&file, &kept).is_ok() {
                let run = Run::new(&slot, host, &container, &start);
                let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
                files.insert(kept, Kept { run, read: 0 });
            }
        }
    }
}

/// What is in a directory, by name; nothing when it is not there.
fn entries(dir: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

/// A container is called after its app, service and number, and by more.
fn slot(rest: &str) -> Option<String> {
    let mut words = rest.split('-');
    Some(format!("{}/{}", words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    //! What was written outlives its container.

    use std::fs;
    use std::io::Write as _;
    use std::path::Path;
    use std::time::Duration;

    use super::{Files, Histories, look};

    fn write(dir: &Path, container: &str, start: &str, text: &str) {
        let dir = dir.join(container).join("upper/history");
        fs::create_dir_all(&dir).unwrap();
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(dir.join(start)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_is_kept_and_read_on_when_its_container_is_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let (host, to) = (temporary.path().join("host"), temporary.path().join("kept"));
        fs::create_dir_all(&to).unwrap();
        let files = std::sync::Arc::default();
        let kept = Histories { files, stop: std::sync::Arc::default(), looks: None };
        write(&host, "app-web-1-x", "5", "7 1000 started\n7 20");
        write(&host, "other-web-1-x", "5", "7 1000 started\n");
        look(2, &host, "app-", &to, &kept.files);
        assert_eq!(kept.read(Duration::ZERO).unwrap().len(), 1);
        write(&host, "app-web-1-x", "5", "00 tick\n");
        fs::remove_dir_all(&host).unwrap();
        look(2, &host, "app-", &to, &kept.files);
        let runs = kept.end().unwrap();
        let [run] = runs.as_slice() else { panic!("{runs:?}") };
        assert_eq!((run.slot.as_str(), run.host, run.n_lines), ("web/1", 2, 2));
        assert_eq!(run.said.map(|said| said.last), Some(Duration::from_nanos(2_000)));
    }

    #[test]
    fn each_start_in_a_container_is_one_of_its_own() {
        let temporary = tempfile::tempdir().unwrap();
        let files = std::sync::Mutex::new(Files::new());
        for start in ["5", "6"] {
            write(temporary.path(), "app-web-0-x", start, "");
            look(1, temporary.path(), "app-", temporary.path(), &files);
        }
        assert_eq!(files.into_inner().unwrap().len(), 2);
    }
}
