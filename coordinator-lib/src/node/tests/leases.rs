//! What a node tells of leases and of parked apps: on being asked, and by itself when something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{KEY, at, config};
use crate::catalogue::sample::{ROOT, Sample};
use crate::catalogue::{Body, Entry, Member, Release};
use crate::event::Severity;
use crate::fact::{Claim, Fact, NodeFacts, Phase};
use crate::id::{AppUid, Incarnation, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::{BootId, StoreId, Timing, Token, WitnessId};
use crate::message::Message;
use crate::node::{Input, Node, Output};
use crate::rules::{Rule, Rules};
use crate::spec::sample::service;
use crate::spec::{AppSpec, Guarantee};
use crate::time::Instant;
use crate::view::{LeaseQuery, LeaseView, Pursuit};
use crate::workload::{Do, Observed};

const REVISION: Revision = Revision { number: 1, id: 1 };
const ALL: LeaseQuery = LeaseQuery { app: None, after: None, concerned: false };

/// The app `db` with so many replicas that never run twice, and these witnesses.
fn exclusive(sample: &Sample, replicas: u32, roster: BTreeSet<WitnessId>) -> (AppUid, Entry) {
    let name = "db".parse().unwrap();
    let app = AppUid::with_roster(sample.mesh, &name, 0, &roster);
    let guarantee = Guarantee::Exclusive { ttl: Timing::DEFAULT_TTL };
    let spec = crate::spec::ServiceSpec { guarantee, ..service(REVISION, replicas) };
    let services = BTreeMap::from([("db".parse().unwrap(), spec)]);
    let release = Release { app, version: 1, spec: AppSpec { name, services }, roster };
    (app, sample.says(ROOT, 1, Body::App(release)))
}

fn member(sample: &Sample, key: PublicKey, name: &str) -> Entry {
    let name = name.parse().unwrap();
    sample.says(ROOT, 1, Body::Member(Member { key, name, invitation: None, invited: None }))
}

fn witness(key: PublicKey, store: u128) -> WitnessId {
    WitnessId { node: NodeId::of(&key), store: StoreId(store) }
}

/// One node, whose disk and containers do at once what they are asked for.
struct Alone {
    node: Node,
    now: Instant,
    told: Vec<(Severity, String)>,
}

impl Alone {
    fn new(records: Vec<Entry>) -> Self {
        let mut alone = Self::before_it_begins(records);
        alone.hear(Input::Began);
        alone
    }

    fn before_it_begins(records: Vec<Entry>) -> Self {
        let sample = Sample::new();
        let known = [vec![sample.genesis.clone(), member(&sample, KEY, "node")], records].concat();
        let node = Node::new(at(Instant::ZERO), config(&sample), known, []);
        Self { node, now: Instant::ZERO, told: Vec::new() }
    }

    fn hear(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.node.handle(at(self.now), input, &mut out);
            for output in out {
                inputs.extend(self.carry_out(output));
            }
        }
    }

    fn carry_out(&mut self, output: Output) -> Vec<Input> {
        if let Output::Persist { ticket, then, .. } = output {
            let me = self.node.id();
            let said = then.into_iter().filter(|(to, _)| *to == me);
            let said = said.map(|(_, message)| Input::Said { from: me, message });
            std::iter::once(Input::Persisted { ticket }).chain(said).collect()
        } else if let Output::Do { slot, revision, job } = output {
            let observed = match job {
                Do::Start => Observed::Started,
                Do::Probe => Observed::Probed { failure: None },
                Do::Stop => Observed::Stopped,
                Do::Remove => Observed::Removed,
            };
            vec![Input::Observed { slot, revision, observed }]
        } else if let Output::Event(event) = output {
            self.told.push((event.severity, event.text));
            Vec::new()
        } else {
            Vec::new()
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(100);
            self.hear(Input::Wake);
        }
    }

    fn leases(&self, query: &LeaseQuery) -> Vec<LeaseView> {
        self.node.leases(at(self.now).reading, query)
    }

    /// How often a line was told that has these words in it.
    fn n_told(&self, words: &str) -> usize {
        self.told.iter().filter(|(_, text)| text.contains(words)).count()
    }
}

