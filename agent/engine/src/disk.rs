//! The disk: one commit after the other, in the order in which they were asked for.
//!
//! The order matters. A record that is erased as void can become good again, when the removal of its author turns out to be void
//! itself; were the erasure to overtake the record's second coming, it would be acknowledged and not be there.

use std::sync::Arc;

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::id::Hash;
use mesh_coordinator::node::Ticket;
use mesh_ports::store::{Change, Store, StoreError};
use mesh_telemetry::{Chain, Tasks};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::records;

/// Commits that wait: all submissions that may be under way, and as many records of peers.
const WRITES: usize = 512;

/// Why records are not on the disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Too many commits wait already. *Nothing was stored.*
    #[error("too much waits for the disk")]
    Behind,
    /// The disk said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of records.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) ticket: Ticket,
    pub(crate) outcome: Result<(), WriteError>,
}

struct Write {
    /// Who is told; `None` when nobody waits for it.
    ticket: Option<Ticket>,
    changes: Vec<Change>,
}

/// The way to the disk.
#[derive(Debug)]
pub(crate) struct Disk {
    writes: mpsc::Sender<Write>,
    done: mpsc::Sender<Written>,
    tasks: Tasks,
}

impl Disk {
    /// Starts the task that waits for the disk. What became of each write goes to `done`.
    pub(crate) fn start(
        store: Arc<impl Store>,
        done: mpsc::Sender<Written>,
        tasks: &Tasks,
    ) -> Self {
        let (writes, inbox) = mpsc::channel(WRITES);
        let (life, stopping) = (run(store, inbox, done.clone()), tasks.stopping().clone());
        tasks.spawn_to_end("disk", async move {
            // Without a disk the agent is worse than none (invariant I7).
            let stop_group = stopping.drop_guard();
            life.await;
            drop(stop_group);
        });
        Self { writes, done, tasks: tasks.clone() }
    }

    /// Stores records; the answer comes with `ticket`.
    pub(crate) fn put(&self, ticket: Ticket, entries: &[Entry]) {
        let write = Write { ticket: Some(ticket), changes: records::put(entries) };
        if self.writes.try_send(write).is_err() {
            let (done, outcome) = (self.done.clone(), Err(WriteError::Behind));
            self.tasks.spawn("refusal", async move {
                drop(done.send(Written { ticket, outcome }).await);
            });
        }
    }

    /// Forgets records.
    pub(crate) fn erase(&self, hashes: &[Hash]) {
        if self.writes.try_send(Write { ticket: None, changes: records::erase(hashes) }).is_err() {
            not_erased(&WriteError::Behind);
        }
    }
}

/// Ends when the engine does, after the commit that is under way.
async fn run(
    store: Arc<impl Store>,
    mut inbox: mpsc::Receiver<Write>,
    done: mpsc::Sender<Written>,
) {
    while let Some(Write { ticket, changes }) = inbox.recv().await {
        let store = Arc::clone(&store);
        let outcome = match tokio::task::spawn_blocking(move || store.commit(changes)).await {
            Ok(outcome) => outcome.map_err(WriteError::from),
            Err(panic) => return error!(error = %Chain(&panic), "the store broke down"),
        };
        match (ticket, outcome) {
            (Some(ticket), outcome) => {
                if done.send(Written { ticket, outcome }).await.is_err() {
                    return;
                }
            }
            (None, Ok(())) => {}
            (None, Err(failure)) => not_erased(&failure),
        }
    }
}

/// At the next start they are judged and left out again.
fn not_erased(failure: &WriteError) {
    warn!(error = %Chain(failure), "void records stay on the disk");
}
