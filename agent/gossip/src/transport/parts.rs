//! Puts messages together from their parts, within bounds of memory.
//!
//! No clock: a message that stays incomplete is dropped when its sender has moved on, or when others need the room.

use std::collections::BTreeMap;

use mesh_coordinator::id::NodeId;

use super::packet::MESSAGE_LEN_MAX;

/// Incomplete messages of one sender. Packets of a message are sent back to back, so that a third one means a loss.
const OF_SENDER_MAX: usize = 3;

/// Incomplete messages in all: at most 8 MiB.
const TOTAL_MAX: usize = 128;

/// A message of which some parts are here.
#[derive(Debug)]
struct Partial {
    /// Rises with every message begun, so that the oldest can be found.
    begun: u64,
    parts: Vec<Option<Vec<u8>>>,
    n_missing: usize,
}

/// All incomplete messages. The number of a message is the counter of its first packet.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    partials: BTreeMap<(NodeId, u64), Partial>,
    n_begun: u64,
}

impl Parts {
    /// Adds part `index` of `of` of a message; returns the message when it is whole. `None` also for a part that fits nothing.
    pub(crate) fn add(
        &mut self,
        message: (NodeId, u64),
        (index, of): (u8, u8),
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        if of == 1 {
            return Some(payload.to_vec());
        }
        if !self.partials.contains_key(&message) {
            self.begin(message, usize::from(of));
        }
        let partial = self.partials.get_mut(&message)?;
        if partial.parts.len() != usize::from(of) {
            return None;
        }
        let place = partial.parts.get_mut(usize::from(index))?;
        if place.is_none() {
            *place = Some(payload.to_vec());
            partial.n_missing = partial.n_missing.saturating_sub(1);
        }
        if partial.n_missing > 0 {
            return None;
        }
        let whole = self.partials.remove(&message)?.parts.into_iter().flatten().flatten();
        let whole: Vec<u8> = whole.collect();
        (whole.len() <= MESSAGE_LEN_MAX).then_some(whole)
    }

    /// Drops what `sender` began: it lives anew and counts anew.
    pub(crate) fn forget(&mut self, sender: NodeId) {
        self.partials.retain(|(node, _), _| *node != sender);
    }

    fn begin(&mut self, message: (NodeId, u64), n_parts: usize) {
        let (sender, _) = message;
        let of_sender = self.partials.range((sender, 0)..=(sender, u64::MAX));
        let of_sender: Vec<u64> = of_sender.map(|((_, number), _)| *number).collect();
        if let Some(oldest) = of_sender.first().filter(|_| of_sender.len() >= OF_SENDER_MAX) {
            self.partials.remove(&(sender, *oldest));
        }
        if self.partials.len() >= TOTAL_MAX {
            let oldest = self.partials.iter().min_by_key(|(_, partial)| partial.begun);
            if let Some(oldest) = oldest.map(|(message, _)| *message) {
                self.partials.remove(&oldest);
            }
        }
        self.n_begun = self.n_begun.saturating_add(1);
        let parts = vec![None; n_parts];
        self.partials.insert(message, Partial { begun: self.n_begun, parts, n_missing: n_parts });
    }
}

#[cfg(test)]
mod tests {
    //! Whole messages come out, and memory stays bounded.

    use mesh_coordinator::id::{NodeId, PublicKey};

    use super::{OF_SENDER_MAX, Parts, TOTAL_MAX};

    fn node(n: u8) -> NodeId {
        NodeId::of(&PublicKey([n; 32]))
    }

    #[test]
    fn parts_in_any_order_make_the_message() {
        let mut parts = Parts::default();
        assert_eq!(parts.add((node(1), 10), (2, 3), b"c"), None);
        assert_eq!(parts.add((node(1), 10), (0, 3), b"a"), None);
        assert_eq!(parts.add((node(2), 10), (1, 3), b"x"), None);
        assert_eq!(parts.add((node(1), 10), (1, 3), b"b"), Some(b"abc".to_vec()));
        assert_eq!(parts.add((node(1), 20), (0, 1), b"one"), Some(b"one".to_vec()));
    }

    #[test]
    fn parts_that_contradict_each_other_are_dropped() {
        let mut parts = Parts::default();
        assert_eq!(parts.add((node(1), 10), (0, 2), b"a"), None);
        assert_eq!(parts.add((node(1), 10), (1, 3), b"b"), None);
        assert_eq!(parts.add((node(1), 10), (0, 2), b"again"), None);
        assert_eq!(parts.add((node(1), 10), (1, 2), b"b"), Some(b"ab".to_vec()));
    }

    #[test]
    fn lost_parts_hold_no_memory_for_long() {
        let mut parts = Parts::default();
        for number in 0..100 {
            assert_eq!(parts.add((node(1), number), (0, 2), b"a"), None);
        }
        assert_eq!(parts.partials.len(), OF_SENDER_MAX);
        for n in 0..=255 {
            assert_eq!(parts.add((node(n), 0), (0, 2), b"a"), None);
        }
        assert!(parts.partials.len() <= TOTAL_MAX);
        assert_eq!(parts.add((node(255), 0), (1, 2), b"b"), Some(b"ab".to_vec()));
    }
}
