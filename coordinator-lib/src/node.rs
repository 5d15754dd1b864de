//! The whole of one agent's decisions: catalogue, membership and claims behind one [`Node::handle`].
//!
//! The driver feeds it [`Input`]s and carries out [`Output`]s in their order; it asks [`Node::next_deadline`] when to send
//! [`Input::Wake`]. Nothing here waits, fails or looks at the world, so the simulator runs this very code.

mod carry;
mod caution;
mod clock;
mod io;
mod leases;
mod notes;
mod oversight;
mod records;
mod serve;
mod show;
mod twin;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::io::{Config, Input, Output, Ticket};
use self::records::Desk;
use crate::catalogue::{Catalogue, Entry, State};
use crate::clocks::Finding;
use crate::event::{Severity, Subject};
use crate::fact::{Claim, Fact, FactKey, NodeFacts};
use crate::id::{AppUid, Incarnation, NodeId, Revision, SlotId};
use crate::lease::exclusive::{Fence, Holder, LeaseId, Register, WitnessId};
use crate::lease::{Claims, Effect, Leases, Strays, Terms, World};
use crate::membership::{Act, Membership};
use crate::message::Message;
use crate::prng::Prng;
use crate::rules::Rules;
use crate::time::{Instant, Moment, Reading, WallTime};
use crate::view::NodeStatus;

/// The world as claims see it. A macro, because it borrows everything of a node but the claims.
macro_rules! world {
    ($node:expr, $now:expr, $settled:expr) => {
        World {
            now: $now,
            state: $node.catalogue.state(),
            membership: &$node.membership,
            facts: &$node.facts,
            own: &$node.config.facts,
            warm: $node.warm,
            reading: $node.reading,
            leases: &$node.leases,
            settled: $settled,
            root: $node.catalogue.root(),
            facts_version: $node.facts_version,
            strays: $node.strays(),
            rules: $node.rules,
        }
    };
}
use world;

/// Whether people were told that this node was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parted {
    Unsaid,
    Said,
}

/// One agent's decisions.
#[derive(Debug, Clone)]
pub struct Node {
    config: Config,
    rules: Rules,
    catalogue: Catalogue,
    membership: Membership,
    facts: BTreeMap<NodeId, NodeFacts>,
    /// Rises whenever somebody said something else of itself.
    facts_version: u64,
    claims: Claims,
    leases: Leases,
    /// What the lease clocks showed when this node was last asked something.
    reading: Reading,
    desk: Desk,
    prng: Prng,
    began: Option<Instant>,
    first_heard: Option<Instant>,
    warm: bool,
    deaths: VecDeque<Instant>,
    /// What was said last of this node's wall clock.
    clock: Finding,
    down: BTreeSet<NodeId>,
    watched: BTreeSet<NodeId>,
    published_root: Option<u64>,
    /// Whether this node has said what it has.
    introduced: bool,
    /// What people were told of this node's removal.
    parted: Parted,
    /// What becomes of containers that the catalogue does not know, while nobody was asked for records that the store may have lost.
    strays: Strays,
    decisions: BTreeMap<SlotId, VecDeque<(Instant, String)>>,
    /// Who was told directly of this node's vote about a node.
    told: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Earliest moment at which time alone changes something in this type itself.
    wake: Option<Instant>,
    /// When the witnesses of a slot were last changed by this node.
    changed: BTreeMap<SlotId, Instant>,
    /// When it was last looked whether they should be.
    mended: Instant,
    /// Earliest moment at which it changes something about a lease.
    leases_wake: Option<Instant>,
    /// What became of leases in this step, for people.
    notes: Vec<(SlotId, Severity, String)>,
    /// What has befallen this node in this step, for people.
    alarms: Vec<(Severity, String)>,
    /// The parked apps that people were told of.
    parked: BTreeSet<AppUid>,
    /// When to tell all members next that another agent lives under this node's identity; `None` while this node did not find out itself.
    twin_tell: Option<Instant>,
}

