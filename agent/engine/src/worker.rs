//! The worker of one container: does what the coordinator wants, one thing after the other.
//!
//! Starts can take long (an image may have to be fetched) and a stop may come meanwhile: it ends the wait, and the worker goes
//! on with it. Everything that comes back is an [`Observed`], so the engine's task never waits.

use std::net::Ipv4Addr;
use std::sync::Arc;

use mesh_coordinator::id::{Revision, SlotId};
use mesh_coordinator::lease::exclusive::Fence;
use mesh_coordinator::spec::{HealthTest, StopSignal};
use mesh_coordinator::workload::Observed;
use mesh_ports::peer::Blobs;
use mesh_ports::runtime::{
    Container, ContainerError, ContainerId, Health, Images, Runtime, StartError,
};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::fetch::Fetcher;

/// Jobs that wait for one container: a start, a stop and a removal at the most, and room for repeats.
const JOBS: usize = 8;

/// The pause between two attempts to end what runs by a lease.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of a container.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) slot: SlotId,
    pub(crate) revision: Revision,
    pub(crate) observed: Observed,
    /// Its address, when it was started.
    pub(crate) address: Option<Ipv4Addr>,
}

/// Which container a worker has, and whose replica it is.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) id: ContainerId,
    pub(crate) slot: SlotId,
    pub(crate) revision: Revision,
}

impl Replica {
    fn report(&self, observed: Observed, address: Option<Ipv4Addr>) -> Report {
        Report { slot: self.slot.clone(), revision: self.revision, observed, address }
    }
}

/// What a worker does.
#[derive(Debug)]
pub(crate) enum Job {
    Start(Box<Container>),
    Stop { signal: StopSignal, grace: Duration },
    Remove,
}

/// The way to the worker of one container.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    /// Ends a start that still waits for its image.
    hurry: CancellationToken,
}

impl Worker {
    /// Whether it takes no jobs any more: it removed its container, or broke down.
    pub(crate) fn has_ended(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Queues a job. False when the worker has ended or is hopelessly behind.
    pub(crate) fn push(&self, job: Job) -> bool {
        if !matches!(job, Job::Start(_)) {
            self.hurry.cancel();
        }
        self.jobs.try_send(job).is_ok()
    }
}

/// What workers work with.
#[derive(Debug)]
pub(crate) struct Tools<R, I, B> {
    pub(crate) runtime: Arc<R>,
    pub(crate) fetcher: Arc<Fetcher<I, B>>,
    pub(crate) reports: mpsc::Sender<Report>,
}

impl<R, I, B> Clone for Tools<R, I, B> {
    fn clone(&self) -> Self {
        Self {
            runtime: Arc::clone(&self.runtime),
            fetcher: Arc::clone(&self.fetcher),
            reports: self.reports.clone(),
        }
    }
}

impl<R: Runtime, I: Images, B: Blobs> Tools<R, I, B> {
    /// A worker for a container, and the future that is its life.
    pub(crate) fn worker(
        &self,
        replica: Replica,
        fence: watch::Receiver<Option<Fence>>,
    ) -> (Worker, impl Future<Output = ()> + Send + use<R, I, B>) {
        let (jobs, inbox) = mpsc::channel(JOBS);
        let hurry = CancellationToken::new();
        let life = self.clone().run(replica, inbox, (hurry.clone(), fence));
        (Worker { jobs, hurry }, life)
    }

