//! What is going to happen, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::Ticket;

use super::clock::Time;

/// Which container of a host: the slot, and the revision's id.
pub(crate) type Key = (SlotId, u64);

/// Something that is going to happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A message arrives.
    Arrive { from: usize, to: usize, message: Box<Message> },
    /// Another look at what an observer hears of the node that it watches.
    Pair { watcher: usize, watched: usize },
    /// The deadline of an agent, if it still is.
    Wake { host: usize, life: u64 },
    /// A round of gossip brings the facts of one node to another.
    Gossip { author: usize, reader: usize },
    /// Gossip's detector loses its patience, unless the author was heard since.
    GossipDead { author: usize, reader: usize, lost: u64 },
    /// A disk has written.
    Written { host: usize, life: u64, ticket: Ticket, entries: Vec<Entry>, full: bool },
    /// A worker is done with what it did.
    Worked { host: usize, life: u64, key: Key, job: u64 },
    /// A health check is over.
    Probed { host: usize, life: u64, key: Key },
    /// A register is on the disk.
    Flushed { host: usize, life: u64, ticket: Ticket, then: Vec<(NodeId, Message)> },
    /// A guard looks at the clocks.
    Guard { host: usize, key: Key },
    /// A container ends by itself.
    Ends { host: usize, serial: u64, key: Key, code: i32 },
    /// An image was fetched ahead of time.
    Fetched { host: usize, life: u64, digest: String },
    /// An agent takes others for members than before, perhaps.
    Admit { host: usize },
    /// An agent is started.
    Boot { host: usize, incident: u64 },
    /// A paused agent goes on.
    Resume { host: usize, life: u64 },
    /// A cut is mended.
    Mend { from: usize, to: usize, cut: u64 },
    /// What ails a host's runtime or disk is over.
    Recover { host: usize },
    /// The next stroke of fate.
    Stroke,
    /// The next act of an operator.
    Act,
    /// The checkers look at everything.
    Look,
    /// All is mended, and nothing bad happens from here on.
    Heal,
}

#[derive(Debug)]
struct Scheduled {
    at: Time,
    /// Events of one moment happen in the order in which they were scheduled.
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Scheduled>>,
    n_scheduled: u64,
}

impl Queue {
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.n_scheduled += 1;
        self.heap.push(Reverse(Scheduled { at, number: self.n_scheduled, event }));
    }

    /// The next event, unless it happens after `end`: then it keeps its turn.
    pub(crate) fn pop_until(&mut self, end: Time) -> Option<(Time, Event)> {
        let next = self.heap.peek_mut().filter(|next| next.0.at <= end)?;
        let Reverse(scheduled) = PeekMut::pop(next);
        Some((scheduled.at, scheduled.event))
    }
}
