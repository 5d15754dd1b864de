//! Stopping and removing.

use std::fs;
use std::os::fd::AsFd as _;
use std::time::Duration;

use mesh_coordinator::spec::StopSignal;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerError, ContainerId};
use mesh_telemetry::Chain;
use tracing::{info, warn};

use super::clear::clear;
use super::place::{Status, name_fault};
use super::{Driver, adopt, blocking, fence, guard, host};
use crate::cgroup::KILL_MAX;
use crate::record::State;
use crate::sys;

/// How long a shim may take to write down an end after the last process of its container is gone.
const SHIM_END_MAX: Duration = Duration::from_secs(15);

pub(super) async fn stop<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    signal: StopSignal,
    grace: Duration,
) -> Result<(), ContainerError> {
    let slot = driver.slot(id);
    let _operation = slot.operation.lock().await;
    end(driver, id, i32::from(signal.number()), grace).await
}

/// Ends what a shim has started that did not answer in time: its start counts as failed, so nobody would know that it runs. Whoever
/// calls it holds the container's operation. Returns whether nothing of it is left.
pub(super) async fn unanswered<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId) -> bool {
    match end(driver, id, libc::SIGKILL, Duration::ZERO).await {
        Ok(()) | Err(ContainerError::Unknown(_)) => true,
        Err(error) => {
            warn!(container = %id, error = %Chain(&error), "what a failed start left cannot be ended");
            false
        }
    }
}

async fn end<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    signal: i32,
    grace: Duration,
) -> Result<(), ContainerError> {
    match status_of(driver, id).await? {
        Status::Absent => Err(ContainerError::Unknown(id.clone())),
        // Its shim writes that down even when something is left.
        Status::Ended(_) => clear(driver, id).await,
        Status::Lost => adopt::end_lost(driver, id).await,
        Status::Running(state) => {
            driver.slot(id).ask();
            end_run(driver, id, &state, signal, grace).await
        }
    }
}

async fn status_of<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Result<Status, ContainerError> {
    if name_fault(id).is_some() {
        return Ok(Status::Absent);
    }
    let status = driver.status(id).await;
    status.map_err(|error| host(format!("look at the container {id}"), error))
}

async fn end_run<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    state: &State,
    signal: i32,
    grace: Duration,
) -> Result<(), ContainerError> {
    wake_shim(state);
    let (place, boot) = (driver.place(id), driver.boot());
    let told = blocking(move || fence::tell_of_end(&place, boot)).await;
    if let Err(error) = told {
        warn!(container = %id, error = %Chain(&error), "the workload is not told that its lease ends");
    }
    if !grace.is_zero()
        && let Some(init) = state.init.open()
        && let Err(error) = sys::pidfd_send_signal(init.as_fd(), signal)
    {
        // It has just ended, or is killed below.
        warn!(container = %id, %error, "the stop signal was not delivered");
    }
    if tokio::time::timeout(grace, adopt::ended(state.shim.open())).await.is_err() {
        if !grace.is_zero() {
            warn!(container = %id, signal, ?grace, "it did not stop within its grace; killing it");
        }
        clear(driver, id).await?;
        see_shim_off(id, state, SHIM_END_MAX).await;
    }
    let exit = adopt::exit_of(driver, id).await;
    clear(driver, id).await?;
    info!(container = %id, code = exit.map(|exit| exit.code), "stopped");
    Ok(())
}

/// Whoever stopped a shim (`kill -STOP`) stopped what waits for the container's end.
pub(super) fn wake_shim(state: &State) {
    // Nothing to one that runs, and one that has ended is what is waited for.
    let woken = state.shim.open().map(|shim| sys::pidfd_send_signal(shim.as_fd(), libc::SIGCONT));
    let (None | Some(Ok(()) | Err(_))) = woken;
}

/// Waits for the end of a shim whose container has ended; one that does not end is killed.
pub(super) async fn see_shim_off(id: &ContainerId, state: &State, max: Duration) {
    if tokio::time::timeout(max, adopt::ended(state.shim.open())).await.is_err() {
        kill_shim(id, state).await;
    }
}

async fn kill_shim(id: &ContainerId, state: &State) {
    warn!(container = %id, "the shim does not end; killing it");
    let Some(shim) = state.shim.open() else { return };
    if let Err(error) = sys::pidfd_send_signal(shim.as_fd(), libc::SIGKILL) {
        warn!(container = %id, %error, "the shim cannot be killed");
    }
    adopt::ended(Some(shim)).await;
}

pub(super) async fn remove<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Result<(), ContainerError> {
    let slot = driver.slot(id);
    let operation = slot.operation.lock().await;
    match status_of(driver, id).await? {
        Status::Absent => return Ok(()),
        Status::Running(state) => {
            slot.ask();
            end_run(driver, id, &state, libc::SIGKILL, Duration::ZERO).await?;
        }
        Status::Lost => adopt::end_lost(driver, id).await?,
        Status::Ended(_) => clear(driver, id).await?,
    }
    remove_files(driver, id).await?;
    info!(container = %id, "removed");
    drop(operation);
    let mut slots = driver.inner.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    slots.remove(id);
    Ok(())
}

/// Removes all that is left of a container that does not run.
pub(super) async fn remove_files<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Result<(), ContainerError> {
    let (place, group) = (driver.place(id), driver.group(id));
    driver.inner.network.detach(&id.0, &place.network()).await;
    blocking(move || {
        group.kill(KILL_MAX)?;
        group.remove()?;
        place.remove()
    })
    .await
    .map_err(|error| host(format!("remove the container {id}"), error))?;
    remove_empty_groups(driver).await;
    Ok(())
}

/// Removes the groups above the containers' when this was the last one.
async fn remove_empty_groups<N: ContainerNetwork>(driver: &Driver<N>) {
    let _cgroups = driver.inner.cgroups.write().await;
    let driver = driver.clone();
    let removed = blocking(move || {
        let inner = &driver.inner;
        if fs::read_dir(&inner.config.root)?.next().is_none() {
            guard::dismiss(&inner.config.run)?;
            inner.tree.remove_empty(&inner.cgroup_parent, &inner.config.cgroup_parent);
        }
        Ok(())
    });
    if let Err(error) = removed.await {
        warn!(error = %Chain(&error), "the containers cannot be listed");
    }
}
