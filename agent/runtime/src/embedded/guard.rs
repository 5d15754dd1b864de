//! The guard of the host: that it is there while containers run by a lease, and gone with the last container.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mesh_ports::network::ContainerNetwork;
use mesh_telemetry::Chain;
use nix::poll::{PollFd, PollFlags, poll};
use tracing::{info, warn};

use super::{Driver, blocking, fence, start};
use crate::cgroup::GUARD;
use crate::shim::{self, BEAT, BEAT_LEN, Beat, HOST, LOCK};
use crate::sys;

/// What the guard had to say.
const LOG: &str = "guard.log";

/// How often, and how long apart, its heartbeat is looked for: 3 s in all, thirty times what it needs.
const ROUNDS: u32 = 150;
const PAUSE: Duration = Duration::from_millis(20);

/// It is called again after so many looks, in case it had just ended by itself.
const CALL_ROUNDS: u32 = 25;

/// How long it may take to end, in milliseconds: it waits for nothing.
const END_MS_MAX: u16 = 2_000;

/// Sees to it that the host guard watches over the files of fences, one of which was made already.
///
/// # Errors
/// When it does not answer, with what it had to say.
pub(super) async fn ensure<N: ContainerNetwork>(driver: &Driver<N>) -> io::Result<()> {
    let dir = fence::dir(&driver.inner.config.run);
    for round in 0..ROUNDS {
        if let Some(beat) = beat(driver, &dir).await {
            if beat.n_stuck > 0 {
                warn!(runs = beat.n_stuck, log = %dir.join(LOG).display(), "processes survive being killed");
            }
            return Ok(());
        }
        if round % CALL_ROUNDS == 0 {
            call(driver, &dir).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let said = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
    Err(io::Error::other(format!("the guard of the host does not answer: {}", said.trim())))
}

/// The same for containers that run already, beside whatever goes on.
pub(super) fn look_after<N: ContainerNetwork>(driver: &Driver<N>) {
    let own = driver.clone();
    driver.inner.tasks.spawn("host guard", async move {
        let dir = fence::dir(&own.inner.config.run);
        if beat(&own, &dir).await.is_some() {
            return;
        }
        warn!("the guard of the host is gone or stands still; calling it");
        if let Err(error) = ensure(&own).await {
            warn!(error = %Chain(&error), "only their shims end containers whose leases end");
        }
    });
}

/// Its heartbeat, if it is fresh. One that has just been killed has left a fresh one; but its lock has gone with it.
async fn beat<N: ContainerNetwork>(driver: &Driver<N>, dir: &Path) -> Option<Beat> {
    let (dir, boot) = (dir.to_path_buf(), driver.boot());
    let read = blocking(move || Ok((fs::read(dir.join(BEAT))?, holder(&dir)))).await.ok()?;
    let (beat, Some(_guard)) = read else { return None };
    let beat = beat.get(..BEAT_LEN).and_then(Beat::decode)?;
    beat.is_fresh(boot, shim::now()).then_some(beat)
}

/// Starts it, or wakes the one that is there.
async fn call<N: ContainerNetwork>(driver: &Driver<N>, dir: &Path) -> io::Result<()> {
    let own = dir.to_path_buf();
    let there = blocking(move || Ok(holder(&own))).await?;
    if let Some(guard) = there {
        return sys::pidfd_send_signal(guard.as_fd(), libc::SIGCONT);
    }
    let inner = &driver.inner;
    let mut told = format!("{}{GUARD}\n", inner.cgroup_parent).into_bytes();
    if let Some(keeper) = &inner.keeper {
        told.extend_from_slice(keeper.as_os_str().as_bytes());
    }
    let log = File::options().create(true).append(true).open(dir.join(LOG))?;
    let status = start::shim_command(&inner.config.shim, dir)
        .env(HOST, OsString::from_vec(told))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .await?;
    if status.success() {
        info!("the guard of the host was started");
        Ok(())
    } else {
        let said = fs::read_to_string(dir.join(LOG)).unwrap_or_default();
        Err(io::Error::other(format!("{status}: {}", said.trim())))
    }
}

/// The process that guards `dir`, if there is one.
fn holder(dir: &Path) -> Option<OwnedFd> {
    let lock = File::open(dir.join(LOCK)).ok()?;
    let pid = sys::lock_holder(&lock)?;
    let pidfd = sys::pidfd_open(pid).ok()?;
    // Looked at after the open: from here on the descriptor cannot mean another process.
    (sys::lock_holder(&lock) == Some(pid)).then_some(pidfd)
}

/// Ends it and removes its directory: the last container is gone. Blocks.
pub(super) fn dismiss(run: &Path) -> io::Result<()> {
    let dir = fence::dir(run);
    if !dir.exists() {
        return Ok(());
    }
    if let Some(guard) = holder(&dir) {
        sys::pidfd_send_signal(guard.as_fd(), libc::SIGKILL)?;
        // Its lock is free a moment before it has left its group.
        poll(&mut [PollFd::new(guard.as_fd(), PollFlags::POLLIN)], END_MS_MAX)?;
    }
    fs::remove_dir_all(dir)
}
