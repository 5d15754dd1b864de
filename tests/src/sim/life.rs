//! How agents and hosts come and go.

use std::collections::{BTreeMap, VecDeque};

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::fact::NodeFacts;
use mesh_coordinator::id::Incarnation;
use mesh_coordinator::lease::exclusive::BootId;
use mesh_coordinator::node::{Config, Input, Node, Ticket};
use mesh_coordinator::workload::Do;

use super::World;
use super::clock::Time;
use super::host::{Agent, Process, Worker};
use super::queue::{Event, Key};

/// What a socket holds while nobody reads it.
const BACKLOG_MAX: usize = 2_000;

impl World {
    /// Starts the agent of a host at a later time, unless something else happens to it.
    pub(crate) fn boot_after(&mut self, host: usize, wait: Time) {
        let incident = self.hosts[host].incident;
        self.queue.at(self.now + wait, Event::Boot { host, incident });
    }

    pub(crate) fn boot(&mut self, host: usize, incident: u64) {
        if self.hosts[host].incident != incident || self.hosts[host].agent.is_some() {
            return;
        }
        self.before_change();
        self.coverage.boots += 1;
        let now = self.now;
        let it = &mut self.hosts[host];
        it.powered = true;
        it.life += 1;
        let config = Config {
            mesh: self.operator.mesh,
            me: it.id,
            incarnation: Incarnation(it.life),
            facts: NodeFacts {
                name: it.name.clone(),
                capacity: it.capacity,
                version: "0".to_owned(),
                restarting: false,
                clock_off_ms: 0,
                store: Some(it.store),
                witness_only: false,
                has_twin: false,
            },
            seed: self.seed ^ (host as u64) << 32 ^ it.life,
            store: it.store,
            boot: BootId(it.boot),
        };
        let records: Vec<Entry> = it.disk.values().cloned().collect();
        let registers = it.registers.clone();
        let node = Node::new(it.clock.moment(now), config, records, registers);
        let node = node.with_rules(self.rules);
        it.agent = Some(Agent {
            node,
            started: now,
            paused: false,
            backlog: VecDeque::new(),
            watched: Vec::new(),
            beats_from: now,
            heard: Vec::new(),
            wake: None,
            workers: BTreeMap::new(),
        });
        it.containers.retain(|_, container| container.process != Process::None);
        for container in it.containers.values_mut() {
            container.stopping = false;
        }
        self.gossip_begin(host);
        self.checks.forget(host);
        self.hosts[host].admits = self.members_of(host);
        self.forget_claims(host);
        let found: Vec<Input> = self.hosts[host]
            .containers
            .iter()
            .map(|((slot, _), container)| Input::Found {
                slot: slot.clone(),
                revision: container.revision,
                ended: match container.process {
                    Process::Ended(code) => Some(code),
                    Process::Running | Process::None => None,
                },
                fence: container.fence,
            })
            .collect();
        for input in found {
            self.step(host, now, input);
        }
        self.step(host, now, Input::Began);
        self.rearm(host);
        self.disturb(0);
        self.after_change();
    }

