//! Who is alive: what this node heard, what observers say, and what gossip believes.
//!
//! Gossip alone needs several seconds to notice a dead host. So every node is watched by a few [`observers`](observers_of), each
//! over one connection with a heartbeat every [`HEARTBEAT`]. An observer that hears nothing for [`SILENCE`] probes once, then
//! votes. The accused is down when a majority of its reachable observers, and at least two, agree:
//!
//! ```text
//!             silence            probe unanswered          majority of ≥ 2
//!   Alive ───────────▶ (probing) ───────────────▶ (voted) ───────────────▶ Down
//!     ▲                    │                         │                       │
//!     └────────────────────┴───── heard again ───────┴───────────────────────┘
//! ```
//! Rules, cited by asserts and tests:
//! * M1 A single observer's opinion moves nothing while another observer is reachable.
//! * M2 An observer that reaches no other one (two nodes, or the small side of a split) waits [`ALONE_SILENCE`] instead.
//! * M3 A refused connection proves that the host lives: `Restarting`, which moves nothing for [`RESTART_GRACE`], or for
//!   [`ANNOUNCED_GRACE`] when the restart was announced.
//! * M4 A node that finds itself late judges nobody by what it did not hear meanwhile.
//! * M5 A vote dies with the voter, and when the voter takes it back. One about an older life of the accused counts only while
//!   nothing is heard of the newer one.
//! * M6 Where no observer has an opinion, gossip's own detector counts.

mod peer;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::peer::{Ballot, Peer};
use self::watchers::Watchers;
use crate::fact::{Suspicion, Vote};
use crate::id::{Incarnation, NodeId};
use crate::rules::{Rule, Rules};
use crate::time::Instant;
use crate::view::NodeStatus;

/// How often a watched node says that it lives.
pub const HEARTBEAT: Duration = Duration::from_millis(250);
/// Three heartbeats: one may be lost and one late.
pub const SILENCE: Duration = Duration::from_millis(750);
/// How long a node without a second opinion waits before it believes its own.
pub const ALONE_SILENCE: Duration = Duration::from_millis(1500);
/// How long the answer to a direct probe may take: many times the round trip of a local network, and half a heartbeat.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(150);
/// How long a refusing host may take to bring its agent back: its service manager does so in well under a second.
pub const RESTART_GRACE: Duration = Duration::from_millis(1_250);
/// The same when the agent said before that it would go.
pub const ANNOUNCED_GRACE: Duration = Duration::from_secs(60);
/// How often an observer repeats a vote that it still holds, in case its message was lost.
const VOTE_PERIOD: Duration = Duration::from_secs(3);
/// How long a vote counts that came directly and that gossip has not brought: three repetitions.
const VOTE_TTL: Duration = Duration::from_secs(10);
/// How many nodes watch each node.
pub const OBSERVERS: usize = 4;
/// Whoever is heard over connections and not by gossip for so long has its datagrams stopped on the way. The detector of the
/// gossip alone needs several of these seconds to notice a death.
const GOSSIP_MISSED: Duration = Duration::from_secs(15);
/// Later than this, a node doubts its own ears (M4). Twice the usual pause of a loaded machine's scheduler.
const LATE: Duration = Duration::from_millis(200);

/// What the membership wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Probe a node directly.
    Probe(NodeId, u64),
    /// Publish this node's vote.
    Vote(Vote),
    /// Take it back.
    Unvote(Vote),
}

/// What this node believes of the others.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    me: NodeId,
    rules: Rules,
    peers: BTreeMap<NodeId, Peer>,
    /// The members of whom time or what others say may change what is believed. Of all others everything stays as it is until something is
    /// heard of them, so nobody looks at them: in a large mesh they are nearly all.
    restless: BTreeSet<NodeId>,
    /// The members that were not down when it was worked out last who watches whom.
    standing: BTreeSet<NodeId>,
    /// The members that are believed to be down.
    down: BTreeSet<NodeId>,
    /// When the clock was last looked at; deadlines up to then are done with.
    looked: Instant,
    /// Until then patience is doubled (M4).
    doubtful_until: Instant,
    nonce: u64,
    /// What a change of the observers made necessary, and nobody has fetched yet.
    pending: Vec<Act>,
    /// Whose status changed since somebody asked.
    turned: BTreeSet<NodeId>,
    /// Bumped with every change of anybody's status, so that others know when to look again.
    epoch: u64,
}

