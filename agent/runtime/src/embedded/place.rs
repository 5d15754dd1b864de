//! Where a container is on disk, and what its files say.

use std::fs;
use std::io;
use std::path::PathBuf;

use mesh_ports::runtime::{ContainerId, Exit, Tag};

use super::{Config, fence};
use crate::record::{self, Record, State, StoredExit, file};

/// The longest name: with it the paths of sockets and cgroups stay far below their limits.
const NAME_LEN_MAX: usize = 128;

/// The directories of one container.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The durable one.
    pub(super) dir: PathBuf,
    /// The one of this boot.
    pub(super) run: PathBuf,
    /// What its guards are told, while it runs by a lease.
    pub(super) fence: PathBuf,
}

/// What the files and the shim say of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// It is not here.
    Absent,
    /// It does not run.
    Ended(Option<Exit>),
    /// It runs.
    Running(State),
    /// Its shim ended without saying how the container ended; processes of it may be left.
    Lost,
}

impl Place {
    pub(super) fn new(config: &Config, id: &ContainerId) -> Self {
        Self {
            dir: config.root.join(&id.0),
            run: config.run.join(&id.0),
            fence: fence::file(&config.run, id),
        }
    }

    /// Reads it. The files are written by one shim at a time and each of them whole, so the order of reading is what matters:
    /// an exit is written before the shim ends.
    pub(super) fn status(&self, boot: &str) -> io::Result<Status> {
        if !self.dir.join(file::RECORD).exists() {
            return Ok(Status::Absent);
        }
        if let Some(exit) = self.exit()? {
            return Ok(Status::Ended(Some(exit)));
        }
        let Some(state) = self.state()? else { return Ok(Status::Ended(None)) };
        if state.boot != boot {
            return Ok(Status::Ended(None));
        }
        if state.shim.is_alive() {
            return Ok(Status::Running(state));
        }
        // It may have said so and ended since the first look.
        Ok(self.exit()?.map_or(Status::Lost, |exit| Status::Ended(Some(exit))))
    }

    pub(super) fn state(&self) -> io::Result<Option<State>> {
        record::read(&self.dir, file::STATE)
    }

    fn exit(&self) -> io::Result<Option<Exit>> {
        let exit: Option<StoredExit> = record::read(&self.dir, file::EXIT)?;
        Ok(exit.map(|exit| exit.exit()))
    }

    /// Whose it is; `None` when there is no such container, or its record cannot be read.
    pub(super) fn tag(&self) -> Option<Tag> {
        let record: Option<Record> = record::read(&self.dir, file::RECORD).ok()?;
        record?.tag.read()
    }

    /// Removes what a former boot of the host left in directories of "this boot" that are not on a tmpfs: there is nothing
    /// mounted in them any more, and a file that was a namespace would be taken for one.
    pub(super) fn forget_former_boot(&self, boot: &str) -> io::Result<()> {
        match self.state()? {
            Some(state) if state.boot != boot => {
                fence::forget(&self.fence)?;
                remove_all(&self.run)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Removes the directories of commands whose agent has gone; they end by themselves.
    pub(super) fn forget_commands(&self) -> io::Result<()> {
        let entries = read_dir(&self.run)?.into_iter();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(file::EXEC_DIR))
            .try_for_each(|entry| remove_all(&entry.path()))
    }

    /// The network namespace.
    pub(super) fn network(&self) -> PathBuf {
        self.run.join(file::NETWORK)
    }

    /// The directory of what the workload is told of its lease.
    pub(super) fn lease(&self) -> PathBuf {
        self.run.join(file::LEASE)
    }

    /// Removes everything, mounts first. The record goes last, so that a removal that was interrupted is found again.
    pub(super) fn remove(&self) -> io::Result<()> {
        crate::shim::unmount(&self.run.join(file::MERGED))?;
        // A network that could not take it away has said so; the directory cannot go while it is mounted.
        crate::shim::unmount(&self.network())?;
        remove_all(&self.run)?;
        fence::forget(&self.fence)?;
        for entry in read_dir(&self.dir)? {
            if entry.file_name() != file::RECORD {
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    remove_all(&path)?;
                } else {
                    fs::remove_file(&path)?;
                }
            }
        }
        remove_all(&self.dir)
    }
}

/// Why a name cannot be one of a container; `None` when it can.
pub(super) fn name_fault(id: &ContainerId) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.0.is_empty() || id.0.len() > NAME_LEN_MAX || !id.0.chars().all(fits) {
        return Some(format!(
            "the name {:?} is not made of 1 to {NAME_LEN_MAX} letters, digits, - and _",
            id.0
        ));
    }
    (id.0 == crate::cgroup::SHIMS).then(|| format!("the name {:?} is taken", id.0))
}

/// The entries of a directory; none when it is not there.
pub(super) fn read_dir(dir: &std::path::Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove_all(dir: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    //! What files mean.

    use mesh_ports::runtime::ContainerId;

    use super::{Place, Status, name_fault};
    use crate::process::Process;
    use crate::record::{self, State, StoredExit, VERSION, file};

    fn state(shim: Process, boot: &str) -> State {
        State {
            version: VERSION,
            boot: boot.to_owned(),
            shim,
            init: shim,
            started_ms: 5,
            address: [10, 0, 0, 2].into(),
            cgroup: "/mesh/test/x".to_owned(),
        }
    }

    #[test]
    fn a_run_is_as_alive_as_its_shim() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().to_path_buf();
        let place = Place { dir: dir.clone(), run: dir.join("run"), fence: dir.join("c.fence") };
        let status = || place.status("now").expect("read");
        assert_eq!(status(), Status::Absent);
        std::fs::write(dir.join(file::RECORD), "{}").expect("written");
        assert_eq!(status(), Status::Ended(None), "made and never started");
        let own = Process::of(std::process::id()).expect("there");
        record::write(&dir, file::STATE, &state(own, "now")).expect("written");
        assert_eq!(status(), Status::Running(state(own, "now")));
        record::write(&dir, file::STATE, &state(own, "before")).expect("written");
        assert_eq!(status(), Status::Ended(None), "the host restarted");
        let recycled = Process { ticks: own.ticks + 1, ..own };
        record::write(&dir, file::STATE, &state(recycled, "now")).expect("written");
        assert_eq!(status(), Status::Lost, "another process has the number");
        let exit = StoredExit { version: VERSION, code: 7, signal: None, oom: false, ended_ms: 9 };
        record::write(&dir, file::EXIT, &exit).expect("written");
        assert_eq!(status(), Status::Ended(Some(exit.exit())));
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let fault = |name: &str| name_fault(&ContainerId(name.to_owned()));
        assert_eq!(fault("shop_web-3"), None);
        for name in ["", "..", "a/b", "shims", "a b", "ä"] {
            assert!(fault(name).is_some(), "{name:?}");
        }
    }
}
