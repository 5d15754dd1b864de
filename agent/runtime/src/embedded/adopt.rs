//! Finding containers again, and noticing their ends.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_coordinator::lease::exclusive::Fence;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{
    ContainerError, ContainerId, Ended, Event, Exit, Found, State as Seen, Tag,
};
use mesh_telemetry::Chain;
use tracing::{info, warn};

use super::clear::clear;
use super::place::{Status, name_fault, read_dir};
use super::{Driver, OpenError, blocking, end, fence, guard};
use crate::record::State;
use crate::sys;

/// How long a shim may take to say how its container ended before somebody looks after it; it ends the rest of the container
/// meanwhile.
const SHIM_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long it may take after that: nobody waits for this container, and a disk may be slow.
const SHIM_END_MAX: Duration = Duration::from_secs(60);

/// The pause between two attempts to end what is left of a run by a lease.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes over what runs, ends what was lost, and removes what a crash left half made.
pub(super) async fn all<N: ContainerNetwork>(driver: &Driver<N>) -> Result<(), OpenError> {
    let root = driver.inner.config.root.clone();
    let fault = |source| OpenError::Directory { path: root.clone(), source };
    let ids = ids(driver).await.map_err(fault)?;
    let (mut alive, mut is_guarded) = (Vec::new(), false);
    for id in ids {
        // One container whose files cannot be read must not keep the agent from the others.
        match driver.status(&id).await {
            Ok(Status::Running(state)) => {
                tidy(driver, &id).await;
                driver.inner.network.adopt(&id.0, state.address).await;
                info!(container = %id, pid = state.init.pid, "adopted");
                alive.push(id.0.clone());
                is_guarded |= driver.place(&id).fence.exists();
                watch(driver, &id, &state);
            }
            Ok(Status::Lost) => try_end_lost(driver, &id).await,
            Ok(Status::Absent) => remove_remains(driver, &id).await,
            Ok(Status::Ended(_)) => tidy(driver, &id).await,
            Err(error) => {
                warn!(container = %id, error = %Chain(&error), "a container's files cannot be read");
            }
        }
    }
    driver.inner.network.sweep(&alive).await;
    if is_guarded {
        guard::look_after(driver);
    }
    Ok(())
}

/// The names of all directories, complete or not.
async fn ids<N: ContainerNetwork>(driver: &Driver<N>) -> io::Result<Vec<ContainerId>> {
    let dirs = [driver.inner.config.root.clone(), driver.inner.config.run.clone()];
    blocking(move || {
        let mut ids = Vec::new();
        for dir in dirs {
            for entry in read_dir(&dir)? {
                let name = ContainerId(entry.file_name().to_string_lossy().into_owned());
                if name_fault(&name).is_none() && entry.file_type()?.is_dir() {
                    ids.push(name);
                }
            }
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    })
    .await
}

/// Removes what is of no use to this life of the agent, or to this boot.
async fn tidy<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId) {
    let (place, boot) = (driver.place(id), driver.inner.boot.clone());
    let tidied = blocking(move || {
        place.forget_former_boot(&boot)?;
        place.forget_commands()
    });
    if let Err(error) = tidied.await {
        warn!(container = %id, error = %Chain(&error), "leftovers in a container's directory");
    }
}

async fn remove_remains<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId) {
    let place = driver.place(id);
    driver.inner.network.detach(&id.0, &place.network()).await;
    if let Err(error) = blocking(move || place.remove()).await {
        warn!(container = %id, error = %Chain(&error), "remains of a container cannot be removed");
    }
}

/// Kills what a shim left that ended without a word.
///
/// # Errors
/// When something of it is left.
pub(super) async fn end_lost<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Result<(), ContainerError> {
    warn!(container = %id, "the shim was killed; ending what is left of its container");
    clear(driver, id).await?;
    let group = driver.group(id);
    if let Err(error) = blocking(move || group.remove()).await {
        // Nothing is in it, and the container's removal tries again.
        warn!(container = %id, error = %Chain(&error), "the cgroup cannot be removed");
    }
    Ok(())
}

/// The same for whoever can do no more about it.
async fn try_end_lost<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId) {
    if let Err(error) = end_lost(driver, id).await {
        warn!(container = %id, error = %Chain(&error), "the cgroup cannot be emptied");
    }
}

