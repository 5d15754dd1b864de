//! Counters that several tasks raise.

use std::sync::atomic::{AtomicU64, Ordering};

use mesh_ports::gossip::Counters;

/// The live form of [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) datagrams_sent: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) datagrams_received: Count,
    pub(crate) datagrams_refused: Count,
    pub(crate) messages_undelivered: Count,
    pub(crate) facts_unpublished: Count,
    pub(crate) respawns: Count,
    pub(crate) digest_bytes: Count,
    pub(crate) twins: Count,
}

/// One number. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Replaces the number and returns the one before.
    pub(crate) fn set(&self, n: usize) -> u64 {
        self.0.swap(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed)
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            datagrams_sent: self.datagrams_sent.read(),
            bytes_sent: self.bytes_sent.read(),
            datagrams_refused: self.datagrams_refused.read(),
            facts_unpublished: self.facts_unpublished.read(),
            respawns: self.respawns.read(),
            datagrams_received: self.datagrams_received.read(),
            messages_undelivered: self.messages_undelivered.read(),
            digest_bytes: self.digest_bytes.read(),
            twins: self.twins.read(),
        }
    }
}
