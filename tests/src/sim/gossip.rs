//! Gossip as the core sees it: each node's facts reach each other node some rounds later, over whatever way is left.

use std::collections::BTreeMap;

use mesh_coordinator::fact::{Fact, FactKey};
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_coordinator::node::Input;

use super::World;
use super::clock::{SECOND, Time};
use super::queue::Event;

/// How long after a heal chitchat makes the first step towards nodes that it has forgotten, at most.
const CONTACT: Time = 5 * SECOND;

/// One fact of an author.
#[derive(Debug, Clone)]
struct Said {
    /// From which version on the key is there.
    born: u64,
    /// The version of what it says now.
    version: u64,
    fact: Fact,
}

/// When a key was there: from one version on, until before another; without that, until the author's life ended.
#[derive(Debug, Clone, Copy)]
struct Stay {
    born: u64,
    gone: Option<u64>,
}

impl Stay {
    /// Whether a reader who was told of everything up to `told` knows the key, and not that it has gone.
    fn is_known_at(&self, told: u64) -> bool {
        self.born <= told && self.gone.is_none_or(|gone| told < gone)
    }
}

/// When keys were there that are taken back.
type Stays = BTreeMap<FactKey, Vec<Stay>>;

/// What a node publishes in its present life.
///
/// Readers keep one number each and not what they were told: there are as many readers as nodes, for each author.
#[derive(Debug, Clone, Default)]
struct Space {
    version: u64,
    facts: BTreeMap<FactKey, Said>,
    stays: Stays,
}

impl Space {
    fn publish(&mut self, fact: Fact) {
        self.version += 1;
        let (key, version) = (fact.key(), self.version);
        let born = self.facts.get(&key).map_or(version, |said| said.born);
        self.facts.insert(key, Said { born, version, fact });
    }

    fn withdraw(&mut self, key: FactKey) {
        let Some(said) = self.facts.remove(&key) else { return };
        self.version += 1;
        let stay = Stay { born: said.born, gone: Some(self.version) };
        self.stays.entry(key).or_default().push(stay);
    }

    /// The life is over: what is left of it is when its keys were there.
    fn end(mut self) -> Stays {
        for (key, said) in self.facts {
            self.stays.entry(key).or_default().push(Stay { born: said.born, gone: None });
        }
        self.stays
    }
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
    /// The life of which it was told, and up to which version of that; zero when of nothing.
    told_life: u64,
    told: u64,
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
    /// Of each author, what is left of its former lives.
    former: Vec<BTreeMap<u64, Stays>>,
    /// By reader, then by author.
    told: Vec<Vec<Told>>,
}

impl Gossip {
    pub(crate) fn grow(&mut self, n_hosts: usize) {
        self.spaces.resize_with(n_hosts, Space::default);
        self.former.resize_with(n_hosts, BTreeMap::new);
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
        self.gossip.spaces[author].publish(fact);
        self.gossip_spread(author);
    }

    pub(crate) fn gossip_withdraw(&mut self, author: usize, key: FactKey) {
        if let FactKey::Claim(..) = key {
            self.checks.claimed.insert(author, self.now);
        }
        self.gossip.spaces[author].withdraw(key);
        self.gossip_spread(author);
    }

    /// A new life begins: nothing is published, nothing was heard.
    pub(crate) fn gossip_begin(&mut self, host: usize) {
        let ended = std::mem::take(&mut self.gossip.spaces[host]).end();
        self.gossip.former[host].insert(self.hosts[host].life - 1, ended);
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
        let Gossip { spaces, former, told } = &mut self.gossip;
        let news = told[reader][author].news((node, life), &spaces[author], &former[author]);
        for input in news {
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
                told.told = 0;
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
        // Nobody but hosts of the mesh is ever admitted.
        let known = |a: usize| {
            self.hosts[a].admits.len() == n_hosts
                || (0..n_hosts).all(|b| !awake[b] || a == b || self.admits(a, b))
        };
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
    fn news(
        &mut self,
        (node, life): (NodeId, u64),
        space: &Space,
        former: &BTreeMap<u64, Stays>,
    ) -> Vec<Input> {
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
        let told_life = std::mem::replace(&mut self.told_life, life);
        let told = std::mem::replace(&mut self.told, space.version);
        let known = if told_life == life { told } else { 0 };
        let fresh = space.facts.values().filter(|said| again || said.version > known);
        news.extend(fresh.map(|said| Input::Published {
            node,
            incarnation,
            fact: said.fact.clone(),
        }));
        let stays = if told_life == life { Some(&space.stays) } else { former.get(&told_life) };
        let gone = stays.into_iter().flatten().filter(|(key, stays)| {
            stays.iter().any(|stay| stay.is_known_at(told)) && !space.facts.contains_key(*key)
        });
        let incarnation = Incarnation(told_life);
        news.extend(gone.map(|(key, _)| Input::Withdrawn { node, incarnation, key: *key }));
        news
    }
}