/// The nodes that watch `node`: the first [`OBSERVERS`] of the others in rendezvous order, so that everybody knows them.
#[must_use]
pub fn observers_of(node: NodeId, members: &BTreeSet<NodeId>) -> Vec<NodeId> {
    Watchers::of(node, members).observers().collect()
}

impl Membership {
    pub(crate) const fn new(me: NodeId) -> Self {
        Self {
            me,
            rules: Rules::ALL,
            peers: BTreeMap::new(),
            restless: BTreeSet::new(),
            standing: BTreeSet::new(),
            down: BTreeSet::new(),
            looked: Instant::ZERO,
            doubtful_until: Instant::ZERO,
            nonce: 0,
            pending: Vec::new(),
            turned: BTreeSet::new(),
            epoch: 0,
        }
    }

    pub(crate) const fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Rises whenever somebody's status changed.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The members according to the catalogue, this node included.
    pub(crate) fn set_members(&mut self, now: Instant, members: &BTreeSet<NodeId>) {
        let before = self.peers.len();
        self.peers.retain(|node, _| members.contains(node));
        self.restless.retain(|node| members.contains(node));
        self.down.retain(|node| members.contains(node));
        let mut changed = self.peers.len() != before;
        for node in members.iter().filter(|node| **node != self.me) {
            if !self.peers.contains_key(node) {
                self.peers.insert(*node, Peer::new(now));
                changed = true;
            }
        }
        if changed {
            self.reassign(now);
        }
    }

