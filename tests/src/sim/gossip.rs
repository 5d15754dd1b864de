//! Gossip as the core sees it: each node's facts reach each other node some rounds later, over whatever way is left.

use std::collections::BTreeMap;

use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::Incarnation;
use mesh_coordinator::node::Input;

use super::World;
use super::clock::{SECOND, Time};
use super::queue::Event;

/// How long after a heal chitchat makes the first step towards nodes that it has forgotten, at most.
const CONTACT: Time = 5 * SECOND;

/// What a node publishes in its present life.
#[derive(Debug, Clone, Default)]
struct Space {
    version: u64,
    facts: BTreeMap<FactKey, (u64, Fact)>,
}

/// What a reader was told of an author.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone, Default)]
struct Told {
    up: bool,
    life: u64,
    /// The life of which `keys` were told.
    told_life: u64,
    keys: BTreeMap<FactKey, u64>,
    /// News are on their way.
    pending: bool,
    reachable: bool,
    /// Counts the changes of `reachable`, so that patience begins anew.
    lost: u64,
}

/// All that gossip knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gossip {
    spaces: Vec<Space>,
    /// By reader, then by author.
    told: Vec<Vec<Told>>,
}

impl Gossip {
    pub(crate) fn grow(&mut self, n_hosts: usize) {
        self.spaces.resize_with(n_hosts, Space::default);
        self.told.resize_with(n_hosts, Vec::new);
        for told in &mut self.told {
            told.resize_with(n_hosts, Told::default);
        }
    }

    /// Nobody hears of `author` any more.
    pub(crate) fn silence(&mut self, author: usize) {
        for told in &mut self.told {
            told[author].reachable = false;
        }
    }
}

impl World {
    pub(crate) fn gossip_publish(&mut self, author: usize, fact: Fact) {
        if let FactKey::Claim(..) = fact.key() {
            self.checks.claimed.insert(author, self.now);
        }
        let space = &mut self.gossip.spaces[author];
        space.version += 1;
        space.facts.insert(fact.key(), (space.version, fact));
        self.gossip_spread(author);
    }

    pub(crate) fn gossip_withdraw(&mut self, author: usize, key: FactKey) {
        if let FactKey::Claim(..) = key {
            self.checks.claimed.insert(author, self.now);
        }
        self.gossip.spaces[author].facts.remove(&key);
        self.gossip_spread(author);
    }

    /// A new life begins: nothing is published, nothing was heard.
    pub(crate) fn gossip_begin(&mut self, host: usize) {
        self.gossip.spaces[host] = Space::default();
        for told in &mut self.gossip.told[host] {
            let (pending, lost) = (told.pending, told.lost + 1);
            *told = Told { pending, lost, ..Told::default() };
        }
    }

    fn gossip_spread(&mut self, author: usize) {
        for reader in 0..self.hosts.len() {
            if reader != author && self.gossip.told[reader][author].reachable {
                self.gossip_soon(author, reader, 0);
            }
        }
    }

    fn gossip_soon(&mut self, author: usize, reader: usize, extra: Time) {
        let told = &mut self.gossip.told[reader][author];
        if !std::mem::replace(&mut told.pending, true) {
            let rounds = self.plan.gossip_interval;
            let wait = rounds / 4 + self.rng.below(rounds * 11 / 4) + self.rng.below(extra + 1);
            self.queue.at(self.now + wait, Event::Gossip { author, reader });
        }
    }

    /// The news have arrived.
    pub(crate) fn gossip_arrive(&mut self, author: usize, reader: usize) {
        self.gossip.told[reader][author].pending = false;
        if !self.gossip.told[reader][author].reachable {
            return;
        }
        let (node, life) = (self.hosts[author].id, self.hosts[author].life);
        let member =
            self.hosts[reader].node().is_some_and(|agent| agent.state().nodes.contains_key(&node));
        if !member {
            return;
        }
        for input in self.gossip.told[reader][author].news(node, life, &self.gossip.spaces[author])
        {
            self.input(reader, input);
        }
    }