    /// The agent dies; its containers go on.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        self.before_change();
        self.hosts[host].incident += 1;
        self.lose_writes(host);
        let natures = self.natures_of_starting(host);
        self.awaken(host);
        let Some(agent) = self.hosts[host].agent.take() else { return };
        self.coverage.kills += 1;
        self.tally.started(host, agent.workers.values().map(Worker::n_starts).sum());
        // A start that has reached the runtime may end well without anybody looking.
        for key in agent.workers.into_keys() {
            let serial = self.rng.next_u64();
            let Some((checked, lives)) = natures.get(&key).copied() else { continue };
            let starts = self.rng.chance(500);
            if !starts || !self.begin(host, &key, serial, checked) {
                continue;
            }
            if let Some((lifetime, code)) = lives {
                self.queue.at(self.now + lifetime, Event::Ends { host, serial, key, code });
            }
        }
        self.disturb(0);
        self.after_change();
    }

    /// Of the containers that are being started: whether they have a health check, and when they will end by themselves.
    fn natures_of_starting(&mut self, host: usize) -> BTreeMap<Key, (bool, Option<(Time, i32)>)> {
        let workers = self.hosts[host].agent.iter().flat_map(|agent| &agent.workers);
        let starting: Vec<Key> = workers
            .filter(|(_, worker)| worker.current == Some(Do::Start) && !worker.fetching)
            .map(|(key, _)| key.clone())
            .collect();
        let nature = |key: Key| {
            let nature = (self.is_checked(host, &key), self.lifetime(host, &key));
            (key, nature)
        };
        starting.into_iter().map(nature).collect()
    }

    /// The host goes dark: all processes end, and what was not flushed is gone.
    pub(crate) fn power_off(&mut self, host: usize) {
        self.kill_agent(host);
        let now = self.now;
        let it = &mut self.hosts[host];
        it.powered = false;
        it.boot += 1;
        let slots: Vec<Key> = it.containers.keys().cloned().collect();
        let mut n_ended = 0;
        for container in it.containers.values_mut() {
            if container.process == Process::Running {
                n_ended += usize::from(container.fence.is_some());
                container.process = Process::Ended(None);
            }
            container.proved = false;
            container.fence = None;
        }
        for (slot, _) in slots {
            self.checks.excuse(&slot, now);
        }
        // An announced restart that does not come holds back everybody for its whole grace.
        if it.announced.is_some_and(|at| now - at < 70 * super::clock::SECOND) {
            self.disturb(65 * super::clock::SECOND);
        }
        for _ in 0..n_ended {
            self.blame(host);
        }
        self.coverage.power_offs += 1;
        self.before_change();
        self.after_change();
    }

    /// The host is lost with its disk.
    pub(crate) fn lose(&mut self, host: usize) {
        self.power_off(host);
        let it = &mut self.hosts[host];
        it.lost = true;
        it.disk.clear();
        it.registers.clear();
        it.containers.clear();
        self.coverage.wipes += 1;
        let id = it.id;
        self.operator.lost(id);
    }

    pub(crate) fn pause(&mut self, host: usize, wait: Time) {
        self.before_change();
        let life = self.hosts[host].life;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.paused = true;
        self.coverage.pauses += 1;
        self.queue.at(self.now + wait, Event::Resume { host, life });
        self.disturb(0);
        self.after_change();
    }

    pub(crate) fn resume(&mut self, host: usize, life: u64) {
        let now = self.now;
        if self.hosts[host].agent_of(life).is_some_and(|agent| agent.paused) {
            self.awaken(host);
        }
        let Some(agent) = self.hosts[host].agent_of(life).filter(|agent| agent.paused) else {
            return;
        };
        agent.paused = false;
        agent.beats_from = now;
        let backlog = std::mem::take(&mut agent.backlog);
        self.checks.last_change = now;
        self.disturb(0);
        // Its own timers and what the others said come in no certain order.
        if self.rng.chance(300) {
            self.step(host, now, Input::Wake);
        }
        for input in backlog {
            self.step(host, now, input);
        }
        self.rearm(host);
        self.after_change();
    }

    /// Keeps what arrives at a paused agent.
    pub(crate) fn queue_up(&mut self, host: usize, input: Input) {
        if let Some(agent) = &mut self.hosts[host].agent
            && agent.backlog.len() < BACKLOG_MAX
        {
            agent.backlog.push_back(input);
        }
    }

    pub(crate) fn store(&mut self, host: usize, ticket: Ticket, entries: Vec<Entry>) {
        let (life, full) = (self.hosts[host].life, self.hosts[host].disk_full);
        let full = full || self.hosts[host].disk_bad;
        let at = self.now + self.flush(host);
        self.queue.at(at, Event::Written { host, life, ticket, entries, full });
    }

    /// A flush is over. Whatever had not come so far when the host lost its power, or its agent died, is gone.
    pub(crate) fn written(
        &mut self,
        (host, life): (usize, u64),
        ticket: Ticket,
        entries: Vec<Entry>,
        full: bool,
    ) {
        if self.hosts[host].agent_of(life).is_none() {
            return;
        }
        if full {
            let reason = "no space left on device".to_owned();
            return self.input(host, Input::StoreFailed { ticket, reason });
        }
        self.hosts[host].disk.extend(entries.into_iter().map(|entry| (entry.hash, entry)));
        self.input(host, Input::Stored { ticket });
    }
}