    /// The members whose status changed since the last call.
    pub(crate) fn take_turned(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.turned)
    }

    /// Hands over what has become necessary besides what the calls themselves said.
    pub(crate) fn take_pending(&mut self, out: &mut Vec<Act>) {
        out.append(&mut self.pending);
    }

    /// Who watches whom, from the members that are not down: with dead observers counted a node could end with none.
    ///
    /// Whoever does not watch any more hears nothing more, so it has no opinion either; and whoever begins to watch has to
    /// listen first.
    fn reassign(&mut self, now: Instant) {
        let standing: BTreeSet<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.status != NodeStatus::Down)
            .map(|(node, _)| *node)
            .chain([self.me])
            .collect();
        let me = self.me;
        let gone = self.standing.difference(&standing).copied().collect();
        let come = standing.difference(&self.standing).copied().collect();
        for (node, peer) in &mut self.peers {
            let before = peer.observers.contains(&me);
            peer.rewatch(*node, &standing, &gone, &come);
            let after = peer.observers.contains(&me);
            if after != before {
                self.restless.insert(*node);
            }
            if before && !after {
                peer.probe = None;
                self.pending.extend(peer.take_vote(me).map(Act::Unvote));
            } else if after && !before {
                peer.since = now;
            }
        }
        self.standing = standing;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The nodes that this node watches.
    pub(crate) fn watched(&self) -> BTreeSet<NodeId> {
        let watched = self.restless().filter(|(_, peer)| peer.observers.contains(&self.me));
        watched.map(|(node, _)| node).collect()
    }

    fn restless(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.restless.iter().filter_map(|node| Some((*node, self.peers.get(node)?)))
    }

    /// A member, to change what is known of it: with that it is restless, until somebody judges that nothing follows.
    fn stir(&mut self, node: NodeId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&node)?;
        self.restless.insert(node);
        Some(peer)
    }

    /// The other observers of `node`.
    pub(crate) fn fellow_observers(&self, node: NodeId) -> Vec<NodeId> {
        let observers =
            self.peers.get(&node).map(|peer| peer.observers.clone()).unwrap_or_default();
        observers.into_iter().filter(|observer| *observer != self.me).collect()
    }

    /// What this node believes of `node`; `None` for a stranger.
    pub(crate) fn status(&self, node: NodeId) -> Option<NodeStatus> {
        if node == self.me {
            Some(NodeStatus::Alive)
        } else {
            self.peers.get(&node).map(|peer| peer.status)
        }
    }

    /// How long ago `node` was heard; `None` when never.
    pub(crate) fn heard_ago(&self, now: Instant, node: NodeId) -> Option<Duration> {
        self.peers.get(&node)?.heard.map(|at| now.since(at))
    }

    /// When `node` was last heard.
    pub(crate) fn last_heard(&self, node: NodeId) -> Option<Instant> {
        self.peers.get(&node)?.heard
    }

    /// Which life of `node` is the newest known.
    pub(crate) fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.peers.get(&node).and_then(|peer| peer.incarnation)
    }

    /// The members that this node hears over connections and has long not met in the gossip: their datagrams do not come through.
    pub(crate) fn missed_by_gossip(&self, now: Instant) -> impl Iterator<Item = NodeId> + '_ {
        let missed = self.peers.iter().filter(move |(_, peer)| peer.is_missed_by_gossip(now));
        missed.map(|(node, _)| *node)
    }

    /// All other members with their status.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (NodeId, NodeStatus)> + '_ {
        self.peers.iter().map(|(node, peer)| (*node, peer.status))
    }

    /// The members that are believed to be down.
    pub(crate) const fn down(&self) -> &BTreeSet<NodeId> {
        &self.down
    }

    /// How many other members there are.
    pub(crate) fn n_peers(&self) -> usize {
        self.peers.len()
    }

    /// The other members that are believed to live.
    pub(crate) fn alive(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers().filter(|(_, status)| *status == NodeStatus::Alive).map(|(node, _)| node)
    }

    /// Whether anybody who lives takes `node` for silent, although that may move nothing yet.
    pub(crate) fn is_accused(&self, node: NodeId) -> bool {
        let lives = |voter: NodeId| {
            voter == self.me || self.status(voter).is_some_and(|status| status != NodeStatus::Down)
        };
        self.peers.get(&node).is_some_and(|peer| peer.votes.keys().any(|voter| lives(*voter)))
    }

    /// A heartbeat, or any other authenticated proof that the node lives.
    pub(crate) fn on_heard(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        out: &mut Vec<Act>,
    ) {
        let (me, rules) = (self.me, self.rules);
        let Some(peer) = self.stir(node) else { return };
        out.extend(peer.renew(now, incarnation, me, rules).map(Act::Unvote));
        peer.heard = Some(now);
        peer.refused = None;
        peer.probe = None;
        out.extend(peer.take_vote(me).map(Act::Unvote));
        if peer.status != NodeStatus::Alive {
            // Others may still vote; to hear it oneself outweighs what others do not hear, but only until the next verdict.
            self.judge(now);
        }
    }

    /// A connection was refused or reset.
    pub(crate) fn on_refused(&mut self, now: Instant, node: NodeId, out: &mut Vec<Act>) {
        let Some(peer) = self.stir(node) else { return };
        if peer.refused.is_none() {
            peer.refused = Some(now);
        }
        let suspicion = Suspicion::Refused;
        self.vote(now, node, suspicion, out);
        self.judge(now);
    }

    /// Another observer's vote, from its gossip or straight from it.
    ///
    /// What gossip brought, gossip takes back. What came directly has to be repeated, since the word that takes it back may get
    /// lost.
    pub(crate) fn on_vote(&mut self, now: Instant, voter: NodeId, vote: Vote, by_gossip: bool) {
        let rules = self.rules;
        let Some(peer) = self.stir(vote.node) else { return };
        let refuted = peer.refutes(now, vote.incarnation, rules);
        if vote.suspicion == Suspicion::Refused && peer.refused.is_none() && !refuted {
            peer.refused = Some(now);
        }
        let lasts = by_gossip || peer.votes.get(&voter).is_some_and(|held| held.until.is_none());
        let until = (!lasts).then(|| now + VOTE_TTL);
        let Vote { incarnation, suspicion, .. } = vote;
        peer.votes.insert(voter, Ballot { incarnation, suspicion, until });
        self.judge(now);
    }

    /// A vote was taken back.
    pub(crate) fn on_unvote(&mut self, now: Instant, voter: NodeId, node: NodeId) {
        let Some(peer) = self.stir(node) else { return };
        if peer.votes.remove(&voter).is_some() {
            if !peer.votes.values().any(|vote| vote.suspicion == Suspicion::Refused) {
                peer.refused = None;
            }
            self.judge(now);
        }
    }

    /// Gossip's own detector changed its mind.
    pub(crate) fn on_gossip(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        up: bool,
        out: &mut Vec<Act>,
    ) {
        let (me, rules) = (self.me, self.rules);
        let Some(peer) = self.stir(node) else { return };
        if peer.incarnation.is_some_and(|known| known > incarnation) {
            return;
        }
        out.extend(peer.renew(now, incarnation, me, rules).map(Act::Unvote));
        if peer.gossip_up != Some(up) {
            peer.gossip_up = Some(up);
            peer.gossip_since = now;
        }
        self.judge(now);
    }

    /// The node said whether it is about to restart.
    pub(crate) fn on_restarting(&mut self, now: Instant, node: NodeId, restarting: bool) {
        if let Some(peer) = self.stir(node) {
            peer.announced = restarting;
            self.judge(now);
        }
    }

    /// Looks at the clock: who is silent, which votes are old.
    pub(crate) fn on_time(&mut self, now: Instant, out: &mut Vec<Act>) {
        self.doubt(now);
        let me = self.me;
        let mut silent = Vec::new();
        let patience = self.patience(now);
        for node in &self.restless {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            peer.votes.retain(|_, vote| vote.until.is_none_or(|until| until > now));
            if !peer.observers.contains(&me)
                || peer.my_vote.is_some()
                || peer.is_heard(now, patience)
            {
                continue;
            }
            match peer.probe {
                None => {
                    self.nonce = self.nonce.wrapping_add(1);
                    peer.probe = Some((self.nonce, now));
                    out.push(Act::Probe(*node, self.nonce));
                }
                Some((_, at)) if now.since(at) >= PROBE_TIMEOUT => silent.push(*node),
                Some(_) => {}
            }
        }
        for node in silent {
            self.vote(now, node, Suspicion::Silent, out);
        }
        self.repeat_votes(now, out);
        self.judge(now);
        self.looked = now;
    }

    /// When [`Membership::on_time`] wants to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines =
            self.restless().flat_map(|(_, peer)| peer.deadlines(self.me, self.doubtful_until));
        deadlines.flatten().filter(|deadline| *deadline > self.looked).min()
    }

    fn patience(&self, now: Instant) -> Duration {
        if now < self.doubtful_until { SILENCE.saturating_mul(2) } else { SILENCE }
    }

    /// M4: whoever was late himself cannot tell whether others were silent.
    ///
    /// Late is measured from the deadline that stood until now. Heartbeats put it off, so an earlier one says nothing.
    fn doubt(&mut self, now: Instant) {
        let late = self.next_deadline().map_or(Duration::ZERO, |expected| now.since(expected));
        if late < LATE || !self.rules.hold(Rule::DoubtOwnEars) {
            return;
        }
        self.doubtful_until = now + VOTE_PERIOD;
        if late >= SILENCE {
            let standing = self.peers.iter_mut().filter(|(_, it)| it.status != NodeStatus::Down);
            for (node, peer) in standing {
                self.restless.insert(*node);
                peer.heard = peer.heard.map(|_| now);
                peer.since = now;
                peer.probe = None;
            }
        }
    }

    fn vote(&mut self, now: Instant, node: NodeId, suspicion: Suspicion, out: &mut Vec<Act>) {
        let me = self.me;
        let Some(peer) = self.stir(node) else { return };
        if !peer.observers.contains(&me)
            || peer.my_vote.is_some_and(|vote| vote.suspicion == suspicion)
        {
            return;
        }
        // A host that refused and now says nothing has gone altogether; one that was silent and refuses has come back.
        let vote = Vote { node, incarnation: peer.incarnation.unwrap_or_default(), suspicion };
        peer.my_vote = Some(vote);
        peer.voted = now;
        let incarnation = vote.incarnation;
        peer.votes.insert(me, Ballot { incarnation, suspicion, until: None });
        out.push(Act::Vote(vote));
    }

    fn repeat_votes(&mut self, now: Instant, out: &mut Vec<Act>) {
        for node in &self.restless {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            let Some(vote) = peer.my_vote else { continue };
            if now.since(peer.voted) >= VOTE_PERIOD {
                peer.voted = now;
                out.push(Act::Vote(vote));
            }
        }
    }

    /// Forms this node's opinion of everybody of whom it may have changed.
    fn judge(&mut self, now: Instant) {
        let (me, rules) = (self.me, self.rules);
        let reachable = self.reachable(now);
        let mut changed = false;
        let mut fallen = false;
        let mut restful = Vec::new();
        for node in &self.restless {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            let status = peer.judge(now, me, &reachable, rules);
            let (was_down, is_down) = (peer.status == NodeStatus::Down, status == NodeStatus::Down);
            if is_down && !was_down {
                self.down.insert(*node);
            } else if was_down && !is_down {
                self.down.remove(node);
            }
            fallen |= is_down != was_down;
            if status != peer.status {
                changed = true;
                peer.status = status;
                self.turned.insert(*node);
            }
            if peer.is_restful(now, me) {
                restful.push(*node);
            }
        }
        for node in restful {
            self.restless.remove(&node);
        }
        if fallen {
            self.reassign(now);
        } else if changed {
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// What a look at every member comes to that a look at the restless ones does not, in words; `None` as long as nobody is overlooked.
    pub(crate) fn overlooked(&self, now: Instant) -> Option<String> {
        let mut all = self.clone();
        all.restless = all.peers.keys().copied().collect();
        let [all, usual] = [all, self.clone()].map(|mut membership| {
            membership.judge(now);
            let standing = membership.peers.iter().filter(|(_, it)| it.status != NodeStatus::Down);
            let standing = standing.map(|(node, _)| *node).chain([self.me]).collect();
            let peers = membership.peers.iter();
            let believed =
                |(node, peer): (&NodeId, &Peer)| (*node, peer.status, peer.observers.clone());
            let believed: Vec<_> = peers.map(believed).collect();
            let watchers: Vec<_> =
                believed.iter().map(|(node, ..)| observers_of(*node, &standing)).collect();
            (believed, membership.down, watchers)
        });
        let watchers: Vec<_> = usual.0.iter().map(|(.., observers)| observers.clone()).collect();
        let is_same = all == usual && usual.2 == watchers;
        (!is_same).then(|| format!("{all:?}, not {usual:?}"))
    }

    /// The observers whose votes count at this moment, of those about whom there are any.
    fn reachable(&self, now: Instant) -> BTreeSet<NodeId> {
        let accused = self.restless().filter(|(_, peer)| !peer.votes.is_empty());
        let jurors: BTreeSet<NodeId> =
            accused.flat_map(|(_, peer)| peer.observers.iter().copied()).collect();
        let may_judge = |node: &NodeId| {
            *node == self.me
                || self.peers.get(node).is_some_and(|peer| {
                    peer.status != NodeStatus::Down && peer.may_judge(now, self.me, self.rules)
                })
        };
        jurors.into_iter().filter(may_judge).collect()
    }
}

#[cfg(test)]
mod tests;