    async fn run(
        self,
        replica: Replica,
        mut inbox: mpsc::Receiver<Job>,
        (hurry, fence): (CancellationToken, watch::Receiver<Option<Fence>>),
    ) {
        while let Some(job) = inbox.recv().await {
            let is_last = matches!(job, Job::Remove);
            let (observed, address) = match job {
                Job::Start(container) => {
                    let started = self.start(*container, &hurry, &fence).await;
                    if matches!(started.0, Observed::StartFailed { .. }) {
                        self.see_gone(&replica, &fence).await;
                    }
                    started
                }
                Job::Stop { signal, grace } => {
                    self.stop(&replica, (signal, grace), &fence).await;
                    (Observed::Stopped, None)
                }
                Job::Remove => {
                    self.see_gone(&replica, &fence).await;
                    (self.remove(&replica.id).await, None)
                }
            };
            if self.reports.send(replica.report(observed, address)).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn start(
        &self,
        mut container: Container,
        hurry: &CancellationToken,
        fence: &watch::Receiver<Option<Fence>>,
    ) -> (Observed, Option<Ipv4Addr>) {
        let fetched = tokio::select! {
            biased;
            () = hurry.cancelled() => {
                let reason = "stopped before it was started".to_owned();
                return (Observed::StartFailed { reason, transient: true }, None);
            }
            fetched = self.fetcher.ensure(&container.template.image.digest) => fetched,
        };
        if let Err(error) = fetched {
            return (failed(&error, error.is_transient()), None);
        }
        // The lease was renewed while the image came.
        container.fence = *fence.borrow();
        match self.runtime.start(&container).await {
            Ok(running) => (Observed::Started, Some(running.address)),
            Err(error) => {
                // An image that went away since a moment ago is fetched again by the next try.
                let fetchable = matches!(error, StartError::ImageMissing(_));
                (failed(&error, fetchable || error.is_transient()), None)
            }
        }
    }

    /// Whatever becomes of a slot that runs by a lease, nothing of what was there may be left first.
    async fn see_gone(&self, replica: &Replica, fence: &watch::Receiver<Option<Fence>>) {
        if fence.borrow().is_some() {
            self.stop(replica, (StopSignal::TERM, Duration::ZERO), fence).await;
        }
    }

    /// Stops it. What runs by a lease counts as stopped only when no process of it is left, however long that takes: another node starts
    /// it then. Anything else the removal tries again.
    async fn stop(
        &self,
        replica: &Replica,
        (signal, grace): (StopSignal, Duration),
        fence: &watch::Receiver<Option<Fence>>,
    ) {
        let (id, token) = (&replica.id, fence.borrow().map(|fence| fence.token));
        let mut told = None;
        while let Err(error) = self.runtime.stop(id, signal, grace).await {
            let is_gone =
                matches!(error, ContainerError::Unknown(_) | ContainerError::NotRunning(_));
            match (&error, token) {
                (ContainerError::Stuck { .. }, Some(token)) => {
                    let reason = error.to_string();
                    if told.as_ref() != Some(&reason) {
                        warn!(container = %id, %token, reason, "processes survive being killed");
                        let observed = Observed::Stuck { reason: reason.clone() };
                        // A closed channel means that the agent stops.
                        drop(self.reports.send(replica.report(observed, None)).await);
                        told = Some(reason);
                    }
                }
                (_, None | Some(_)) => {
                    warn!(container = %id, error = %mesh_telemetry::Chain(&error), "stopping did not go as it should");
                }
            }
            if is_gone || token.is_none() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
        if told.is_some() {
            info!(container = %id, "what survived being killed is gone");
        }
    }

    async fn remove(&self, id: &ContainerId) -> Observed {
        if let Err(error) = self.runtime.remove(id).await {
            warn!(container = %id, error = %mesh_telemetry::Chain(&error), "a container could not be removed whole");
        }
        Observed::Removed
    }

    /// Runs one health check.
    pub(crate) async fn probe(self, replica: Replica, test: HealthTest, timeout: Duration) {
        let failure = match self.runtime.probe(&replica.id, &test, timeout).await {
            Health::Passed => None,
            Health::Failed(why) => Some(why),
            Health::TimedOut => Some(format!("no answer within {timeout:?}")),
        };
        // A closed channel means that the agent stops.
        drop(self.reports.send(replica.report(Observed::Probed { failure }, None)).await);
    }
}

fn failed(error: &dyn std::error::Error, transient: bool) -> Observed {
    Observed::StartFailed { reason: mesh_telemetry::Chain(error).to_string(), transient }
}
