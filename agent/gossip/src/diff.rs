//! Turns snapshots of the live nodes into events.
//!
//! chitchat tells the whole state of all live nodes at each change. Kept here is what was told to the engine, so that each step
//! says only what differs. Of a node's lives only the highest that it proved counts; of its facts only those that it signed; of
//! nodes only members. Everything about this node itself is left out: any member can make it up.
//!
//! A value that its node did not sign changes nothing: what the node itself said under that key in this life still holds, until
//! it says something else or begins another life, as it does when it finds that somebody wrote in its name. A true value can be
//! repeated as if the node were somewhere else; so a life is heard only where it was heard first, even when it is silent there.
//!
//! A life is proved by a fact that the node signed in it. Without that any member could say that another one lives on in a life
//! that is higher than all to come, and nobody would hear that node's claims again. Every agent says what its node has as soon as
//! it begins, so a proof is never long in coming.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use chitchat::{ChitchatId, NodeState, VersionedValue};
use mesh_coordinator::fact::FactKey;
use mesh_coordinator::id::{Incarnation, NodeId};
use mesh_ports::directory::{Directory, Peer};
use mesh_ports::gossip::{Event, FactCodec};
use mesh_telemetry::{Reason, Refusals};

use crate::chat::read_id;
use crate::keys::{self, FACTS_MAX};

/// What was told of one key.
#[derive(Debug, Clone, Copy)]
struct Told {
    version: u64,
    /// What stands there; `None` when the value was refused and the node has signed none before it in this life.
    fact: Option<FactKey>,
}

/// What was told of one node.
#[derive(Debug)]
struct Seen {
    life: Incarnation,
    /// Where that life is. It never moves: whoever says that it is somewhere else is not that node, which begins another life when
    /// it moves.
    address: SocketAddr,
    up: bool,
    /// All facts must be told again: the node was down, or begins a new life.
    again: bool,
    /// chitchat's versions of the state (last collection, last change) that was read last in this life.
    read: (u64, u64),
    /// The life in which `told` was published.
    told_life: Incarnation,
    told: BTreeMap<String, Told>,
}

/// The life of a member that counts: whose, where, which, and what is said in it.
type Best<'a> = (Peer, SocketAddr, Incarnation, &'a NodeState);

/// The memory of what was told.
pub(crate) struct Diff {
    node: NodeId,
    directory: Arc<dyn Directory>,
    facts: Arc<dyn FactCodec>,
    refusals: Refusals,
    seen: BTreeMap<NodeId, Seen>,
    /// Lives above those in `seen` that proved nothing, and up to which version that was looked for.
    unproved: BTreeMap<(NodeId, Incarnation), u64>,
}

impl Diff {
    pub(crate) fn new(
        node: NodeId,
        directory: Arc<dyn Directory>,
        facts: Arc<dyn FactCodec>,
        refusals: Refusals,
    ) -> Self {
        let (seen, unproved) = (BTreeMap::new(), BTreeMap::new());
        Self { node, directory, facts, refusals, seen, unproved }
    }

    /// What changed up to the snapshot `live`. Without `may_fall` nobody is called dead: a new instance of chitchat knows nobody
    /// at first.
    pub(crate) fn step(
        &mut self,
        live: &BTreeMap<ChitchatId, NodeState>,
        may_fall: bool,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        self.drop_strangers(&mut events);
        let best = self.best_lives(live);
        if may_fall {
            self.fall(&best, &mut events);
        }
        for best in best.into_values() {
            self.look_at(best, &mut events);
        }
        events
    }