    pub(crate) fn gossip_dead(&mut self, author: usize, reader: usize, lost: u64) {
        let node = self.hosts[author].id;
        let told = &mut self.gossip.told[reader][author];
        if told.lost == lost && told.up && !told.reachable && self.hosts[reader].is_awake() {
            told.up = false;
            let incarnation = Incarnation(told.life);
            self.input(reader, Input::GossipDown { node, incarnation });
        }
    }

    /// A reader's catalogue has changed: it may listen to others than before.
    pub(crate) fn gossip_members(&mut self, reader: usize) {
        for author in 0..self.hosts.len() {
            let id = self.hosts[author].id;
            let Some(node) = self.hosts[reader].node() else { return };
            let member = node.state().nodes.contains_key(&id);
            let told = &mut self.gossip.told[reader][author];
            if member && !told.up && told.reachable {
                self.gossip_soon(author, reader, 0);
            } else if !member {
                told.up = false;
                told.keys.clear();
            }
        }
    }

    /// Who reaches whom has changed.
    pub(crate) fn gossip_refresh(&mut self) {
        let group = self.gossip_groups();
        for reader in 0..self.hosts.len() {
            for author in 0..self.hosts.len() {
                if reader == author {
                    continue;
                }
                let reachable = group[reader].is_some() && group[reader] == group[author];
                let told = &mut self.gossip.told[reader][author];
                if reachable && !told.reachable {
                    told.reachable = true;
                    told.lost += 1;
                    let extra = if told.up { 0 } else { CONTACT };
                    self.gossip_soon(author, reader, extra);
                } else if !reachable && (told.reachable || told.up) {
                    told.reachable = false;
                    told.lost += 1;
                    let lost = told.lost;
                    let at = self.now + 5 * SECOND + self.rng.below(5 * SECOND);
                    self.queue.at(at, Event::GossipDead { author, reader, lost });
                }
            }
        }
    }

    /// The parts of the mesh in which everybody hears of everybody, if only through others.
    fn gossip_groups(&self) -> Vec<Option<usize>> {
        let n_hosts = self.hosts.len();
        let awake: Vec<bool> = self.hosts.iter().map(super::host::Host::is_awake).collect();
        let known = |a: usize| (0..n_hosts).all(|b| !awake[b] || a == b || self.admits(a, b));
        if self.net.is_whole() && (0..n_hosts).all(|a| !awake[a] || known(a)) {
            return awake.into_iter().map(|awake| awake.then_some(0)).collect();
        }
        let mut group = vec![None; n_hosts];
        for first in 0..n_hosts {
            if !awake[first] || group[first].is_some() {
                continue;
            }
            group[first] = Some(first);
            let mut front = vec![first];
            while let Some(host) = front.pop() {
                for other in 0..n_hosts {
                    if awake[other] && group[other].is_none() && self.are_in_touch(host, other) {
                        group[other] = Some(first);
                        front.push(other);
                    }
                }
            }
        }
        group
    }
}

impl Told {
    /// What differs from what was told: new facts first, then what is gone.
    fn news(&mut self, node: mesh_coordinator::id::NodeId, life: u64, space: &Space) -> Vec<Input> {
        let mut news = Vec::new();
        if life > self.life {
            self.life = life;
            self.up = false;
        }
        let again = !self.up;
        let incarnation = Incarnation(life);
        if again {
            self.up = true;
            news.push(Input::GossipUp { node, incarnation });
        }
        let before = std::mem::take(&mut self.keys);
        for (key, (version, fact)) in &space.facts {
            if again || before.get(key) != Some(version) {
                news.push(Input::Published { node, incarnation, fact: fact.clone() });
            }
            self.keys.insert(*key, *version);
        }
        let told_life = Incarnation(std::mem::replace(&mut self.told_life, life));
        let gone = before.into_keys().filter(|key| !self.keys.contains_key(key));
        news.extend(gone.map(|key| Input::Withdrawn { node, incarnation: told_life, key }));
        news
    }
}
