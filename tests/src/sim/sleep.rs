//! Hosts that sleep: what happens on them waits, and of their clocks only the time since boot goes on. And those whose clocks stand still.

use super::World;
use super::clock::{MILLI, Time};
use super::host::Process;
use super::queue::{Event, Key};

/// So long after its host has woken a guard has looked at its clocks.
const LOOK: Time = 100 * MILLI;

impl Event {
    /// The host on which this happens, if it happens on one alone.
    const fn place(&self) -> Option<usize> {
        match self {
            Self::Written { host, .. }
            | Self::Worked { host, .. }
            | Self::Probed { host, .. }
            | Self::Flushed { host, .. }
            | Self::Guard { host, .. }
            | Self::Ends { host, .. }
            | Self::Fetched { host, .. } => Some(*host),
            Self::Arrive { .. }
            | Self::Pair { .. }
            | Self::Wake { .. }
            | Self::Gossip { .. }
            | Self::GossipDead { .. }
            | Self::Admit { .. }
            | Self::Boot { .. }
            | Self::Resume { .. }
            | Self::Mend { .. }
            | Self::Recover { .. }
            | Self::Stroke
            | Self::Act
            | Self::Look
            | Self::Heal => None,
        }
    }
}

impl World {
    /// A host sleeps for `wait`, with its agent and its containers.
    pub(crate) fn suspend(&mut self, host: usize, wait: Time) {
        self.pause(host, wait);
        self.hosts[host].asleep = Some(self.now);
        self.excuse_all(host);
    }

    /// A host that is a virtual machine is paused for `wait`, and its clocks with it. What runs there may run twice afterwards, until its
    /// agent has heard of a later holder: for so long (`news`) nobody looks.
    pub(crate) fn freeze(&mut self, host: usize, wait: Time, news: Time) {
        self.suspend(host, wait);
        let it = &mut self.hosts[host];
        it.is_frozen = true;
        for container in it.containers.values_mut() {
            container.late_until = self.now + wait + news;
        }
    }

    /// Keeps what would happen on a sleeping host; gives back what happens.
    pub(crate) fn awaken_later(&mut self, event: Event) -> Option<Event> {
        let host = event.place().filter(|host| self.hosts[*host].asleep.is_some());
        let Some(host) = host else { return Some(event) };
        self.hosts[host].postponed.push(event);
        None
    }

    /// A host wakes, if it sleeps. Leases go on by the time since boot, so its guards may find that it is late.
    pub(crate) fn awaken(&mut self, host: usize) {
        let now = self.now;
        let it = &mut self.hosts[host];
        let Some(since) = it.asleep.take() else { return };
        match std::mem::take(&mut it.is_frozen) {
            true => it.clock.stood += now - since,
            false => it.clock.slept += now - since,
        }
        // In the order in which it would have happened.
        for event in std::mem::take(&mut it.postponed) {
            self.queue.at(now, event);
        }
        // What was said meanwhile by those that it watches was said to nobody.
        let heard: Vec<u64> =
            (0..self.hosts.len()).map(|other| self.last_beat(host, other)).collect();
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.heard = heard;
        }
        self.excuse_all(host);
        let it = &self.hosts[host];
        let guarded = it.containers.iter().filter(|(_, it)| it.process == Process::Running);
        let guarded = guarded.filter(|(_, it)| it.fence.is_some());
        let keys: Vec<Key> = guarded.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.oversleep(host, &key);
            let wait = self.rng.below(LOOK);
            self.queue.at(now + wait, Event::Guard { host, key });
        }
    }

    /// A container whose lease ended while its host slept runs until its guard has ended it: that is not covered, and bounded.
    fn oversleep(&mut self, host: usize, key: &Key) {
        let kill_max = self.kill_max(host, key);
        let now = self.now;
        let it = &mut self.hosts[host];
        let reading = it.clock.reading(now);
        let Some(container) = it.containers.get_mut(key) else { return };
        let is_late = container.fence.is_some_and(|fence| reading.may_be_past(fence.kill));
        if is_late {
            container.late_until = now + LOOK + kill_max;
            self.coverage.overslept += 1;
        }
        self.check_still_alone(host, key);
    }

    fn excuse_all(&mut self, host: usize) {
        let slots: Vec<_> =
            self.hosts[host].containers.keys().map(|(slot, _)| slot.clone()).collect();
        for slot in slots {
            self.checks.excuse(&slot, self.now);
        }
    }
}
