//! What all processes of a group together may take, and whether they have it.

use std::fs;
use std::io;

use super::Group;

/// What all containers of a node together may take; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) memory: Option<u64>,
    /// Processes and threads.
    pub(crate) processes: Option<u64>,
}

/// The kernel rounds limits of memory to pages, which are this large at most.
const PAGE_LEN_MAX: u64 = 1 << 16;

impl Group {
    /// How often a process or thread of it was refused because there were too many.
    pub(crate) fn refused_processes(&self) -> u64 {
        self.keyed("pids", "pids.events", "max").unwrap_or(0)
    }

    /// The most processes and threads that it may have; `None` when nothing limits them.
    pub(crate) fn processes_max(&self) -> Option<u64> {
        self.number("pids", "pids.max")
    }

    /// The most processes and threads that it may have, if it has as many; `None` when there is room.
    pub(crate) fn crowd(&self) -> Option<u64> {
        let limit = self.processes_max()?;
        (self.number("pids", "pids.current")? >= limit).then_some(limit)
    }

    /// Sees to it that all its processes together do not take more than this of the host.
    ///
    /// # Errors
    /// When the kernel refuses, or when they take more memory already: version 2 would kill some of them to make the new limit
    /// true. One of the two limits may be set then.
    pub(crate) fn bound(&self, ceiling: Ceiling) -> io::Result<()> {
        let processes = ceiling.processes.map_or(Ok(()), |most| self.bound_processes(most));
        ceiling.memory.map_or(Ok(()), |most| self.bound_memory(most)).and(processes)
    }

    fn bound_processes(&self, most: u64) -> io::Result<()> {
        if self.processes_max() == Some(most) {
            return Ok(());
        }
        self.set("pids", "pids.max", most)
    }

    fn bound_memory(&self, most: u64) -> io::Result<()> {
        let (limit, used) = if self.unified {
            ("memory.max", "memory.current")
        } else {
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
        };
        let set = self.number("memory", limit);
        if set.is_some_and(|set| set.abs_diff(most) < PAGE_LEN_MAX) {
            return Ok(());
        }
        match self.number("memory", used) {
            Some(used) if used > most => {
                Err(io::Error::other(format!("they take {used} bytes of memory, more than {most}")))
            }
            Some(_) | None => self.set("memory", limit, most),
        }
    }

    fn set(&self, controller: &str, file: &str, most: u64) -> io::Result<()> {
        let Some(place) = self.place(controller) else { return Ok(()) };
        fs::write(place.join(file), most.to_string())
    }
}

#[cfg(test)]
mod tests {
    //! On files like the kernel's.

    use std::fs;
    use std::path::Path;

    use super::super::{Group, Mount};
    use super::Ceiling;

    const CEILING: Ceiling = Ceiling { memory: Some(1 << 30), processes: Some(1000) };

    fn group(dir: &Path, unified: bool) -> Group {
        let controllers = ["memory", "pids"].map(str::to_owned).to_vec();
        let place = Mount { v2: unified, controllers, path: dir.to_path_buf() };
        Group { unified, places: vec![place] }
    }

    /// Limits memory and processes of a group whose files say this, and returns what they say then.
    fn bound(unified: bool, used: u64, memory: &str, pids: &str) -> (bool, String, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let (limit, usage) = if unified {
            ("memory.max", "memory.current")
        } else {
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
        };
        for (file, text) in
            [(usage, used.to_string().as_str()), (limit, memory), ("pids.max", pids)]
        {
            fs::write(dir.path().join(file), format!("{text}\n")).expect("written");
        }
        let bounded = group(dir.path(), unified).bound(CEILING).is_ok();
        let read = |file| {
            let text = fs::read_to_string(dir.path().join(file)).expect("read");
            text.trim().to_owned()
        };
        (bounded, read(limit), read("pids.max"))
    }

    #[test]
    fn who_takes_more_memory_already_is_not_limited_below_it() {
        for unified in [true, false] {
            let over = bound(unified, (1 << 30) + 1, "max", "max");
            assert_eq!(over, (false, "max".to_owned(), "1000".to_owned()));
            let under = bound(unified, 1 << 30, "max", "max");
            assert_eq!(under, (true, (1_u64 << 30).to_string(), "1000".to_owned()));
        }
    }

    #[test]
    fn memory_is_compared_by_the_page_and_processes_one_by_one() {
        let rounded = ((1 << 30) - 4096_u64).to_string();
        let found = bound(true, 2 << 30, &rounded, "999");
        assert_eq!(found, (true, rounded, "1000".to_owned()));
    }
}
