//! Network namespaces that live as long as a file that they are mounted onto.
//!
//! A thread that has changed its namespace is of no other use, so each is made for one purpose and ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::mpsc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use tokio::runtime::Handle;
use tracing::debug;

use super::link::Socket;
use super::step::{STEP_LIMIT, StepError};
use super::sysctl;

/// The calling thread's network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Mounts stacked on one file that are removed at most: one is made, and a crash at a bad moment could leave a second.
const MOUNTS_MAX: usize = 4;

/// Settings of a container's namespace: a process that is not root may listen on any port of its own address, and may ping. Both
/// are what images expect since Docker does so, and neither reaches beyond the namespace.
const SETTINGS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];

/// A new namespace: a handle on it, and a socket that works inside.
pub(super) struct Inside {
    /// Keeps the namespace and names it to the kernel.
    pub(super) file: File,
    /// A routing socket of the namespace.
    pub(super) socket: Socket,
}

/// Whether a namespace is mounted at `path`.
pub(super) fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Makes a network namespace and mounts it at `path`. To be called in a runtime, from a thread that may block.
pub(super) fn make(path: &Path) -> Result<Inside, StepError> {
    let attempt = format!("make a network namespace at {}", path.display());
    let refused = |error: io::Error| StepError::refused(attempt.clone(), error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(refused)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(refused)?;
    let (done, result) = mpsc::sync_channel(1);
    let (target, runtime) = (path.to_owned(), Handle::current());
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            // A caller that waits no longer needs no answer; the mount is then found by the next attempt.
            drop(done.send(enter_new(&target, &runtime)));
        })
        .map_err(refused)?;
    match result.recv_timeout(STEP_LIMIT) {
        Ok(made) => made.map_err(refused),
        Err(_) => Err(StepError::late(attempt)),
    }
}

fn enter_new(path: &Path, runtime: &Handle) -> io::Result<Inside> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for (setting, value) in SETTINGS {
        if let Err(error) = sysctl::ensure(setting, value) {
            debug!(setting, %error, "old kernel without this setting");
        }
    }
    let file = File::open(OWN)?;
    mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let _runtime = runtime.enter();
    let socket = Socket::new()?;
    Ok(Inside { file, socket })
}

/// Unmounts and removes the file at `path`. Processes that are inside keep the namespace until they end.
pub(super) fn remove(path: &Path) -> Result<(), StepError> {
    let attempt = || format!("remove the network namespace at {}", path.display());
    for _ in 0..MOUNTS_MAX {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => break,
            Err(errno) => return Err(StepError::refused(attempt(), errno)),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StepError::refused(attempt(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
