//! What is counted for the scenes of large meshes: messages and bytes, and how starts and refilled slots come about.

use std::collections::{BTreeMap, BTreeSet};

use mesh_coordinator::id::SlotId;
use mesh_coordinator::message::Message;

use super::clock::Time;

/// Tells how many bytes a message has on the wire. The simulator knows no wire, so whoever asks for bytes brings one.
pub type Gauge = fn(&Message) -> u64;

/// Messages, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub messages: u64,
    /// Their bytes by the [`Gauge`]; zero without one.
    pub bytes: u64,
}

impl Traffic {
    /// What came on top of `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }
}

/// What a host was asked to start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Starts {
    pub(crate) asked: u64,
    under_way: usize,
    /// The most of them at one moment.
    pub(crate) max: usize,
}

/// All that is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) gauge: Option<Gauge>,
    /// All messages.
    pub(crate) sent: Traffic,
    /// Those about leases.
    pub(crate) leases: Traffic,
    /// The slots of which a ready replica is waited for.
    pub(crate) awaited: BTreeSet<SlotId>,
    /// When each of them got one.
    pub(crate) refilled: Vec<Time>,
    /// Starts, by host.
    pub(crate) starts: BTreeMap<usize, Starts>,
    starting: usize,
    /// The most starts under way at one moment.
    pub(crate) starting_max: usize,
}

impl Tally {
    pub(crate) fn sends(&mut self, message: &Message) {
        let bytes = self.gauge.map_or(0, |gauge| gauge(message));
        let is_about_leases =
            matches!(message, Message::Ask(_) | Message::Word { .. } | Message::Free { .. });
        let sums = [Some(&mut self.sent), is_about_leases.then_some(&mut self.leases)];
        for sum in sums.into_iter().flatten() {
            sum.messages += 1;
            sum.bytes += bytes;
        }
    }

    /// A replica is ready.
    pub(crate) fn ready(&mut self, now: Time, slot: &SlotId) {
        if !self.awaited.is_empty() && self.awaited.remove(slot) {
            self.refilled.push(now);
        }
    }

    pub(crate) fn starts(&mut self, host: usize) {
        let starts = self.starts.entry(host).or_default();
        starts.asked += 1;
        starts.under_way += 1;
        starts.max = starts.max.max(starts.under_way);
        self.starting += 1;
        self.starting_max = self.starting_max.max(self.starting);
    }

    /// So many starts of a host are over, one way or another.
    pub(crate) fn started(&mut self, host: usize, count: usize) {
        let starts = self.starts.entry(host).or_default();
        starts.under_way = starts.under_way.saturating_sub(count);
        self.starting = self.starting.saturating_sub(count);
    }

    /// Forgets the starts of before.
    pub(crate) fn count_starts_anew(&mut self) {
        self.starts.values_mut().for_each(|it| (it.asked, it.max) = (0, it.under_way));
        self.starting_max = self.starting;
    }
}
