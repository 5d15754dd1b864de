//! The guard of the host: it kills what its shim did not end.
//!
//! A shim can be stopped, or wait for a disk, or be frozen with its group; it can be killed, and a program that has changed its
//! user since its start outlives that. So one process per agent goes by the same files as the shims, and does nothing else: it
//! wakes at least every 100 ms, looks at each file in its directory, and where the time is over kills what is in the groups until
//! they are empty. What is not empty soon is cut off from its network ([`cut`](super::cut)), and told of. At each wake it says that it
//! is there ([`Beat`]). It needs no agent, writes no file but its heartbeat, and keeps its memory where no disk is needed for it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::beat::Beat;
use super::cut::{Cut, Place};
use super::fence::{Due, Held, Moment, STUCK_MS, WAKE_MS};
use super::guard::{Record, boot, refresh};
use super::{group, left, sys};

/// The end of the name of a run's file.
pub(crate) const EXTENSION: &str = "fence";

/// The heartbeat, in the same directory.
pub(crate) const BEAT: &str = "beat";

/// Without anything to guard for so long it ends; the next start begins another one. Longer than a container that restarts is away.
const IDLE_MS: u64 = 30_000;

/// Guards the runs in `dir` until there have been none for a while.
pub(crate) fn stand(dir: &Path) -> io::Result<()> {
    sys::lock_memory();
    let mut guard = Guard::new(dir, boot()?, sys::now());
    loop {
        let now = sys::now();
        guard.look();
        let wake = guard.act(now);
        guard.tell(now);
        if guard.is_idle(now) && guard.leaves(now) {
            return Ok(());
        }
        // An interrupted wait is a shorter one.
        let (Ok(_) | Err(_)) = sys::poll(&mut [], i32::try_from(wake).unwrap_or(1));
    }
}

#[derive(Debug)]
struct Guard {
    dir: PathBuf,
    boot: u128,
    runs: BTreeMap<OsString, Run>,
    beat: Option<File>,
    /// When there was something to guard.
    busy: Moment,
}

/// One run of a container. Its file is held open: so its number is not used again, and what was told is not lost with its name.
#[derive(Debug)]
struct Run {
    file: File,
    inode: u64,
    place: Place,
    held: Held,
    /// What becomes of it if it survives being killed.
    cut: Cut,
    /// Whether that was told, while something of it is left.
    reported: bool,
    named: bool,
}

impl Guard {
    fn new(dir: &Path, boot: u128, now: Moment) -> Self {
        Self { dir: dir.to_path_buf(), boot, runs: BTreeMap::new(), beat: None, busy: now }
    }

    /// Sees which runs there are.
    fn look(&mut self) {
        // What cannot be listed is what it was.
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for run in self.runs.values_mut() {
            run.named = false;
        }
        for entry in entries.flatten() {
            let name = entry.file_name();
            if Path::new(&name).extension().is_none_or(|end| end != EXTENSION) {
                continue;
            }
            match self.runs.get_mut(&name) {
                Some(run) if run.inode == entry.ino() => run.named = true,
                Some(_) | None => {
                    // Damaged, or of another boot: then there is nothing to go by.
                    if let Ok(run) = Run::open(&entry.path(), self.boot) {
                        self.runs.insert(name, run);
                    }
                }
            }
        }
        // A name may be taken from what still runs; not its guard.
        self.runs.retain(|_, run| run.named || !run.is_empty());
    }

    /// Kills what is over, and returns in how many milliseconds to look again.
    fn act(&mut self, now: Moment) -> u64 {
        let mut wake = WAKE_MS;
        for (name, run) in &mut self.runs {
            refresh(&mut run.held, &run.file);
            if run.held.due(now) != Due::Kill {
                self.busy = now;
                wake = wake.min(run.held.wake_ms(now));
                continue;
            }
            if run.is_empty() {
                run.see_off(name);
                continue;
            }
            // A container that has just been started again has the same groups, and another file under the name.
            if run.named && !run.is_called(&self.dir.join(name)) {
                continue;
            }
            group::kill(&run.place.groups);
            self.busy = now;
            wake = wake.min(run.held.wake_ms(now));
            if run.cut.killed(&run.place, now) >= STUCK_MS && !run.reported {
                run.reported = true;
                run.report(name);
            }
        }
        wake
    }

    /// Says that it is awake.
    fn tell(&mut self, now: Moment) {
        let stuck = self.runs.values().filter(|run| run.reported).count();
        let n_stuck = u64::try_from(stuck).unwrap_or(u64::MAX);
        let beat = Beat { boot: self.boot, at: now, n_stuck }.encode();
        if self.beat.is_none() {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            self.beat = options.open(self.dir.join(BEAT)).ok();
        }
        let told = self.beat.as_ref().map(|file| file.write_all_at(&beat, 0));
        if !matches!(told, Some(Ok(()))) {
            self.beat = None;
        }
    }

    const fn is_idle(&self, now: Moment) -> bool {
        now.millis_since(self.busy) >= IDLE_MS
    }

    /// Goes, if nobody needs it: whoever finds no heartbeat starts another guard, and whoever has found one before that has made
    /// its file before.
    fn leaves(&mut self, now: Moment) -> bool {
        let (Ok(()) | Err(_)) = fs::remove_file(self.dir.join(BEAT));
        self.beat = None;
        self.look();
        !self.runs.values_mut().any(|run| {
            refresh(&mut run.held, &run.file);
            run.held.due(now) != Due::Kill || !run.is_empty()
        })
    }
}

impl Run {
    fn open(path: &Path, boot: u128) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        let Record { place, held } = Record::read(&file, boot)?;
        Ok(Self { file, inode, place, held, cut: Cut::default(), reported: false, named: true })
    }

    fn is_empty(&self) -> bool {
        group::processes(&self.place.groups).is_ok_and(|pids| pids.is_empty())
    }

    fn is_called(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| found.ino() == self.inode)
    }

    /// Says what of it survives being killed.
    fn report(&self, name: &OsString) {
        let (name, token) = (container(name), self.held.told().token);
        let pids = group::processes(&self.place.groups).unwrap_or_default();
        let mut log = io::stderr();
        // Whoever looks for it later finds the same in the agent's log, if there is an agent.
        let (Ok(()) | Err(_)) = left::each(&pids).into_iter().try_for_each(|process| {
            writeln!(
                log,
                "{process} of {name} (token {token}) survives SIGKILL; {}",
                self.cut.words()
            )
        });
    }

    /// Says that nothing of it is left any more, if it was told that something is.
    fn see_off(&mut self, name: &OsString) {
        self.cut = Cut::default();
        if std::mem::take(&mut self.reported) {
            let (Ok(()) | Err(_)) =
                writeln!(io::stderr(), "nothing is left of {} any more", container(name));
        }
    }
}

/// Whose file has this name.
fn container(name: &OsString) -> String {
    Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
