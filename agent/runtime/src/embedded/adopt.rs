//! Finding containers again, and noticing their ends.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerId, Ended, Exit, Found, State as Seen};
use mesh_telemetry::Chain;
use tracing::{info, warn};

use super::place::{Status, name_fault, read_dir};
use super::{Driver, OpenError, blocking};
use crate::record::State;
use crate::sys;

impl<N: ContainerNetwork> Driver<N> {
    /// Takes over what runs, ends what was lost, and removes what a crash left half made.
    pub(super) async fn adopt_all(&self) -> Result<(), OpenError> {
        let root = self.inner.config.root.clone();
        let fault = |source| OpenError::Directory { path: root.clone(), source };
        let ids = self.ids().await.map_err(fault)?;
        let mut alive = Vec::new();
        for id in ids {
            // One container whose files cannot be read must not keep the agent from the others.
            match self.status(&id).await {
                Ok(Status::Running(state)) => {
                    self.inner.network.adopt(&id.0, state.address).await;
                    info!(container = %id, pid = state.init.pid, "adopted");
                    alive.push(id.0.clone());
                    self.watch(&id, &state);
                }
                Ok(Status::Lost) => self.end_lost(&id).await,
                Ok(Status::Absent) => self.remove_remains(&id).await,
                Ok(Status::Ended(_)) => {}
                Err(error) => {
                    warn!(container = %id, error = %Chain(&error), "a container's files cannot be read");
                }
            }
        }
        self.inner.network.sweep(&alive).await;
        Ok(())
    }

    /// The names of all directories, complete or not.
    async fn ids(&self) -> io::Result<Vec<ContainerId>> {
        let dirs = [self.inner.config.root.clone(), self.inner.config.run.clone()];
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

    async fn remove_remains(&self, id: &ContainerId) {
        let place = self.place(id);
        self.inner.network.detach(&id.0, &place.network()).await;
        if let Err(error) = blocking(move || place.remove()).await {
            warn!(container = %id, error = %Chain(&error), "remains of a container cannot be removed");
        }
    }

    /// Kills what a shim left that ended without a word.
    pub(super) async fn end_lost(&self, id: &ContainerId) {
        warn!(container = %id, "the shim was killed; ending what is left of its container");
        let group = self.group(id);
        let ended = blocking(move || group.kill().and_then(|()| group.remove())).await;
        if let Err(error) = ended {
            warn!(container = %id, error = %Chain(&error), "the cgroup cannot be emptied");
        }
    }

    pub(super) async fn find_all(&self) -> Vec<Found> {
        let ids = match self.ids().await {
            Ok(ids) => ids,
            Err(error) => {
                warn!(error = %Chain(&error), "the containers cannot be listed");
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for id in ids {
            let Some((tag, status)) = self.look(&id).await else { continue };
            let state = match status {
                Status::Absent => continue,
                Status::Running(state) => Seen::Running(state.running()),
                Status::Ended(exit) => Seen::Ended(exit),
                Status::Lost => {
                    self.end_lost(&id).await;
                    Seen::Ended(None)
                }
            };
            found.push(Found { id, tag, state });
        }
        found
    }

    async fn look(&self, id: &ContainerId) -> Option<(mesh_ports::runtime::Tag, Status)> {
        let (place, boot) = (self.place(id), self.inner.boot.clone());
        let looked = blocking(move || Ok((place.tag(), place.status(&boot)?))).await;
        match looked {
            Ok((tag, status)) => Some((tag?, status)),
            Err(error) => {
                warn!(container = %id, error = %Chain(&error), "a container's files cannot be read");
                None
            }
        }
    }

    /// Watches a run until it ends.
    pub(super) fn watch(&self, id: &ContainerId, state: &State) {
        let asked = self.slot(id).next_run();
        let (driver, id, state) = (self.clone(), id.clone(), state.clone());
        self.inner.tasks.spawn("container", async move {
            ended(state.shim.open()).await;
            driver.tell(id, &asked).await;
        });
    }

    async fn tell(&self, id: ContainerId, asked: &Arc<AtomicBool>) {
        let exit = self.exit_of(&id).await;
        if asked.load(Ordering::SeqCst) {
            return;
        }
        info!(container = %id, code = exit.as_ref().map(|exit| exit.code), "ended");
        // Nobody listens any more when the agent stops.
        let (Ok(()) | Err(_)) = self.inner.events.send(Ended { id, exit }).await;
    }

    /// How a run ended whose shim has ended; what was lost is ended for good.
    pub(super) async fn exit_of(&self, id: &ContainerId) -> Option<Exit> {
        match self.status(id).await {
            Ok(Status::Ended(exit)) => exit,
            Ok(Status::Lost) => {
                self.end_lost(id).await;
                None
            }
            Ok(Status::Absent | Status::Running(_)) | Err(_) => None,
        }
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