    /// The highest live life of each member but this node.
    fn best_lives<'a>(
        &mut self,
        live: &'a BTreeMap<ChitchatId, NodeState>,
    ) -> BTreeMap<NodeId, Best<'a>> {
        let mut best = BTreeMap::new();
        let mut unproved = BTreeMap::new();
        for (id, state) in live {
            let Some((node, life)) = read_id(id).filter(|(node, _)| *node != self.node) else {
                continue;
            };
            let seen = self.seen.get(&node);
            let former = seen.is_some_and(|seen| life < seen.life);
            let lower = best.get(&node).is_some_and(|(_, _, other, _)| life <= *other);
            let known = seen.filter(|seen| life == seen.life);
            let elsewhere = known.is_some_and(|seen| seen.address != id.gossip_advertise_addr);
            if former || lower || elsewhere {
                continue;
            }
            let is_known = known.is_some();
            let Some(peer) = self.directory.peer(node) else { continue };
            let version = state.max_version();
            let looked = self.unproved.get(&(node, life)) == Some(&version);
            if is_known || (!looked && self.is_proved(&peer, life, state)) {
                best.insert(node, (peer, id.gossip_advertise_addr, life, state));
            } else {
                unproved.insert((node, life), version);
            }
        }
        self.unproved = unproved;
        best
    }

    /// Whether `peer` signed something in this life. Few are tried, since whoever makes up lives can make up facts as well.
    fn is_proved(&self, peer: &Peer, life: Incarnation, state: &NodeState) -> bool {
        let stands = |key: &str, value: &str| {
            keys::open(self.facts.as_ref(), (peer, life), (key, value)).is_ok()
        };
        let vital = [FactKey::Node, FactKey::Root].map(keys::to_text);
        let mut all = state.key_values_including_deleted();
        vital.iter().any(|key| state.get(key).is_some_and(|value| stands(key, value)))
            || all
                .find(|(_, value)| !value.is_deleted())
                .is_some_and(|(key, value)| stands(key, &value.value))
    }

    /// Takes back what was told of nodes that are no members any more.
    fn drop_strangers(&mut self, events: &mut Vec<Event>) {
        let directory = &self.directory;
        let removed = self.seen.extract_if(.., |node, _| directory.peer(*node).is_none());
        for (node, seen) in removed {
            let facts = seen.told.values().filter_map(|told| told.fact);
            let incarnation = seen.told_life;
            events.extend(facts.map(|key| Event::Withdrawn { node, incarnation, key }));
            if seen.up {
                events.push(Event::Down { node, incarnation: seen.life });
            }
        }
    }

    fn fall(&mut self, best: &BTreeMap<NodeId, Best<'_>>, events: &mut Vec<Event>) {
        for (node, seen) in &mut self.seen {
            if seen.up && !best.contains_key(node) {
                seen.up = false;
                events.push(Event::Down { node: *node, incarnation: seen.life });
            }
        }
    }

    fn look_at(&mut self, (peer, address, life, state): Best<'_>, events: &mut Vec<Event>) {
        let seen = self.seen.entry(peer.node).or_insert_with(|| Seen {
            life,
            address,
            up: false,
            again: true,
            read: (0, 0),
            told_life: life,
            told: BTreeMap::new(),
        });
        if life > seen.life {
            (seen.life, seen.address) = (life, address);
            seen.up = false;
            seen.read = (0, 0);
        }
        if !seen.up {
            seen.up = true;
            seen.again = true;
            events.push(Event::Up { node: peer.node, incarnation: life });
        }
        let now = (state.last_gc_version(), state.max_version());
        // A state that was collected here and comes back in pieces seems to lack facts until it is as new as before.
        let is_partial = now.1 < seen.read.1;
        if is_partial || (now == seen.read && !seen.again) {
            return;
        }
        seen.read = now;
        let (facts, refusals) = (self.facts.as_ref(), &self.refusals);
        let reader = Reader { peer: &peer, life, facts, refusals };
        reader.read(state, seen, events);
    }
}

/// Reads the facts of one node.
struct Reader<'a> {
    peer: &'a Peer,
    life: Incarnation,
    facts: &'a dyn FactCodec,
    refusals: &'a Refusals,
}

impl Reader<'_> {
    /// Tells what is new in `state`, then takes back what is gone, so that a claim that moves to another key never lacks.
    fn read(&self, state: &NodeState, seen: &mut Seen, events: &mut Vec<Event>) {
        let again = std::mem::take(&mut seen.again);
        let before = std::mem::take(&mut seen.told);
        let values = state.key_values_including_deleted().filter(|(_, value)| !value.is_deleted());
        for (key, value) in values.take(FACTS_MAX) {
            let known = before.get(key).filter(|told| !again && told.version == value.version);
            let told = known.copied().unwrap_or_else(|| {
                let told = self.open(key, value, events);
                let stood = before.get(key).filter(|_| seen.told_life == self.life);
                Told { fact: told.fact.or_else(|| stood?.fact), ..told }
            });
            seen.told.insert(key.to_owned(), told);
        }
        let node = self.peer.node;
        let incarnation = std::mem::replace(&mut seen.told_life, self.life);
        let stands = |key: &String| seen.told.get(key).is_some_and(|told| told.fact.is_some());
        let gone = before.iter().filter(|(key, _)| !stands(key));
        let gone = gone.filter_map(|(_, told)| told.fact);
        events.extend(gone.map(|key| Event::Withdrawn { node, incarnation, key }));
    }

    fn open(&self, key: &str, value: &VersionedValue, events: &mut Vec<Event>) -> Told {
        let author = (self.peer, self.life);
        let fact = match keys::open(self.facts, author, (key, &value.value)) {
            Ok(fact) => {
                let stands = fact.key();
                let (node, incarnation) = (self.peer.node, self.life);
                events.push(Event::Published { node, incarnation, fact });
                Some(stands)
            }
            Err(error) => {
                let version = value.version;
                let key: String = key.escape_debug().take(80).collect();
                let words = format_args!("fact {key}, version {version}: {error}");
                self.refusals.refuse(Reason::FactSignature, self.peer.node, words);
                None
            }
        };
        Told { version: value.version, fact }
    }
}

#[cfg(test)]
mod tests;
