//! Named, tracked tasks in groups that stop together.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span, warn};

/// A group of tasks that stop together. Cheap to clone; clones are the same group.
#[derive(Debug, Clone)]
pub struct Tasks {
    group: &'static str,
    stopping: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// An empty group.
    #[must_use]
    pub fn new(group: &'static str) -> Self {
        Self { group, stopping: CancellationToken::new(), tracker: TaskTracker::new() }
    }

    /// Runs `future` until it ends by itself or the group stops: then it is dropped at its next await.
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        self.spawn_to_end(task, async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = future => {}
            }
        });
    }

    /// Runs `future` to its end; it watches [`Tasks::stopping`] itself where it must finish something.
    pub fn spawn_to_end<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = info_span!(parent: None, "task", group = self.group, task);
        drop(self.tracker.spawn(future.instrument(span)));
    }

    /// Runs a task that must not end: when it does, the whole group stops (invariant I7).
    pub fn spawn_vital<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        let group = self.group;
        self.spawn_to_end(task, async move {
            // Dropped also by a panic, which must stop the group just the same.
            let stop_group = stopping.clone().drop_guard();
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = future => warn!(group, task, "a vital task ended"),
            }
            drop(stop_group);
        });
    }

    /// Cancelled when the group stops.
    #[must_use]
    pub const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Stops the group and waits for its tasks, at most for `grace`. Returns how many were still running then.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.stopping.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(grace, self.tracker.wait()).await;
        let left = if ended.is_ok() { 0 } else { self.tracker.len() };
        if left > 0 {
            warn!(group = self.group, left, "tasks outlived their grace");
        }
        left
    }
}

/// Prints an error with all its causes, separated by colons.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Groups stop together and are waited for.

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::Tasks;

    #[tokio::test]
    async fn the_end_of_a_vital_task_stops_the_group() {
        let tasks = Tasks::new("test");
        tasks.spawn_vital("short", async {});
        tasks.stopping().cancelled().await;
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn stopping_waits_for_tasks_that_finish_their_work() {
        let tasks = Tasks::new("test");
        let done = Arc::new(AtomicBool::new(false));
        let (seen, stopping) = (Arc::clone(&done), tasks.stopping().clone());
        tasks.spawn_to_end("careful", async move {
            stopping.cancelled().await;
            tokio::task::yield_now().await;
            seen.store(true, Ordering::SeqCst);
        });
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
        assert!(done.load(Ordering::SeqCst));
    }
}