impl Node {
    /// An agent that knows the records of its own store, and what it vouches for as a witness (W4).
    #[must_use]
    pub fn new(
        at: Moment,
        config: Config,
        records: Vec<Entry>,
        registers: impl IntoIterator<Item = (LeaseId, Register)>,
    ) -> Self {
        let now = at.now;
        let mut catalogue = Catalogue::new(config.mesh);
        catalogue.extend(records);
        let holder = Holder { node: config.me, boot: config.boot, incarnation: config.incarnation };
        let mut node = Self {
            rules: Rules::ALL,
            catalogue,
            membership: Membership::new(config.me),
            facts: BTreeMap::new(),
            facts_version: 0,
            claims: Claims::new(config.me, config.incarnation, config.seed),
            leases: Leases::new(at.reading, holder, config.store, config.seed, registers),
            reading: at.reading,
            desk: Desk::default(),
            prng: Prng::new(config.seed),
            began: None,
            first_heard: None,
            warm: false,
            deaths: VecDeque::new(),
            clock: Finding::default(),
            down: BTreeSet::new(),
            watched: BTreeSet::new(),
            published_root: None,
            introduced: false,
            parted: Parted::Unsaid,
            strays: Strays::Stop,
            decisions: BTreeMap::new(),
            told: BTreeMap::new(),
            wake: None,
            changed: BTreeMap::new(),
            mended: now,
            leases_wake: None,
            notes: Vec::new(),
            alarms: Vec::new(),
            parked: BTreeSet::new(),
            twin_tell: None,
            config,
        };
        node.meet_members(now);
        node.leases.note_ended(at.reading, node.catalogue.state());
        node.parked = node.catalogue.state().parked.keys().copied().collect();
        node
    }

