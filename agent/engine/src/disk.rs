//! The disk: one commit after the other, records in the order in which they were asked for.
//!
//! The order matters. A record that is erased as void can become good again, when the removal of its author turns out to be void
//! itself; were the erasure to overtake the record's second coming, it would be acknowledged and not be there.

use std::sync::Arc;

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::id::{Hash, NodeId};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::Ticket;
use mesh_ports::store::{Change, Store, StoreError};
use mesh_telemetry::{Chain, Tasks};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

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

/// What became of something that was to be written.
#[derive(Debug)]
pub(crate) enum Written {
    /// Of records.
    Records { ticket: Ticket, outcome: Result<(), WriteError> },
    /// Of registers that were flushed together.
    Registers { promises: Vec<Promise>, outcome: Result<(), StoreError> },
}

/// What is said once a register is on the disk.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) ticket: Ticket,
    pub(crate) then: Vec<(NodeId, Message)>,
}

enum Write {
    /// Who is told of it; `None` when nobody waits.
    Records(Option<Ticket>, Vec<Change>),
    /// The key and the bytes of a register, and what hangs on it.
    Register((Vec<u8>, Vec<u8>), Promise),
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
        let write = Write::Records(Some(ticket), records::put(entries));
        if self.writes.try_send(write).is_err() {
            let (done, outcome) = (self.done.clone(), Err(WriteError::Behind));
            self.tasks.spawn("refusal", async move {
                drop(done.send(Written::Records { ticket, outcome }).await);
            });
        }
    }

    /// Stores a register, given as its key and its bytes. What waits together is flushed together. Where too much waits, nothing is said:
    /// the register comes again with the next question.
    pub(crate) fn put_register(&self, register: (Vec<u8>, Vec<u8>), promise: Promise) {
        if self.writes.try_send(Write::Register(register, promise)).is_err() {
            debug!("too much waits for the disk: a witness keeps silent");
        }
    }

    /// Forgets records.
    pub(crate) fn erase(&self, hashes: &[Hash]) {
        if self.writes.try_send(Write::Records(None, records::erase(hashes))).is_err() {
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
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, WRITES).await > 0 {
        let (mut records, mut registers, mut promises) = (Vec::new(), Vec::new(), Vec::new());
        for write in waiting.drain(..) {
            match write {
                Write::Records(ticket, changes) => records.push((ticket, changes)),
                Write::Register(register, promise) => {
                    registers.push(register);
                    promises.push(promise);
                }
            }
        }
        // Registers first, since somebody waits for a lease; between them and records the order does not matter.
        if !registers.is_empty() {
            let Some(outcome) = blocking(&store, |it| it.put_registers(registers)).await else {
                return;
            };
            if done.send(Written::Registers { promises, outcome }).await.is_err() {
                return;
            }
        }
        for (ticket, changes) in records {
            let Some(outcome) = blocking(&store, |it| it.commit(changes)).await else { return };
            if !tell(&done, ticket, outcome.map_err(WriteError::from)).await {
                return;
            }
        }
    }
}

/// Does something with the store that waits for the disk. `None` when the store broke down.
async fn blocking<S: Store, T: Send + 'static>(
    store: &Arc<S>,
    work: impl FnOnce(&S) -> T + Send + 'static,
) -> Option<T> {
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(done) => Some(done),
        Err(panic) => {
            error!(error = %Chain(&panic), "the store broke down");
            None
        }
    }
}

/// Says what became of records. False when nobody listens any more.
async fn tell(
    done: &mpsc::Sender<Written>,
    ticket: Option<Ticket>,
    outcome: Result<(), WriteError>,
) -> bool {
    match (ticket, outcome) {
        (Some(ticket), outcome) => done.send(Written::Records { ticket, outcome }).await.is_ok(),
        (None, Ok(())) => true,
        (None, Err(failure)) => {
            not_erased(&failure);
            true
        }
    }
}

/// At the next start they are judged and left out again.
fn not_erased(failure: &WriteError) {
    warn!(error = %Chain(failure), "void records stay on the disk");
}
