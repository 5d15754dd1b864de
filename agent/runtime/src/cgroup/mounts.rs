//! Where the hierarchies are mounted, and where in them this process is.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A mounted hierarchy, or a group in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// True for version 2.
    pub(crate) v2: bool,
    /// The controllers of a hierarchy of version 1; a named one has none, version 2 keeps its list elsewhere.
    pub(crate) controllers: Vec<String>,
    /// The directory.
    pub(crate) path: PathBuf,
}

/// Options of a hierarchy of version 1 that are not controllers.
const FLAGS: [&str; 5] = ["rw", "ro", "xattr", "noprefix", "clone_children"];

/// All hierarchies that are mounted here.
pub(super) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?))
}

fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let path = PathBuf::from(place.split(' ').nth(4)?);
    let mut kind = kind.split(' ');
    let file_system = kind.next()?;
    let options = kind.nth(1)?;
    match file_system {
        "cgroup2" => Some(Mount { v2: true, controllers: Vec::new(), path }),
        "cgroup" => {
            let controllers = options
                .split(',')
                .filter(|option| !FLAGS.contains(option) && !option.contains('='))
                .map(str::to_owned)
                .collect();
            Some(Mount { v2: false, controllers, path })
        }
        _ => None,
    }
}

/// The group that this process is in: in the hierarchy of `controller`, or in version 2 when that is empty.
pub(super) fn own(controller: &str) -> io::Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let found = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    });
    let path = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(path.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    //! Reading `mountinfo` of the kinds of hosts there are.

    use super::parse;

    #[test]
    fn hybrid_hosts_have_both_versions() {
        let text = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert!(mounts[0].v2);
        assert!(mounts[1].controllers.is_empty());
        assert_eq!(mounts[2].controllers, ["cpu", "cpuacct"]);
        assert_eq!(mounts[2].path.to_str(), Some("/sys/fs/cgroup/cpu,cpuacct"));
    }
}