    /// The same node under other rules: for tests that show what a rule is good for.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self.membership.set_rules(rules);
        self.catalogue.set_rules(rules);
        self.leases.set_rules(rules);
        self
    }

    /// The same node with a store that may have lost records: until it has compared its catalogue with a peer it stops nothing as
    /// unknown (C12).
    #[must_use]
    pub const fn doubtful(mut self) -> Self {
        self.strays = Strays::Keep;
        self
    }

    fn strays(&self) -> Strays {
        let was_asked = !self.desk.exchange.synced().is_empty();
        let is_alone = self.membership.peers().next().is_none();
        if was_asked || is_alone { Strays::Stop } else { self.strays }
    }

    /// This node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.config.me
    }

    /// What holds.
    #[must_use]
    pub const fn state(&self) -> &State {
        self.catalogue.state()
    }

    /// The records.
    #[must_use]
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Whether this node has heard enough to claim.
    #[must_use]
    pub const fn is_warm(&self) -> bool {
        self.warm
    }

    /// What this node believes of `node`; `None` for a stranger.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<NodeStatus> {
        self.membership.status(node)
    }

    /// The members that are believed to be down.
    #[must_use]
    pub const fn down(&self) -> &BTreeSet<NodeId> {
        &self.down
    }

    /// This node's claims.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.mine().map(crate::lease::Mine::claim)
    }

    /// The claims of other nodes, as far as they are known.
    pub fn known_claims(&self) -> impl Iterator<Item = (NodeId, &Claim)> {
        self.claims.book.all().map(|(node, held)| (node, &held.claim))
    }

    /// When to send [`Input::Wake`]; `None` while nothing happens by time alone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.wake,
            self.membership.next_deadline(),
            self.claims.next_deadline(),
            self.desk.next_deadline(),
            self.leases_wake,
            self.twin_tell,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Takes note of what happened, and says what is to be done.
    pub fn handle(&mut self, at: Moment, input: Input, out: &mut Vec<Output>) {
        let Moment { now, reading, wall } = at;
        self.reading = reading;
        let epoch = self.membership.epoch();
        let mut acts = Vec::new();
        let mut effects = Vec::new();
        let is_about_leases = input.is_about_leases();
        let matters = self.take_in(now, wall, input, &mut acts, &mut effects, out);
        let matters = self.leases.take_news() || matters;
        self.membership.take_pending(&mut acts);
        self.carry_out_acts(now, acts, out);
        let changed = self.membership.epoch() != epoch;
        if changed {
            self.note_deaths(now, wall, out);
            self.rewatch(out);
        }
        if matters || changed {
            self.reconcile(now, &mut effects);
        }
        self.carry_out(now, wall, effects, out);
        if is_about_leases || matters || changed {
            self.tend_leases(now, out);
        }
        let mut extensions = Vec::new();
        self.claims.extend(self.leases.take_extended(), &mut extensions);
        self.carry_out(now, wall, extensions, out);
        self.leases.send(out);
        self.tell_of_twin(now, out);
        self.tell_notes(now, wall, out);
        self.note_parting(wall, out);
        self.publish_self(out);
    }

    /// Feeds one input to the part it concerns. Returns whether claims have to be looked at.
    fn take_in(
        &mut self,
        now: Instant,
        wall: WallTime,
        input: Input,
        acts: &mut Vec<Act>,
        effects: &mut Vec<Effect>,
        out: &mut Vec<Output>,
    ) -> bool {
        match input {
            Input::Heard { node, incarnation } => {
                self.first_heard.get_or_insert(now);
                self.membership.on_heard(now, node, incarnation, acts);
                false
            }
            Input::Refused { node } => {
                self.membership.on_refused(now, node, acts);
                false
            }
            Input::Wake => {
                self.membership.on_time(now, acts);
                self.desk_wake(now, out);
                self.leases.wake(self.reading, self.catalogue.state(), out);
                true
            }
            Input::GossipUp { node, incarnation } => {
                self.first_heard.get_or_insert(now);
                self.membership.on_gossip(now, node, incarnation, true, acts);
                true
            }
            Input::GossipDown { node, incarnation } => {
                self.membership.on_gossip(now, node, incarnation, false, acts);
                true
            }
            Input::Published { node, incarnation, fact } => {
                self.on_fact(now, node, incarnation, fact, out)
            }
            Input::Withdrawn { node, incarnation, key } => {
                match key {
                    FactKey::Vote(accused) => self.membership.on_unvote(now, node, accused),
                    FactKey::Claim(..) => self.claims.book.withdraw(node, incarnation, key),
                    FactKey::Root | FactKey::Node => {}
                }
                true
            }
            Input::Said { from, message } => {
                self.on_message(now, from, message, acts, effects, out)
            }
            Input::Observed { slot, revision, observed } => {
                self.claims.observe(now, &slot, revision, observed, effects);
                true
            }
            Input::Found { slot, revision, ended, fence } => {
                self.adopt(now, (slot, revision), ended, fence, effects);
                false
            }
            Input::Persisted { ticket } => self.on_persisted(ticket),
            Input::PersistFailed { reason } => self.on_persist_failed(wall, &reason, out),
            Input::Began => {
                self.begin(now, out);
                true
            }
            Input::Clock(finding) => self.on_clock(wall, finding, out),
            Input::Restarting => {
                // Remembered: whatever is published after it must not take it back.
                self.config.facts.restarting = true;
                out.push(Output::Publish(Fact::Node(self.config.facts.clone())));
                false
            }
            Input::Twin => self.find_twin(now, out),
            Input::Submit { ticket, entries } => {
                self.on_submit(ticket, entries, out);
                false
            }
            Input::Stored { ticket } => self.on_stored(now, ticket, out),
            Input::StoreFailed { ticket, reason } => {
                self.on_store_failed(wall, ticket, &reason, out);
                false
            }
        }
    }

    fn begin(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.began = Some(now);
        self.rewatch(out);
    }

    fn adopt(
        &mut self,
        now: Instant,
        (slot, revision): (SlotId, Revision),
        ended: Option<Option<i32>>,
        fence: Option<Fence>,
        effects: &mut Vec<Effect>,
    ) {
        let terms = Terms::of(self.catalogue.state(), &slot);
        if let Some((terms, fence)) = terms.zip(fence) {
            self.leases.resume(self.reading, &slot, &terms, fence);
        }
        let app = self.catalogue.state().apps.get(&slot.app);
        let template = app
            .and_then(|app| app.release.spec.service(&slot.service))
            .map(|spec| spec.template.clone());
        self.claims.adopt(now, slot.clone(), revision, template.as_ref(), ended.is_some(), fence);
        if let Some(code) = ended {
            let observed = crate::workload::Observed::Ended { code, oom: false };
            self.claims.observe(now, &slot, revision, observed, effects);
        }
    }

    fn on_fact(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        fact: Fact,
        out: &mut Vec<Output>,
    ) -> bool {
        match fact {
            Fact::Claim(claim) => self.claims.put(now, node, incarnation, claim, true),
            Fact::Root(root) => {
                let ask = self.desk.exchange.on_root(now, node, root, &self.catalogue);
                out.extend(ask.map(|message| Output::Send { to: node, message }));
            }
            Fact::Node(facts) => {
                self.membership.on_restarting(now, node, facts.restarting);
                if self.facts.get(&node) != Some(&facts) {
                    self.facts_version = self.facts_version.wrapping_add(1);
                    self.facts.insert(node, facts);
                }
                self.claims.book.complete(node, incarnation);
            }
            Fact::Vote(vote) => self.membership.on_vote(now, node, vote, true),
        }
        true
    }

    fn on_message(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
        acts: &mut Vec<Act>,
        effects: &mut Vec<Effect>,
        out: &mut Vec<Output>,
    ) -> bool {
        match message {
            Message::Announce(claim) => {
                let incarnation = self.membership.incarnation(from).unwrap_or_default();
                self.claims.put(now, from, incarnation, claim, false);
            }
            Message::Vote(vote) => self.membership.on_vote(now, from, vote, false),
            Message::Unvote(vote) => self.membership.on_unvote(now, from, vote.node),
            Message::Probe { nonce } => {
                let message = Message::Alive { nonce, incarnation: self.config.incarnation };
                out.push(Output::Send { to: from, message });
                return false;
            }
            Message::Alive { incarnation, .. } => {
                self.membership.on_heard(now, from, incarnation, acts);
                return false;
            }
            Message::Yield { slot, revision, nonce } => {
                let world = world!(self, now, true);
                self.claims.on_yield(&world, from, &slot, revision, nonce, effects);
            }
            Message::Keep { slot, nonce } => self.claims.on_keep(now, from, &slot, nonce, effects),
            Message::Ask(requests) => {
                let state = self.catalogue.state();
                for (lease, request) in requests {
                    self.leases.ask(self.reading, state, (from, &lease, request), out);
                }
                return false;
            }
            Message::Word { store, answers } => {
                let (witness, state) = (WitnessId { node: from, store }, self.catalogue.state());
                for (lease, answer) in answers {
                    self.leases.answer(self.reading, state, (witness, &lease, answer), out);
                }
                return false;
            }
            Message::Twin { node, boot } => return self.on_twin(from, node, boot, out),
            Message::Free { slot, token } => {
                self.leases.hurry(self.reading, &slot, token);
                return false;
            }
            Message::Records(entries) => return self.on_records(now, from, entries, out),
            Message::Stored(hashes) => self.on_peer_stored(from, &hashes, out),
            Message::Digest(_) | Message::Have { .. } | Message::Want(_) => {
                self.on_exchange(from, &message, out);
                return false;
            }
        }
        true
    }

    fn reconcile(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.wake = None;
        self.warm_up(now);
        if self.began.is_none() {
            return;
        }
        let settled = self.is_settled(now);
        for node in self.membership.take_turned() {
            self.claims.turned(node);
        }
        let world = world!(self, now, settled);
        self.claims.reconcile(&world, effects);
    }

    /// Whether this node was removed from the mesh.
    pub(crate) fn is_parted(&self) -> bool {
        self.catalogue.state().removed_nodes.contains(&self.config.me)
    }

    /// Brings membership in line with the catalogue. A node that was removed has nobody left (M7).
    fn meet_members(&mut self, now: Instant) {
        let nodes = self.catalogue.state().nodes.keys().copied();
        let members: BTreeSet<NodeId> = nodes.filter(|_| !self.is_parted()).collect();
        let gone: Vec<NodeId> = self
            .membership
            .peers()
            .map(|(node, _)| node)
            .filter(|n| !members.contains(n))
            .collect();
        for node in gone {
            self.claims.book.forget(node);
            self.facts_version = self.facts_version.wrapping_add(1);
            self.facts.remove(&node);
            self.down.remove(&node);
            self.told.remove(&node);
        }
        self.membership.set_members(now, &members);
    }

    fn note_parting(&mut self, wall: WallTime, out: &mut Vec<Output>) {
        let now =
            if self.began.is_some() && self.is_parted() { Parted::Said } else { Parted::Unsaid };
        let before = std::mem::replace(&mut self.parted, now);
        if (before, now) == (Parted::Unsaid, Parted::Said) {
            let text = "this node was removed from the mesh: it stops what it runs";
            let subject = Subject::Node(self.config.me);
            self.tell(wall, Severity::Error, subject, text.to_owned(), out);
        }
    }

    fn rewatch(&mut self, out: &mut Vec<Output>) {
        let watched = self.membership.watched();
        if watched != self.watched {
            self.watched.clone_from(&watched);
            out.push(Output::Watch(watched));
        }
    }

    /// What this node has comes behind its claims: whoever reads it knows that all claims of this life have been said.
    fn publish_self(&mut self, out: &mut Vec<Output>) {
        if self.began.is_none() {
            return;
        }
        if !self.introduced {
            self.introduced = true;
            out.push(Output::Publish(Fact::Node(self.config.facts.clone())));
        }
        let root = self.catalogue.root();
        if self.published_root != Some(root) {
            self.published_root = Some(root);
            out.push(Output::Publish(Fact::Root(root)));
        }
    }
}

#[cfg(test)]
mod tests;
