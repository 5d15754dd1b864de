//! Anti-entropy: two nodes whose root hashes differ find out what the other lacks, and send it.
//!
//! ```text
//!   A: Digest(hash of each bucket) ──▶ B: Have(differing buckets, hashes) ──▶ A: Records(what B lacks), Want(what A lacks)
//!                                                                             B: Records(what A lacks)
//! ```
//! Nothing is remembered between the steps but when a peer was last asked, so a lost message costs one round.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::record::Entry;
use super::set::{BUCKETS, Catalogue};
use crate::id::{Hash, NodeId};
use crate::message::Message;
use crate::time::Instant;

/// The least time between two digests to one peer. Gossip repeats a differing root several times before an exchange has ended.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// The most records in one message; a record is at most 64 KiB, and a message 4 MiB.
const RECORDS_MAX: usize = 48;

/// The most bytes of records in one answer. Whoever lacks more asks again; and whoever asks for all, again and again, cannot
/// fill this node's memory.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// After how many hashes a node stops to say what it has: a megabyte of them. The buckets behind are compared once the ones before
/// agree.
const HASHES_MAX: usize = 1 << 15;

/// The exchange of records with peers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exchange {
    asked: BTreeMap<NodeId, Instant>,
    synced: BTreeSet<NodeId>,
}

impl Exchange {
    /// The peers with which this node has compared its catalogue since it started.
    pub(crate) const fn synced(&self) -> &BTreeSet<NodeId> {
        &self.synced
    }

    /// A peer's root hash is known: ask when it differs and the peer was not asked just now.
    pub(crate) fn on_root(
        &mut self,
        now: Instant,
        from: NodeId,
        root: u64,
        catalogue: &Catalogue,
    ) -> Option<Message> {
        if root == catalogue.root() {
            self.synced.insert(from);
            return None;
        }
        let recently = self.asked.get(&from).is_some_and(|at| now.since(*at) < ASK_PAUSE);
        if recently { None } else { Some(self.ask(now, from, catalogue)) }
    }

    /// The message that starts an exchange with `peer`.
    pub(crate) fn ask(&mut self, now: Instant, peer: NodeId, catalogue: &Catalogue) -> Message {
        self.asked.insert(peer, now);
        Message::Digest(catalogue.buckets().to_vec())
    }

    /// A peer's digest arrived.
    pub(crate) fn on_digest(theirs: &[u64], catalogue: &Catalogue) -> Message {
        let pairs = catalogue.buckets().iter().zip(theirs).zip(0_u32..);
        let buckets: Vec<u32> =
            pairs.filter(|((ours, theirs), _)| ours != theirs).map(|(_, index)| index).collect();
        let mut hashes = Vec::new();
        let mut named = Vec::new();
        for bucket in buckets {
            hashes.extend(catalogue.in_bucket(bucket));
            named.push(bucket);
            if hashes.len() >= HASHES_MAX {
                break;
            }
        }
        Message::Have { buckets: named, hashes }
    }

    /// What a peer has in the buckets that differ arrived.
    pub(crate) fn on_have(
        &mut self,
        from: NodeId,
        buckets: &[u32],
        theirs: &[Hash],
        catalogue: &Catalogue,
    ) -> Vec<Message> {
        self.synced.insert(from);
        let theirs: BTreeSet<Hash> = theirs.iter().copied().collect();
        // A bucket that is named often must not be read often.
        let buckets: BTreeSet<u32> = buckets.iter().copied().collect();
        let ours: BTreeSet<Hash> = buckets
            .into_iter()
            .take(BUCKETS)
            .flat_map(|index| catalogue.in_bucket(index))
            .collect();
        let mut messages = records(ours.difference(&theirs), catalogue);
        let wanted: Vec<Hash> = theirs.difference(&ours).copied().collect();
        if !wanted.is_empty() {
            messages.push(Message::Want(wanted));
        }
        messages
    }

    /// Messages that carry these records, none of them too long.
    pub(crate) fn batches(entries: &[Entry]) -> impl Iterator<Item = Message> + '_ {
        entries.chunks(RECORDS_MAX).map(|chunk| Message::Records(chunk.to_vec()))
    }

    /// A peer asks for records.
    pub(crate) fn on_want(wanted: &[Hash], catalogue: &Catalogue) -> Vec<Message> {
        let wanted: BTreeSet<&Hash> = wanted.iter().collect();
        records(wanted.into_iter(), catalogue)
    }
}

fn records<'a>(hashes: impl Iterator<Item = &'a Hash>, catalogue: &Catalogue) -> Vec<Message> {
    let mut room = ANSWER_LEN_MAX;
    let fits = |entry: &&Entry| {
        let left = room.checked_sub(entry.signed.bytes.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let entries = hashes.filter_map(|hash| catalogue.by_hash(hash)).take_while(fits);
    let entries: Vec<Entry> = entries.cloned().collect();
    Exchange::batches(&entries).collect()
}

#[cfg(test)]
mod tests;
