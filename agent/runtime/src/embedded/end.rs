//! Stopping and removing.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use mesh_coordinator::spec::StopSignal;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerError, ContainerId};
use mesh_telemetry::Chain;
use tracing::{info, warn};

use super::adopt::ended;
use super::place::{Status, name_fault};
use super::{Driver, blocking, host};
use crate::record::State;
use crate::sys;

/// How long a shim may take to write down an end after the last process of its container is gone.
const SHIM_END_MAX: Duration = Duration::from_secs(15);

const SIGKILL: i32 = 9;

impl<N: ContainerNetwork> Driver<N> {
    pub(super) async fn stop_container(
        &self,
        id: &ContainerId,
        signal: StopSignal,
        grace: Duration,
    ) -> Result<(), ContainerError> {
        let slot = self.slot(id);
        let _operation = slot.operation.lock().await;
        match self.status_of(id).await? {
            Status::Absent => Err(ContainerError::Unknown(id.clone())),
            Status::Ended(_) => Ok(()),
            Status::Lost => {
                self.end_lost(id).await;
                Ok(())
            }
            Status::Running(state) => {
                slot.ask();
                self.end_run(id, &state, i32::from(signal.number()), grace).await
            }
        }
    }

    async fn status_of(&self, id: &ContainerId) -> Result<Status, ContainerError> {
        if name_fault(id).is_some() {
            return Ok(Status::Absent);
        }
        let status = self.status(id).await;
        status.map_err(|error| host(format!("look at the container {id}"), error))
    }

    async fn end_run(
        &self,
        id: &ContainerId,
        state: &State,
        signal: i32,
        grace: Duration,
    ) -> Result<(), ContainerError> {
        if !grace.is_zero()
            && let Some(init) = state.init.open()
            && let Err(error) = sys::pidfd_send_signal(init.as_fd(), signal)
        {
            // It has just ended, or is killed below.
            warn!(container = %id, %error, "the stop signal was not delivered");
        }
        if tokio::time::timeout(grace, ended(state.shim.open())).await.is_err() {
            let group = self.group(id);
            blocking(move || group.kill())
                .await
                .map_err(|error| host(format!("kill the container {id}"), error))?;
            if tokio::time::timeout(SHIM_END_MAX, ended(state.shim.open())).await.is_err() {
                self.kill_shim(id, state).await;
            }
        }
        let exit = self.exit_of(id).await;
        let left = self.group(id);
        let left = blocking(move || Ok(left.processes().len())).await;
        match left {
            Ok(0) => {
                info!(container = %id, code = exit.map(|exit| exit.code), "stopped");
                Ok(())
            }
            Ok(left) => {
                let reason = io::Error::other(format!("{left} processes are left"));
                Err(host(format!("stop the container {id}"), reason))
            }
            Err(error) => Err(host(format!("stop the container {id}"), error)),
        }
    }

    async fn kill_shim(&self, id: &ContainerId, state: &State) {
        warn!(container = %id, "the shim does not end; killing it");
        let Some(shim) = state.shim.open() else { return };
        if let Err(error) = sys::pidfd_send_signal(shim.as_fd(), SIGKILL) {
            warn!(container = %id, %error, "the shim cannot be killed");
        }
        ended(Some(shim)).await;
    }

    pub(super) async fn remove_container(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let slot = self.slot(id);
        let operation = slot.operation.lock().await;
        match self.status_of(id).await? {
            Status::Absent => return Ok(()),
            Status::Running(state) => {
                slot.ask();
                self.end_run(id, &state, SIGKILL, Duration::ZERO).await?;
            }
            Status::Lost => self.end_lost(id).await,
            Status::Ended(_) => {}
        }
        self.remove_all(id).await?;
        info!(container = %id, "removed");
        drop(operation);
        let mut slots = self.inner.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        slots.remove(id);
        Ok(())
    }

    /// Removes all that is left of a container that does not run.
    pub(super) async fn remove_all(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let (place, group) = (self.place(id), self.group(id));
        self.inner.network.detach(&id.0, &place.network()).await;
        blocking(move || {
            group.kill()?;
            group.remove()?;
            place.remove()
        })
        .await
        .map_err(|error| host(format!("remove the container {id}"), error))?;
        self.remove_empty_groups().await;
        Ok(())
    }

    /// Removes the groups above the containers' when this was the last one.
    async fn remove_empty_groups(&self) {
        let _cgroups = self.inner.cgroups.write().await;
        let driver = self.clone();
        let removed = blocking(move || {
            let inner = &driver.inner;
            if fs::read_dir(&inner.config.root)?.next().is_none() {
                inner.tree.remove_empty(&inner.cgroup_parent, &inner.config.cgroup_parent);
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            warn!(error = %Chain(&error), "the containers cannot be listed");
        }
    }
}
