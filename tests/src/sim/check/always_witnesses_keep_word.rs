//! D2, D3, D7: no guard ends a container later than its lease allows, nothing is said before it is on disk, and witnesses are changed only
//! for such that can be asked.

use std::collections::BTreeSet;

use mesh_coordinator::id::SlotId;
use mesh_coordinator::lease::exclusive::{Answer, Fence, LeaseId, Refusal, Request, WitnessId};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::Node;

use super::World;
use crate::sim::clock::{SECOND, Time};

const LATE: &str = "D2: a guard kills K before the lease is over";
const UNSAID: &str = "D3: nothing is said before its flush";
const ALONE: &str = "D7: a change of witnesses leaves a majority that can be asked";
/// Whoever proposes a change has heard the new witnesses a moment ago: what changed since it cannot know.
const NEWS: Time = 5 * SECOND;

impl World {
    /// D2: what the guard is told leaves time for the kill, by the holder's own clocks.
    pub(crate) fn check_fence(&mut self, host: usize, slot: &SlotId, fence: Fence) {
        let lease = self.hosts[host].node().and_then(|node| node.lease(slot));
        let Some((token, timing, over)) = lease else { return };
        let dead = fence.kill + timing.kill;
        if token == fence.token && (dead.boot() > over.boot() || dead.raw() > over.raw()) {
            self.fail(LATE, format!("n{host} may run {slot:?} until {dead:?}, not after {over:?}"));
        }
    }

    /// Something about a lease leaves a host.
    pub(crate) fn check_said(&mut self, host: usize, message: &Message) {
        match message {
            Message::Word { answers, .. } => {
                for (lease, answer) in answers {
                    self.check_word(host, lease, answer);
                }
            }
            Message::Ask(requests) => {
                for (lease, request) in requests {
                    self.check_request(host, lease, request);
                }
            }
            Message::Free { .. }
            | Message::Twin { .. }
            | Message::Announce(_)
            | Message::Vote(_)
            | Message::Unvote(_)
            | Message::Probe { .. }
            | Message::Alive { .. }
            | Message::Yield { .. }
            | Message::Keep { .. }
            | Message::Records(_)
            | Message::Stored(_)
            | Message::Digest(_)
            | Message::Have { .. }
            | Message::Want(_) => {}
        }
    }

    /// D7: a change is looked at when it is proposed first.
    fn check_request(&mut self, host: usize, lease: &LeaseId, request: &Request) {
        let Request::Accept { value, .. } = request else { return };
        let Some(next) = &value.configuration.next else { return };
        let change = (lease.clone(), value.token, value.configuration.version);
        if self.checks.changes.insert(change) {
            self.coverage.changes += 1;
            self.check_change(host, lease, next);
        }
    }

    /// D3.
    fn check_word(&mut self, host: usize, lease: &LeaseId, answer: &Answer) {
        let kept = self.hosts[host].registers.get(lease);
        let is_kept = match answer {
            Answer::Promise { ballot, .. } => kept.is_some_and(|it| it.promised >= *ballot),
            Answer::Granted { key, .. } => {
                let accepted = kept.and_then(|it| it.accepted.as_ref());
                accepted.is_some_and(|accepted| accepted.key >= *key)
            }
            Answer::Released { token } => kept.is_some_and(|it| it.released >= Some(*token)),
            Answer::Refused { ballot, refusal: Refusal::Promised(promised), .. } => {
                let is_same = promised.counter == ballot.counter && promised != ballot;
                self.coverage.same_counters += u64::from(is_same);
                let is_former = promised.holder == ballot.holder
                    && promised.counter <= self.former_tokens(host, lease);
                is_former || kept.is_some_and(|it| it.promised >= *promised)
            }
            Answer::Refused { .. } | Answer::Busy { .. } | Answer::Located { .. } => true,
        };
        if !is_kept {
            self.fail(UNSAID, format!("n{host} says {answer:?} of {lease:?}, and has {kept:?}"));
        }
    }

    /// Below which no counter is promised, since an earlier lease may have used it: this comes from the catalogue, and no promise is told.
    fn former_tokens(&self, host: usize, lease: &LeaseId) -> u64 {
        let Some(state) = self.hosts[host].node().map(Node::state) else { return 0 };
        let app = state.apps.get(&lease.slot.app);
        app.map_or(0, |app| state.former_tokens(app, &lease.slot).0)
    }

    /// D7.
    fn check_change(&mut self, host: usize, lease: &LeaseId, next: &BTreeSet<WitnessId>) {
        let answers = |witness: &&WitnessId| {
            let Some(other) = self.index.get(&witness.node).copied() else { return false };
            let it = &self.hosts[other];
            it.is_awake() && it.store == witness.store && self.net.are_linked(host, other)
        };
        let n_there = next.iter().filter(answers).count();
        if self.checks.last_change + NEWS < self.now && n_there * 2 <= next.len() {
            self.fail(
                ALONE,
                format!("n{host} proposes {next:?} for {lease:?}, {n_there} of them answer"),
            );
        }
    }
}