#[test]
fn a_node_tells_what_it_holds_and_what_it_has_granted() {
    let sample = Sample::new();
    let (app, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let mut alone = Alone::before_it_begins(vec![release]);
    let seen = alone.leases(&ALL);
    assert_eq!((seen.len(), seen[0].pursuit, seen[0].testimony), (1, None, None), "only wanted");
    assert!(alone.leases(&LeaseQuery { concerned: true, ..ALL }).is_empty());

    alone.hear(Input::Began);
    alone.wait(Duration::from_secs(2));
    let seen = alone.leases(&ALL).remove(0);
    assert_eq!((seen.slot.app, seen.name.as_str(), seen.wanted), (app, "db/db/0", true));
    let Some(Pursuit::Holding { token, left }) = seen.pursuit else { panic!("{seen:?}") };
    let granted = seen.testimony.and_then(|it| it.grant).unwrap();
    assert_eq!((granted.node, granted.token), (alone.node.id(), token));
    // The holder's time ends first (S1).
    assert!(left < granted.left && granted.left <= Timing::DEFAULT_TTL, "{left:?} {granted:?}");
    assert!(seen.testimony.unwrap().vouches);

    let reason = "no space".to_owned();
    alone.hear(Input::PersistFailed { reason });
    assert!(!alone.leases(&ALL)[0].testimony.unwrap().vouches);
}

#[test]
fn leases_are_told_in_parts_in_their_order_and_of_one_app() {
    let sample = Sample::new();
    let (app, release) = exclusive(&sample, 1_500, [witness(KEY, 1)].into());
    let alone = Alone::before_it_begins(vec![release]);
    let first = alone.leases(&ALL);
    let last = first.last().unwrap().slot.clone();
    assert_eq!((first.len(), last.index), (1_000, SlotIndex::Number(999)));
    let rest = alone.leases(&LeaseQuery { after: Some(last), app: Some(app), ..ALL });
    assert_eq!(rest.len(), 500);
    let last = rest.last().unwrap().slot.clone();
    assert!(alone.leases(&LeaseQuery { after: Some(last), ..ALL }).is_empty());
    assert!(alone.leases(&LeaseQuery { app: Some(AppUid([0; 16])), ..ALL }).is_empty());
}

#[test]
fn a_witness_says_since_when_a_slot_is_free_and_forgets_what_is_removed() {
    let sample = Sample::new();
    let other = PublicKey([3; 32]);
    let (app, release) = exclusive(&sample, 1, [witness(KEY, 1), witness(other, 3)].into());
    let mut alone = Alone::new(vec![release, member(&sample, other, "other")]);
    alone.wait(Duration::from_secs(20));
    let seen = alone.leases(&ALL).remove(0);
    // The other witness never answers, so this one promises, and grants nothing.
    assert_eq!(seen.testimony.unwrap().promised, Some(alone.node.id()));
    assert!(matches!(seen.pursuit, Some(Pursuit::Asking | Pursuit::Waiting { .. })), "{seen:?}");

    let name = "db".parse().unwrap();
    let removal = sample.says(ROOT, 1, Body::AppRemoval { app, name });
    let from = NodeId::of(&other);
    alone.hear(Input::Said { from, message: Message::Records(vec![removal]) });
    alone.wait(Duration::from_secs(1));
    assert!(alone.leases(&ALL).is_empty());
}

#[test]
fn acquiring_and_releasing_a_lease_are_told_once_with_the_token() {
    let sample = Sample::new();
    let (app, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let mut alone = Alone::new(vec![release]);
    alone.wait(Duration::from_secs(30));
    assert_eq!(alone.n_told("holds r1 by token 1"), 1, "{:?}", alone.told);
    let name = "db".parse().unwrap();
    let removal = sample.says(ROOT, 1, Body::AppRemoval { app, name });
    alone.hear(Input::Said { from: alone.node.id(), message: Message::Records(vec![removal]) });
    alone.wait(Duration::from_secs(5));
    assert_eq!(alone.n_told("releases its lease by token 1"), 1, "{:?}", alone.told);
    assert_eq!(alone.n_told("without being renewed"), 0);
}

#[test]
fn losing_a_lease_is_told_once_with_the_token() {
    let sample = Sample::new();
    let (_, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let mut alone = Alone::new(vec![release]);
    alone.wait(Duration::from_secs(2));
    alone.hear(Input::PersistFailed { reason: "no space".to_owned() });
    alone.wait(Duration::from_secs(20));
    assert_eq!(alone.n_told("its lease by token 1 ended without being renewed"), 1);
    let (severity, _) = alone.told.iter().find(|(_, text)| text.contains("ended")).unwrap();
    assert_eq!(*severity, Severity::Warning);
    let view = &alone.leases(&ALL)[0];
    assert!(view.testimony.unwrap().ended_ago.unwrap() > Duration::from_secs(5), "{view:?}");
}

#[test]
fn a_change_of_witnesses_is_told_once_with_names_and_token() {
    let sample = Sample::new();
    let (_, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let keys = [PublicKey([3; 32]), PublicKey([4; 32])];
    let members = keys.iter().zip(["b", "c"]).map(|(key, name)| member(&sample, *key, name));
    let mut alone = Alone::new(members.chain([release]).collect());
    for (key, store) in keys.into_iter().zip([3, 4]) {
        let (node, incarnation) = (NodeId::of(&key), Incarnation(1));
        alone.hear(Input::Heard { node, incarnation });
        let store = Some(StoreId(store));
        let fact = Fact::Node(NodeFacts { store, ..config(&sample).facts });
        alone.hear(Input::Published { node, incarnation, fact });
    }
    for _ in 0..200 {
        for key in keys {
            let node = NodeId::of(&key);
            alone.hear(Input::Heard { node, incarnation: Incarnation(1) });
        }
        alone.wait(Duration::from_millis(100));
    }
    let words = "changes the witnesses of its lease by token";
    let told: Vec<_> = alone.told.iter().filter(|(_, text)| text.contains(words)).collect();
    assert_eq!(told.len(), 1, "{:?}", alone.told);
    assert!(told[0].1.contains("joins") && told[0].1.contains('b') && told[0].1.contains('c'));
}

/// Two apps of one name with different witnesses, made on two sides of a split.
#[test]
fn a_parked_app_is_shown_and_told_once_and_stops() {
    let sample = Sample::new();
    let made = [1, 2].map(|store| exclusive(&sample, 1, [witness(KEY, store)].into()));
    let (runs, parks) = if made[0].0 < made[1].0 { (0, 1) } else { (1, 0) };
    let slot = |app| SlotId { app, service: "db".parse().unwrap(), index: SlotIndex::Number(0) };
    let mut alone = Alone::new(vec![made[parks].1.clone()]);
    alone.wait(Duration::from_secs(2));
    assert!(alone.node.overview(alone.now).parked.is_empty());
    let message = Message::Records(vec![made[runs].1.clone()]);
    alone.hear(Input::Said { from: alone.node.id(), message });
    alone.wait(Duration::from_secs(5));
    let parked = alone.node.overview(alone.now).parked;
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].uid, parked[0].runs), (made[parks].0, made[runs].0));
    assert_eq!(alone.node.slot_name(&slot(made[parks].0)), "db/db/0", "not by its identity");
    assert_eq!(alone.n_told("is parked: another app called db"), 1, "{:?}", alone.told);
    assert!(alone.node.claims().all(|claim| claim.slot.app != made[parks].0));
}

/// Everybody finds out, and one says so.
#[test]
fn a_parked_app_is_told_by_the_first_node_that_is_heard() {
    let sample = Sample::new();
    let made = [1, 2].map(|store| exclusive(&sample, 1, [witness(KEY, store)].into()).1);
    let me = NodeId::of(&KEY);
    let others = (1..9).map(|n| PublicKey([n; 32]));
    let (before, behind): (Vec<_>, Vec<_>) = others.partition(|key| NodeId::of(key) < me);
    for (key, n_told) in [(before[0], 0), (behind[0], 1)] {
        let mut alone = Alone::new(vec![made[0].clone(), member(&sample, key, "other")]);
        let node = NodeId::of(&key);
        alone.hear(Input::Heard { node, incarnation: Incarnation(1) });
        let message = Message::Records(vec![made[1].clone()]);
        alone.hear(Input::Said { from: node, message });
        assert_eq!(alone.n_told("is parked"), n_told);
    }
}

/// It is no witness any more, and what runs by its leases ends: another agent may do both in its name.
#[test]
fn a_node_with_a_twin_neither_holds_nor_witnesses() {
    let sample = Sample::new();
    let (_, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let holds = Rules::with_and_without(Rule::TwinsRefuse, |rules| {
        let mut alone = Alone::before_it_begins(vec![release.clone()]);
        alone.node = alone.node.with_rules(rules);
        alone.hear(Input::Began);
        alone.wait(Duration::from_secs(2));
        assert_eq!(alone.node.claims().count(), 1);
        alone.hear(Input::Twin);
        alone.hear(Input::Twin);
        alone.wait(Duration::from_secs(20));
        let told = (alone.n_told("another agent lives"), alone.node.overview(alone.now).problems);
        let vouches = alone.leases(&ALL)[0].testimony.unwrap().vouches;
        (alone.node.claims().any(|claim| claim.phase.holds()), vouches, told.0, told.1.len())
    });
    assert_eq!(holds, [(false, false, 1, 1), (true, true, 0, 0)]);
}

/// What it wants for itself decides at once, before it has said anything.
#[test]
fn who_only_witnesses_holds_nothing_and_vouches_for_others() {
    let sample = Sample::new();
    let other = PublicKey([3; 32]);
    let (_, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let available = super::records(&sample, REVISION).pop().unwrap();
    let known = [sample.genesis.clone(), member(&sample, KEY, "node"), release, available];
    let mut config = config(&sample);
    config.facts.witness_only = true;
    let known = known.into_iter().chain([member(&sample, other, "other")]).collect();
    let node = Node::new(at(Instant::ZERO), config, known, []);
    let mut alone = Alone { node, now: Instant::ZERO, told: Vec::new() };
    alone.hear(Input::Began);
    alone.wait(Duration::from_secs(10));
    assert!(alone.node.is_warm());
    assert_eq!(alone.node.claims().count(), 0);
    assert_eq!(alone.leases(&ALL)[0].pursuit, None);
    assert!(alone.node.overview(alone.now).nodes.iter().any(|node| node.witness_only));

    // By the word of another, who does.
    let from = NodeId::of(&other);
    let fact =
        |witness_only| Fact::Node(NodeFacts { witness_only, ..super::config(&sample).facts });
    for witness_only in [false, true] {
        let published =
            Input::Published { node: from, incarnation: Incarnation(1), fact: fact(witness_only) };
        alone.hear(published);
        let nodes = alone.node.overview(alone.now).nodes;
        let seen = nodes.iter().find(|node| node.id == from).unwrap();
        assert_eq!(seen.witness_only, witness_only);
    }
}

/// The later one is told by a member, since nobody passes on what the former one says.
#[test]
fn a_member_passes_the_news_of_a_twin_on_to_it() {
    let sample = Sample::new();
    let other = PublicKey([3; 32]);
    let node = NodeId::of(&other);
    let mut alone = Alone::new(vec![member(&sample, other, "other")]);
    let mut out = Vec::new();
    let news = Message::Twin { node, boot: BootId(7) };
    let from_it = Input::Said { from: node, message: news.clone() };
    alone.node.handle(at(alone.now), from_it, &mut out);
    assert!(out.contains(&Output::Send { to: node, message: news }), "{out:?}");

    let me = alone.node.id();
    let own = |boot| Input::Said { from: node, message: Message::Twin { node: me, boot } };
    alone.hear(own(config(&sample).boot));
    assert_eq!(alone.n_told("another agent lives"), 0, "it is this one who found out");
    alone.hear(own(BootId(7)));
    assert_eq!(alone.n_told("another agent lives"), 1);
}

/// Messages may be lost.
#[test]
fn who_has_a_twin_tells_all_again_and_again() {
    let sample = Sample::new();
    let other = PublicKey([3; 32]);
    let node = NodeId::of(&other);
    let mut alone = Alone::new(vec![member(&sample, other, "other")]);
    let heard = || Input::Heard { node, incarnation: Incarnation(1) };
    alone.hear(heard());
    let mut n_said = 0;
    for input in [Input::Twin, heard(), heard()] {
        let mut out = Vec::new();
        alone.node.handle(at(alone.now), input, &mut out);
        let is_news =
            |it: &&Output| matches!(it, Output::Send { message: Message::Twin { .. }, .. });
        n_said += out.iter().filter(is_news).count();
        alone.now = alone.now + Duration::from_secs(3);
    }
    assert_eq!(n_said, 2);
}

/// Its own lease is over then, whatever its clocks say; and meanwhile nothing is sent to its own.
#[test]
fn who_hears_of_a_later_token_stops_and_sends_connections_there() {
    let sample = Sample::new();
    let (_, release) = exclusive(&sample, 1, [witness(KEY, 1)].into());
    let other = PublicKey([3; 32]);
    let (node, incarnation) = (NodeId::of(&other), Incarnation(1));
    let [yields, goes_on] = Rules::with_and_without(Rule::YieldToLater, |rules| {
        let records = vec![release.clone(), member(&sample, other, "other")];
        let mut alone = Alone::before_it_begins(records);
        alone.node = alone.node.with_rules(rules);
        alone.hear(Input::Began);
        alone.wait(Duration::from_secs(10));
        alone.hear(Input::Heard { node, incarnation });
        let own = alone.node.claims().next().unwrap().clone();
        let serving = |alone: &Alone| alone.node.serving().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(serving(&alone), [alone.node.id()]);
        let token = own.token.map(|token| Token(token.0 + 1));
        for (phase, seq) in [(Phase::Starting, 1), (Phase::Ready, 2)] {
            let fact = Fact::Claim(Claim { token, phase, seq, ..own.clone() });
            alone.hear(Input::Published { node, incarnation, fact });
        }
        (alone.node.claims().any(|claim| claim.phase.holds()), serving(&alone), alone.node.id())
    });
    assert_eq!((yields.0, yields.1), (false, vec![node]));
    assert_eq!((goes_on.0, goes_on.1), (true, vec![goes_on.2, node]));
}
