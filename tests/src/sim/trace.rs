//! A fingerprint of everything that went into the nodes and came out of them.

use std::hash::{Hash as _, Hasher};

use mesh_coordinator::fact::{Claim, Fact};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::{Input, Output};
use mesh_coordinator::prng::mix;
use mesh_coordinator::workload::Observed;

/// Folds what it is given into 64 bits. Not the standard library's hasher, whose result may change between releases.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trace(u64);

impl Hasher for Trace {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, i: u64) {
        self.0 = mix(self.0 ^ i).wrapping_add(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u32(&mut self, i: u32) {
        self.write_u64(u64::from(i));
    }

    fn write_usize(&mut self, i: usize) {
        self.write_u64(i as u64);
    }
}

impl Trace {
    pub(crate) fn input(&mut self, at: u64, host: usize, input: &Input) {
        self.write_u64(at);
        self.write_usize(host);
        std::mem::discriminant(input).hash(self);
        match input {
            Input::Began | Input::Restarting | Input::Twin | Input::Wake => {}
            Input::Clock(finding) => {
                (finding.off_ms, finding.doubt).hash(self);
            }
            Input::Found { slot, revision, ended, fence } => {
                (slot, revision, ended, fence).hash(self);
            }
            Input::Persisted { ticket } => ticket.hash(self),
            Input::PersistFailed { reason } => reason.hash(self),
            Input::GossipDown { node, incarnation }
            | Input::GossipUp { node, incarnation }
            | Input::Heard { node, incarnation } => (node, incarnation).hash(self),
            Input::Observed { slot, revision, observed } => {
                (slot, revision).hash(self);
                self.observed(observed);
            }
            Input::Published { node, incarnation, fact } => {
                (node, incarnation).hash(self);
                self.fact(fact);
            }
            Input::Refused { node } => node.hash(self),
            Input::Said { from, message } => {
                from.hash(self);
                self.message(message);
            }
            Input::Stored { ticket } | Input::StoreFailed { ticket, .. } => ticket.hash(self),
            Input::Submit { ticket, entries } => {
                ticket.hash(self);
                entries.iter().for_each(|entry| entry.hash.hash(self));
            }
            Input::Withdrawn { node, incarnation, key } => (node, incarnation, key).hash(self),
        }
    }

    pub(crate) fn output(&mut self, output: &Output) {
        std::mem::discriminant(output).hash(self);
        match output {
            Output::Changed => {}
            Output::Do { slot, revision, job } => {
                (slot, revision).hash(self);
                std::mem::discriminant(job).hash(self);
            }
            Output::Erase(hashes) => hashes.hash(self),
            Output::Event(event) => event.text.hash(self),
            Output::Fence { slot, revision, fence } => (slot, revision, fence).hash(self),
            Output::Persist { ticket, lease, register, then } => {
                (ticket, lease, register).hash(self);
                then.iter().for_each(|(to, _)| to.hash(self));
            }
            Output::Prefetch(digest) => digest.hash(self),
            Output::Publish(fact) => self.fact(fact),
            Output::Refused { from, author, .. } => (from, author).hash(self),
            Output::Send { to, message } => {
                to.hash(self);
                self.message(message);
            }
            Output::Store { ticket, entries } => {
                ticket.hash(self);
                entries.iter().for_each(|entry| entry.hash.hash(self));
            }
            Output::Submitted { ticket, stored_on, .. } => (ticket, stored_on).hash(self),
            Output::Watch(nodes) => nodes.hash(self),
            Output::Withdraw(key) => key.hash(self),
        }
    }

    fn observed(&mut self, observed: &Observed) {
        std::mem::discriminant(observed).hash(self);
        match observed {
            Observed::Probed { failure } => failure.hash(self),
            Observed::Ended { code, oom } => (code, oom).hash(self),
            Observed::StartFailed { transient, .. } => transient.hash(self),
            Observed::Started | Observed::Stopped | Observed::Stuck { .. } | Observed::Removed => {}
        }
    }

    fn fact(&mut self, fact: &Fact) {
        fact.key().hash(self);
        match fact {
            Fact::Claim(claim) => self.claim(claim),
            Fact::Root(root) => root.hash(self),
            Fact::Node(facts) => facts.restarting.hash(self),
            Fact::Vote(vote) => (vote.incarnation, vote.suspicion).hash(self),
        }
    }

    fn claim(&mut self, claim: &Claim) {
        (&claim.slot, claim.revision, claim.phase, claim.yielding).hash(self);
        (claim.crowding, claim.failover_ms, claim.restarts, claim.seq).hash(self);
    }

    fn message(&mut self, message: &Message) {
        std::mem::discriminant(message).hash(self);
        match message {
            Message::Announce(claim) => self.claim(claim),
            Message::Ask(requests) => requests.hash(self),
            Message::Twin { node, boot } => (node, boot).hash(self),
            Message::Free { slot, token } => (slot, token).hash(self),
            Message::Word { store, answers } => (store, answers).hash(self),
            Message::Vote(vote) | Message::Unvote(vote) => {
                (vote.node, vote.incarnation, vote.suspicion).hash(self);
            }
            Message::Probe { nonce } => nonce.hash(self),
            Message::Alive { nonce, incarnation } => (nonce, incarnation).hash(self),
            Message::Yield { slot, revision, nonce } => (slot, revision, nonce).hash(self),
            Message::Keep { slot, nonce } => (slot, nonce).hash(self),
            Message::Records(entries) => entries.iter().for_each(|entry| entry.hash.hash(self)),
            Message::Stored(hashes) | Message::Want(hashes) => hashes.hash(self),
            Message::Digest(buckets) => buckets.hash(self),
            Message::Have { buckets, hashes } => (buckets, hashes).hash(self),
        }
    }
}