pub(super) async fn list<N: ContainerNetwork>(driver: &Driver<N>) -> Vec<Found> {
    let ids = match ids(driver).await {
        Ok(ids) => ids,
        Err(error) => {
            warn!(error = %Chain(&error), "the containers cannot be listed");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for id in ids {
        let Some((tag, fence, status)) = look(driver, &id).await else { continue };
        let state = match status {
            Status::Absent => continue,
            Status::Running(state) => Seen::Running(state.running()),
            Status::Ended(exit) => Seen::Ended(exit),
            Status::Lost => {
                try_end_lost(driver, &id).await;
                Seen::Ended(None)
            }
        };
        found.push(Found { id, tag, state, fence });
    }
    found
}

async fn look<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Option<(Tag, Option<Fence>, Status)> {
    let (place, boot, number) = (driver.place(id), driver.inner.boot.clone(), driver.boot());
    let looked = blocking(move || {
        // Without what cannot be read it is one whose lease nobody knows, and not one that is not there.
        let fence = fence::read(&place.fence, number).unwrap_or_else(|error| {
            warn!(file = %place.fence.display(), error = %Chain(&error), "a fence cannot be read");
            None
        });
        Ok((place.tag(), fence, place.status(&boot)?))
    });
    match looked.await {
        Ok((tag, fence, status)) => Some((tag?, fence, status)),
        Err(error) => {
            warn!(container = %id, error = %Chain(&error), "a container's files cannot be read");
            None
        }
    }
}

/// Watches a run until it ends.
pub(super) fn watch<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId, state: &State) {
    let asked = driver.slot(id).next_run();
    let (own, id, state) = (driver.clone(), id.clone(), state.clone());
    driver.inner.tasks.spawn("container", async move {
        over(&id, &state).await;
        tell(&own, id, &asked).await;
    });
}

/// Waits until a run is over: its shim says so by ending. One that stands still while its container has ended is woken, and
/// killed if that does not help: nobody else would learn of the end.
async fn over(id: &ContainerId, state: &State) {
    tokio::select! {
        biased;
        () = ended(state.shim.open()) => return,
        () = ended(state.init.open()) => {}
    }
    if tokio::time::timeout(SHIM_PAUSE_MAX, ended(state.shim.open())).await.is_err() {
        warn!(container = %id, "its container has ended, and the shim stands still; waking it");
        end::wake_shim(state);
        end::see_shim_off(id, state, SHIM_END_MAX).await;
    }
}

async fn tell<N: ContainerNetwork>(driver: &Driver<N>, id: ContainerId, asked: &Arc<AtomicBool>) {
    let exit = exit_of(driver, &id).await;
    if driver.place(&id).fence.exists() {
        see_off(driver, &id, asked).await;
    }
    if asked.load(Ordering::SeqCst) {
        return;
    }
    info!(container = %id, code = exit.as_ref().map(|exit| exit.code), "ended");
    // Nobody listens any more when the agent stops.
    let (Ok(()) | Err(_)) = driver.inner.events.send(Event::Ended(Ended { id, exit })).await;
}

/// Waits until nothing is left of what runs by a lease: its end says that it may be run elsewhere.
async fn see_off<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId, asked: &AtomicBool) {
    let mut told = String::new();
    while let Err(error) = clear(driver, id).await {
        if asked.load(Ordering::SeqCst) {
            return;
        }
        let reason = Chain(&error).to_string();
        if reason != told {
            warn!(container = %id, reason, "processes survive being killed");
            told.clone_from(&reason);
            let event = Event::Stuck { id: id.clone(), reason };
            let (Ok(()) | Err(_)) = driver.inner.events.send(event).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// How a run ended whose shim has ended; what was lost is ended for good.
pub(super) async fn exit_of<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Option<Exit> {
    match driver.status(id).await {
        Ok(Status::Ended(exit)) => exit,
        Ok(Status::Lost) => {
            try_end_lost(driver, id).await;
            None
        }
        Ok(Status::Absent | Status::Running(_)) | Err(_) => None,
    }
}

/// Waits for the end of the process behind a pidfd; at once when there is none.
pub(super) async fn ended(pidfd: Option<OwnedFd>) {
    let Some(pidfd) = pidfd else { return };
    match sys::watch(pidfd) {
        Ok(pidfd) => match pidfd.readable().await {
            Ok(_guard) => {}
            Err(error) => warn!(%error, "a shim cannot be watched"),
        },
        Err(error) => warn!(%error, "a shim cannot be watched"),
    }
}
