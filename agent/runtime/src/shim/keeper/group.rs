//! Ending all that is in a control group, by files and signals alone.
//!
//! A run has a group in several hierarchies. Which of them can do what is seen by the files that are there: `cgroup.kill` of
//! version 2 kills all at once, `freezer.state` of version 1 thaws what would not die while it is frozen.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::sys;

const THAWED: &str = "THAWED";

/// Every process in the groups. An error when that cannot be told, which is not the same as none.
pub(crate) fn processes(groups: &[PathBuf]) -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for group in groups {
        match fs::read_to_string(group.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Whether the group was removed, perhaps while it was read (`ENODEV`).
fn is_absent(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}

/// Kills what is in the groups now, frozen or not, and returns at once.
///
/// A process that forks meanwhile does not escape: its first process is among those killed, and the kernel lets no other process
/// of a namespace outlive that.
pub(crate) fn kill(groups: &[PathBuf]) {
    for group in groups {
        let at_once = group.join("cgroup.kill");
        if at_once.exists() {
            // What is left is killed one by one below.
            let (Ok(()) | Err(_)) = fs::write(at_once, "1");
        }
    }
    for pid in processes(groups).unwrap_or_default() {
        sys::kill(pid);
    }
    // Last, so that what thaws is dead before its next instruction.
    for group in groups {
        thaw(group);
    }
}

fn thaw(group: &Path) {
    let frozen = |dir: &Path, file: &str| {
        fs::read_to_string(dir.join(file)).is_ok_and(|text| !matches!(text.trim(), THAWED | "0"))
    };
    if !frozen(group, "freezer.state") {
        return;
    }
    let is_by_other = frozen(group, "freezer.parent_freezing");
    for dir in group.ancestors() {
        if !dir.join("freezer.state").exists() {
            break;
        }
        // Where it is refused, the next round tries again.
        let (Ok(()) | Err(_)) = fs::write(dir.join("freezer.state"), THAWED);
        if !is_by_other {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    //! On files like the kernel's.

    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{kill, processes};

    fn group(dir: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = dir.join(name);
        fs::create_dir_all(&path).expect("made");
        for (file, text) in files {
            fs::write(path.join(file), text).expect("written");
        }
        path
    }

    #[test]
    fn processes_are_those_of_all_groups_and_an_absent_one_has_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let groups = [
            group(dir.path(), "a", &[("cgroup.procs", "2\n10\n")]),
            group(dir.path(), "b", &[("cgroup.procs", "10\n11\n")]),
            dir.path().join("absent"),
        ];
        assert_eq!(processes(&groups).expect("read"), [2, 10, 11]);
    }

    #[test]
    fn a_group_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let broken = group(dir.path(), "a/cgroup.procs", &[]);
        let groups = [broken.parent().expect("a").to_path_buf()];
        assert!(processes(&groups).is_err());
    }

    #[test]
    fn what_is_frozen_is_thawed_and_its_ancestors_only_if_they_freeze_it() {
        let state = |path: &Path| fs::read_to_string(path.join("freezer.state")).expect("read");
        for (above, expected) in [("0", "FROZEN"), ("1", "THAWED")] {
            let dir = tempfile::tempdir().expect("a directory");
            let parent = group(dir.path(), "p", &[("freezer.state", "FROZEN")]);
            let files = [("freezer.state", "FROZEN"), ("freezer.parent_freezing", above)];
            let own = group(&parent, "c", &files);
            kill(std::slice::from_ref(&own));
            assert_eq!((state(&own).as_str(), state(&parent).as_str()), ("THAWED", expected));
        }
    }

    #[test]
    fn version_2_kills_at_once_where_it_can() {
        let dir = tempfile::tempdir().expect("a directory");
        let able = group(dir.path(), "able", &[("cgroup.kill", "")]);
        let unable = group(dir.path(), "unable", &[]);
        kill(&[able.clone(), unable.clone()]);
        assert_eq!(fs::read_to_string(able.join("cgroup.kill")).expect("read"), "1");
        assert!(!unable.join("cgroup.kill").exists() && !unable.join("freezer.state").exists());
    }
}
