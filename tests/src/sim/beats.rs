//! Heartbeats. They are most of what happens in a mesh and change nothing while they come, so they are not events: whoever is
//! about to do something first hears the last heartbeat of each node that it watches, at the moment at which it arrived.

use mesh_coordinator::id::Incarnation;
use mesh_coordinator::membership::HEARTBEAT;
use mesh_coordinator::node::Input;
use mesh_coordinator::prng::mix;
use mesh_coordinator::view::NodeStatus;

use super::World;
use super::clock::{MILLI, Time};
use super::queue::Event;

const PERIOD: Time = HEARTBEAT.as_micros() as u64;
/// How often a refused connection is tried again.
const RETRY: Time = 500 * MILLI;
/// After so many lost heartbeats in a row an earlier one is of no interest.
const LOST_MAX: u64 = 4;

impl World {
    /// When heartbeat `number` of `watched` arrives at `watcher`, if it does.
    fn beat_at(&self, watcher: usize, watched: usize, number: u64) -> Time {
        let phase = (watched as u64 * 37) % 250 * MILLI;
        let way = self.plan.delay + mix(watcher as u64 * 1_000 + watched as u64) % self.plan.jitter;
        number * PERIOD + phase + way
    }

    /// The number of the last heartbeat whose time of arrival has come.
    pub(crate) fn last_beat(&self, watcher: usize, watched: usize) -> u64 {
        self.now.saturating_sub(self.beat_at(watcher, watched, 0)) / PERIOD
    }

    fn is_lost(&self, watcher: usize, watched: usize, number: u64) -> bool {
        let lot = mix(self.seed ^ mix(number) ^ mix(watcher as u64 * 1_000 + watched as u64));
        lot % 1_000 < self.plan.loss_permille
    }

    /// Whether heartbeats come through.
    fn hears(&self, watcher: usize, watched: usize) -> bool {
        self.hosts[watched].is_awake()
            && self.net.is_open(watched, watcher)
            && self.admits(watched, watcher)
    }

    /// Brings to `watcher` the last heartbeats that arrived since it last listened.
    pub(crate) fn listen(&mut self, watcher: usize) {
        if !self.hosts[watcher].is_awake() {
            return;
        }
        let mut beats = std::mem::take(&mut self.beats);
        beats.clear();
        let agent = self.hosts[watcher].agent.as_ref();
        for watched in agent.into_iter().flat_map(|agent| agent.watched.iter().copied()) {
            let heard = agent.map_or(0, |agent| agent.heard[watched]);
            let last = self.last_beat(watcher, watched);
            if last <= heard || !self.hears(watcher, watched) {
                continue;
            }
            let from = self.hosts[watched].agent.as_ref().map_or(0, |agent| agent.beats_from);
            let from = from.max(self.net.opened(watched, watcher));
            let oldest = (heard + 1).max(last.saturating_sub(LOST_MAX));
            let number =
                (oldest..=last).rev().find(|number| !self.is_lost(watcher, watched, *number));
            let Some(number) = number else { continue };
            let at = self.beat_at(watcher, watched, number);
            if at >= from {
                beats.push((at, watched, number));
            }
        }
        beats.sort_unstable();
        for (at, watched, number) in beats.iter().copied() {
            if let Some(agent) = &mut self.hosts[watcher].agent {
                agent.heard[watched] = number;
            }
            let heard = Input::Heard {
                node: self.hosts[watched].id,
                incarnation: Incarnation(self.hosts[watched].life),
            };
            self.step(watcher, at, heard);
        }
        self.beats = beats;
    }

    /// Makes sure that `watcher` soon takes a look at `watched`, whether it has anything else to do or not.
    pub(crate) fn poke(&mut self, watcher: usize, watched: usize) {
        let next = self.beat_at(watcher, watched, self.last_beat(watcher, watched) + 1);
        let at = next.max(self.now + 1);
        if self.pairs.insert((watcher, watched)) {
            self.queue.at(at, Event::Pair { watcher, watched });
        }
    }

    pub(crate) fn look_at_pair(&mut self, watcher: usize, watched: usize) {
        self.pairs.remove(&(watcher, watched));
        let Some(agent) = &self.hosts[watcher].agent else { return };
        if agent.paused || !agent.watched.contains(&watched) {
            return;
        }
        if self.hears(watcher, watched) {
            self.listen(watcher);
            self.rearm(watcher);
            let id = self.hosts[watched].id;
            let status = self.hosts[watcher].node().and_then(|node| node.status(id));
            if status.is_some_and(|status| status != NodeStatus::Alive) {
                self.poke(watcher, watched);
            }
        } else if self.hosts[watched].powered
            && self.hosts[watched].agent.is_none()
            && self.net.are_linked(watcher, watched)
        {
            let node = self.hosts[watched].id;
            self.input(watcher, Input::Refused { node });
            if self.pairs.insert((watcher, watched)) {
                self.queue.at(self.now + RETRY, Event::Pair { watcher, watched });
            }
        }
    }

    /// An agent names the nodes that it wants to hear.
    pub(crate) fn watch(&mut self, watcher: usize, watched: Vec<usize>) {
        let last: Vec<u64> =
            (0..self.hosts.len()).map(|host| self.last_beat(watcher, host)).collect();
        let Some(agent) = &mut self.hosts[watcher].agent else { return };
        let fresh: Vec<usize> =
            watched.iter().filter(|host| !agent.watched.contains(host)).copied().collect();
        agent.heard.resize(last.len(), 0);
        for host in &fresh {
            agent.heard[*host] = last[*host];
        }
        agent.watched = watched;
        for host in fresh {
            self.poke(watcher, host);
        }
    }
}
