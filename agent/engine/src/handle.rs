//! The remote control of the engine's task.

use mesh_coordinator::catalogue::{Entry, RecordKey};
use mesh_coordinator::event::Event;
use mesh_coordinator::id::SlotId;
use mesh_coordinator::view::{LeaseQuery, LeaseView, Overview, Why};
use mesh_ports::control::{Control, LocalReplica, SubmitError, Submitted};
use std::net::SocketAddr;
use tokio::sync::{mpsc, oneshot};

/// A question or order to the engine's task.
#[derive(Debug)]
pub(crate) enum Command {
    Backend { slot: SlotId, target: u16, reply: oneshot::Sender<Option<SocketAddr>> },
    Events { tail: usize, follow: bool, reply: oneshot::Sender<mpsc::Receiver<Event>> },
    Leases { query: LeaseQuery, reply: oneshot::Sender<Vec<LeaseView>> },
    Overview { reply: oneshot::Sender<Overview> },
    Record { key: RecordKey, reply: oneshot::Sender<Option<Entry>> },
    Records { reply: oneshot::Sender<Vec<Entry>> },
    Replica { slot: SlotId, reply: oneshot::Sender<Option<LocalReplica>> },
    Restarting { reply: oneshot::Sender<()> },
    Submit { entries: Vec<Entry>, reply: oneshot::Sender<Result<Submitted, SubmitError>> },
    Why { slot: SlotId, reply: oneshot::Sender<Option<Why>> },
}

/// The remote control of the engine's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Tells the other nodes that this agent is about to be restarted, so that nobody takes its replicas over meanwhile.
    pub async fn announce_restart(&self) {
        self.ask(|reply| Command::Restarting { reply }).await;
    }

    /// `None` when the engine has stopped.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Control for Handle {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Submitted, SubmitError> {
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send(Command::Submit { entries, reply }) {
            Ok(()) => answer.await.unwrap_or(Err(SubmitError::Stopping)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SubmitError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SubmitError::Stopping),
        }
    }

    async fn record(&self, key: RecordKey) -> Option<Entry> {
        self.ask(|reply| Command::Record { key, reply }).await.flatten()
    }

    async fn records(&self) -> Vec<Entry> {
        self.ask(|reply| Command::Records { reply }).await.unwrap_or_default()
    }

    async fn overview(&self) -> Option<Overview> {
        self.ask(|reply| Command::Overview { reply }).await
    }

    async fn why(&self, slot: SlotId) -> Option<Why> {
        self.ask(|reply| Command::Why { slot, reply }).await.flatten()
    }

    async fn leases(&self, query: LeaseQuery) -> Vec<LeaseView> {
        self.ask(|reply| Command::Leases { query, reply }).await.unwrap_or_default()
    }

    async fn events(&self, tail: usize, follow: bool) -> mpsc::Receiver<Event> {
        let events = self.ask(|reply| Command::Events { tail, follow, reply }).await;
        events.unwrap_or_else(|| mpsc::channel(1).1)
    }

    async fn replica(&self, slot: &SlotId) -> Option<LocalReplica> {
        let slot = slot.clone();
        self.ask(|reply| Command::Replica { slot, reply }).await.flatten()
    }

    async fn backend(&self, slot: &SlotId, target: u16) -> Option<SocketAddr> {
        let slot = slot.clone();
        self.ask(|reply| Command::Backend { slot, target, reply }).await.flatten()
    }
}
