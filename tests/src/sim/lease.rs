//! What exclusive slots need of a host: guards that outlive the agent, and a disk that keeps a witness's word.

use mesh_coordinator::id::{NodeId, Revision, SlotId};
use mesh_coordinator::lease::exclusive::{Fence, LeaseId, Register, StoreId, Timing};
use mesh_coordinator::message::Message;
use mesh_coordinator::node::{Input, Ticket};
use mesh_coordinator::rules::Rule;
use mesh_coordinator::spec::Guarantee;

use super::World;
use super::clock::{MILLI, SECOND, Time};
use super::host::{Container, Process};
use super::queue::{Event, Key};

/// The least that a slow disk takes for a flush, and what is added at random.
const SLOW_FLUSH: [Time; 2] = [30 * MILLI, 5 * SECOND];
/// A kill that nobody slows down.
const KILL: Time = 50_000;

impl World {
    /// An agent tells the guard of a container until when it may run.
    pub(crate) fn fence(&mut self, host: usize, slot: &SlotId, revision: Revision, fence: Fence) {
        let key = (slot.clone(), revision.id);
        let it = &mut self.hosts[host];
        let container =
            it.containers.entry(key.clone()).or_insert_with(|| Container::new(revision));
        // Neither back, nor to another lease while something runs by this one.
        let holds = container.fence.filter(|_| container.process == Process::Running);
        let is_later = |before: Fence| {
            before.token == fence.token && fence.kill.later(before.kill) == fence.kill
        };
        if !holds.is_none_or(is_later) {
            return;
        }
        container.fence = Some(fence);
        let at = it.clock.global_reading(fence.kill).max(self.now + 1);
        self.queue.at(at, Event::Guard { host, key });
    }

    /// A guard looks at the clocks, and kills if it is time. That takes anything up to K.
    pub(crate) fn guard(&mut self, host: usize, key: &Key) {
        let it = &self.hosts[host];
        let Some(container) = it.containers.get(key) else { return };
        let Some(fence) = container.fence else { return };
        let runs = container.process == Process::Running;
        if !runs || !it.clock.reading(self.now).may_be_past(fence.kill) {
            return;
        }
        let serial = container.serial;
        let slow = self.rng.chance(100).then(|| self.kill_max(host, key));
        let wait = self.rng.below(slow.unwrap_or(KILL));
        self.coverage.fenced += 1;
        self.blame(host);
        self.queue.at(self.now + wait, Event::Ends { host, serial, key: key.clone(), code: 137 });
    }

    /// K, by the clock of the host, which may be fast.
    pub(crate) fn kill_max(&self, host: usize, key: &Key) -> Time {
        let spec = self.definition(host, key).map(|spec| spec.guarantee);
        let ttl = match spec {
            Some(Guarantee::Exclusive { ttl }) => ttl,
            Some(Guarantee::Available) | None => Timing::TTL_MIN,
        };
        let kill = Timing::of(ttl).map_or(0, |timing| timing.kill.as_micros() as u64);
        kill * 98 / 100
    }

    /// The process of a container begins, unless its guard forbids it.
    pub(crate) fn begin(&mut self, host: usize, key: &Key, serial: u64, checked: bool) -> bool {
        let it = &mut self.hosts[host];
        let Some(container) = it.containers.get_mut(key) else { return false };
        let over = |fence: Fence| it.clock.reading(self.now).may_be_past(fence.kill);
        if container.fence.is_some_and(over) {
            return false;
        }
        container.begin(serial, checked);
        self.check_alone(host, key);
        true
    }

    /// How long a disk takes for one flush.
    pub(crate) fn flush(&mut self, host: usize) -> Time {
        if self.hosts[host].disk_slow {
            return SLOW_FLUSH[0] + self.rng.below(SLOW_FLUSH[1]);
        }
        let slow = if self.rng.chance(20) { 500 * MILLI } else { 0 };
        self.spread(self.plan.flush) + slow
    }

    /// A witness writes.
    pub(crate) fn persist(
        &mut self,
        host: usize,
        (ticket, lease, register): (Ticket, LeaseId, Register),
        then: Vec<(NodeId, Message)>,
    ) {
        let wait = self.flush(host);
        let (now, life) = (self.now, self.hosts[host].life);
        let it = &mut self.hosts[host];
        it.unflushed.push_back((ticket, lease, register));
        let at = it.flushed_at(now, wait);
        self.queue.at(at, Event::Flushed { host, life, ticket, then });
    }

    /// It is on the disk, unless the agent died meanwhile.
    pub(crate) fn flushed(
        &mut self,
        (host, life): (usize, u64),
        ticket: Ticket,
        then: Vec<(NodeId, Message)>,
    ) {
        let full = self.hosts[host].disk_full;
        if self.hosts[host].agent_of(life).is_none() {
            return;
        }
        let Some((written, lease, register)) = self.hosts[host].unflushed.pop_front() else {
            return;
        };
        assert_eq!(written, ticket, "a disk writes in order");
        if self.hosts[host].disk_bad {
            if self.rng.chance(500) {
                self.hosts[host].registers.insert(lease, register);
            }
            let reason = "input/output error".to_owned();
            return self.input(host, Input::PersistFailed { reason });
        }
        if full {
            // Nothing was written, and nothing is said. What else may go wrong with a disk leaves nobody the wiser.
            if self.rng.chance(250) {
                let reason = "input/output error".to_owned();
                self.input(host, Input::PersistFailed { reason });
            }
            return;
        }
        self.hosts[host].registers.insert(lease, register);
        let me = self.hosts[host].id;
        for (to, message) in then {
            self.check_said(host, &message);
            if to == me {
                self.input(host, Input::Said { from: me, message });
            } else if let Some(to) = self.index.get(&to).copied() {
                self.send(host, to, message);
            }
        }
        self.input(host, Input::Persisted { ticket });
    }

    /// The store is another one, in which nothing was promised.
    pub(crate) fn lose_registers(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        it.registers.clear();
        if self.rules.hold(Rule::OtherStore) {
            it.store = StoreId(u128::from(self.rng.next_u64()) << 64);
        }
    }

    /// The agent dies while its disk writes: some of it may have come there.
    pub(crate) fn lose_writes(&mut self, host: usize) {
        let unflushed = std::mem::take(&mut self.hosts[host].unflushed);
        let kept =
            if unflushed.is_empty() { 0 } else { self.rng.below(unflushed.len() as u64 + 1) };
        let kept = unflushed.into_iter().take(kept as usize);
        self.hosts[host].registers.extend(kept.map(|(_, lease, register)| (lease, register)));
        self.hosts[host].disk_free = [0; 2];
    }
}
