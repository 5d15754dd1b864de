//! What this host lacks for containers, in words that say what to do.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Uid;

use crate::cgroup::Tree;
use crate::embedded::Config;
use crate::sys;

mod fence;

pub use self::fence::{FenceReport, Grade, fence};

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What is missing.
    pub what: String,
    /// What does not work without it.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}); {}", self.what, self.why, self.remedy)
    }
}

/// Capabilities that making a container takes, by number.
const CAPABILITIES: [(&str, u32); 12] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_MKNOD", 27),
];

/// Looks at the host; an empty list means that containers can run. Makes and removes a directory in `config.run`. Blocks.
#[must_use]
pub fn examine(config: &Config) -> Vec<Need> {
    let mut needs = rights();
    if needs.is_empty() {
        needs.extend(chroot());
        needs.extend(overlay(config));
        needs.extend(cgroups(config));
    }
    needs.extend(kernel());
    needs
}

fn rights() -> Vec<Need> {
    let mut needs = Vec::new();
    if !Uid::effective().is_root() {
        needs.push(Need {
            what: "the agent does not run as root".to_owned(),
            why: "namespaces, mounts and cgroups of containers are made by root",
            remedy: "start it by its systemd unit, or with sudo",
        });
        return needs;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    if !missing.is_empty() {
        needs.push(Need {
            what: format!("the agent lacks {}", missing.join(", ")),
            why: "a container's namespaces, mounts and users cannot be set up",
            remedy: "remove CapabilityBoundingSet from the unit; in a container, run it with --privileged",
        });
    }
    needs
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let lacks = |(_, number): &&(&str, u32)| effective & (1 << number) == 0;
    CAPABILITIES.iter().filter(lacks).map(|(name, _)| *name).collect()
}

fn chroot() -> Option<Need> {
    let looked = File::open("/proc/self/ns/mnt").and_then(is_confined);
    let what = match looked {
        Ok(false) => return None,
        Ok(true) => "the agent runs in a chroot".to_owned(),
        Err(error) => format!("the root of the agent's mounts cannot be told: {error}"),
    };
    Some(Need {
        what,
        why: "a container could leave its own root for what is outside, and commands in it would run there",
        remedy: "run the agent on the host itself, or with mounts of its own: systemd-nspawn, or a privileged container",
    })
}

/// Whether this process's root is another directory than that of the mount namespace `mounts`, which is its own. A container's
/// root is put in place of this process's one, and whoever enters the namespace later gets the namespace's.
fn is_confined(mounts: File) -> io::Result<bool> {
    let root = || fs::metadata("/").map(|root| (root.dev(), root.ino()));
    let look = move || {
        let before = root()?;
        // To enter a namespace, even one's own, is to go to its root. A thread that shares its root with others may not.
        unshare(CloneFlags::CLONE_FS)?;
        setns(mounts, CloneFlags::CLONE_NEWNS)?;
        Ok(root()? != before)
    };
    let thread = thread::Builder::new().name("doctor".to_owned()).spawn(look)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the look panicked")))
}

fn overlay(config: &Config) -> Option<Need> {
    let dir = config.root.join(".doctor");
    let part = |name: &str| dir.join(name);
    let made = ["lower", "upper", "work", "merged"]
        .iter()
        .try_for_each(|name| fs::create_dir_all(part(name)));
    let mounted = made.map_err(|error| error.to_string()).and_then(|()| {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            part("lower").display(),
            part("upper").display(),
            part("work").display()
        );
        let (kind, target) = (Some("overlay"), part("merged"));
        mount(kind, &target, kind, MsFlags::MS_NODEV, Some(options.as_str()))
            .and_then(|()| umount2(&target, MntFlags::MNT_DETACH))
            .map_err(|errno| errno.desc().to_owned())
    });
    // Left over only where nothing works; the next call tries again.
    let (Ok(()) | Err(_)) = fs::remove_dir_all(&dir);
    let reason = mounted.err()?;
    Some(Need {
        what: format!("overlayfs does not work in {}: {reason}", config.root.display()),
        why: "containers share the layers of their image by it",
        remedy: "load the module (modprobe overlay), and keep the data directory on ext4, xfs or btrfs, not on another overlay",
    })
}

fn cgroups(config: &Config) -> Vec<Need> {
    let remedy = "mount cgroups as systemd does; in a container, run it with --privileged --cgroupns=private";
    let tree = match Tree::discover() {
        Ok(tree) => tree,
        Err(error) => {
            let what = format!("no cgroups at /sys/fs/cgroup: {error}");
            return vec![Need { what, why: "containers cannot be limited nor stopped", remedy }];
        }
    };
    let mut needs = Vec::new();
    let missing = tree.missing();
    if !missing.is_empty() {
        needs.push(Need {
            what: format!("the kernel offers no cgroup controller for {}", missing.join(", ")),
            why: "limits of that kind cannot be kept",
            remedy: "enable it on the kernel's command line (cgroup_enable=memory on a Raspberry Pi)",
        });
    }
    if let Err(error) = tree.base(&config.cgroup_parent) {
        needs.push(Need {
            what: format!("the cgroup {} cannot be made: {error}", config.cgroup_parent),
            why: "containers cannot be limited nor stopped",
            remedy,
        });
    }
    needs
}

fn kernel() -> Vec<Need> {
    let mut needs = Vec::new();
    if sys::pidfd_open(std::process::id()).is_err() {
        needs.push(Need {
            what: "the kernel is older than 5.6".to_owned(),
            why: "containers are watched by pidfds, and looked into by openat2",
            remedy: "use a newer kernel",
        });
    }
    let absent: Vec<&str> = ["pid", "mnt", "uts", "ipc", "net"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    if !absent.is_empty() {
        needs.push(Need {
            what: format!("the kernel has no namespaces of the kind {}", absent.join(", ")),
            why: "containers are kept apart by them",
            remedy: "use a kernel of a distribution",
        });
    }
    if !Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        needs.push(Need {
            what: "the kernel has no seccomp filters".to_owned(),
            why: "dangerous system calls are kept from containers by them",
            remedy: "use a kernel with CONFIG_SECCOMP_FILTER, as all distributions have",
        });
    }
    needs
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
mod tests {
    //! What is missing is named.

    use std::fs::File;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};
    use nix::unistd::{Uid, chroot};

    use super::{CAPABILITIES, is_confined, missing_capabilities};

    #[test]
    fn missing_capabilities_are_named() {
        assert!(missing_capabilities("CapEff:\t000001fffeffffff\n").is_empty());
        assert_eq!(missing_capabilities("CapEff:\t000001ffffdfffff\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_capabilities("").len(), CAPABILITIES.len());
    }

    #[test]
    fn a_chroot_is_noticed() {
        if !Uid::effective().is_root() {
            println!("skipped: root is needed to change a thread's root");
            return;
        }
        let mounts = || File::open("/proc/self/ns/mnt").unwrap();
        assert!(!is_confined(mounts()).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let confined = thread::spawn(move || {
            let mounts = mounts();
            unshare(CloneFlags::CLONE_FS).unwrap();
            chroot(&path).unwrap();
            is_confined(mounts).unwrap()
        });
        assert!(confined.join().unwrap());
    }
}
