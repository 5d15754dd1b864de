//! What a whole node says, and in which order.

mod leases;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Config, Input, Node, Output, Ticket};
use crate::catalogue::sample::{ROOT, Sample, key};
use crate::catalogue::{Body, Entry, Member, OperatorRemoval, Release, Role, Run};
use crate::clocks::Finding;
use crate::fact::{Claim, Fact, NodeFacts, Phase};
use crate::id::{AppUid, Incarnation, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::{BootId, StoreId};
use crate::message::Message;
use crate::name::AppName;
use crate::rules::{Rule, Rules};
use crate::spec::sample::service as sample_service;
use crate::spec::{AppSpec, Bytes, Cpu, Reservation};
use crate::time::{Instant, Moment, Reading, WallTime};

const KEY: PublicKey = PublicKey([9; 32]);

fn app() -> AppName {
    "web".parse().unwrap()
}

fn slot(sample: &Sample) -> SlotId {
    SlotId {
        app: AppUid::of(sample.mesh, &app(), 0),
        service: "web".parse().unwrap(),
        index: SlotIndex::Number(0),
    }
}

/// A mesh of one node, and an app whose service is at `revision`.
fn records(sample: &Sample, revision: Revision) -> Vec<Entry> {
    let member =
        Member { key: KEY, name: "node".parse().unwrap(), invitation: None, invited: None };
    let services = BTreeMap::from([("web".parse().unwrap(), sample_service(revision, 1))]);
    let release = Release {
        app: AppUid::of(sample.mesh, &app(), 0),
        version: 2,
        spec: AppSpec { name: app(), services },
        roster: BTreeSet::new(),
    };
    vec![
        sample.genesis.clone(),
        sample.says(ROOT, 1, Body::Member(member)),
        sample.says(ROOT, 1, Body::App(release)),
    ]
}

/// A moment by clocks that agree.
fn at(now: Instant) -> Moment {
    let since = now.since_start();
    Moment { now, reading: Reading::new(since, since), wall: WallTime(0) }
}

fn config(sample: &Sample) -> Config {
    Config {
        mesh: sample.mesh,
        me: NodeId::of(&KEY),
        incarnation: Incarnation(2),
        facts: NodeFacts {
            name: "node".parse().unwrap(),
            capacity: Reservation { cpu: Cpu { millis: 4_000 }, memory: Bytes(1 << 30) },
            version: "0".to_owned(),
            restarting: false,
            clock_off_ms: 0,
            store: None,
            witness_only: false,
            has_twin: false,
        },
        seed: 1,
        store: StoreId(1),
        boot: BootId(1),
    }
}

/// A node, among three others, that has to decide when to act, and its time.
struct Script {
    node: Node,
    peers: Vec<NodeId>,
    now: Instant,
}

impl Script {
    fn new(rules: Rules) -> Self {
        let sample = Sample::new();
        let keys = [1, 2, 3].map(|n| PublicKey([n; 32]));
        let mut known = records(&sample, Revision { number: 1, id: 1 });
        for (key, name) in keys.into_iter().zip(["a", "b", "c"]) {
            let name = name.parse().unwrap();
            let member = Member { key, name, invitation: None, invited: None };
            known.push(sample.says(ROOT, 1, Body::Member(member)));
        }
        let node = Node::new(Moment::default(), config(&sample), known, []).with_rules(rules);
        let peers = keys.map(|key| NodeId::of(&key)).to_vec();
        let mut script = Self { node, peers, now: Instant::ZERO };
        script.hear(Input::Began);
        script
    }

    fn hear(&mut self, input: Input) {
        self.node.handle(at(self.now), input, &mut Vec::new());
    }

    /// Time passes, and `heard` are heard four times in a second.
    fn wait(&mut self, wait: Duration, heard: &[NodeId]) {
        let end = self.now + wait;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(250)).min(end);
            for node in heard {
                self.hear(Input::Heard { node: *node, incarnation: Incarnation(1) });
            }
            self.hear(Input::Wake);
        }
    }

    fn claims(&self) -> usize {
        self.node.claims().count()
    }
}

#[test]
fn c1_who_has_heard_nobody_claims_nothing_for_a_while() {
    let claims = Rules::with_and_without(Rule::WarmUp, |rules| {
        let mut script = Script::new(rules);
        script.wait(Duration::from_millis(4_500), &[]);
        let early = script.claims();
        script.wait(Duration::from_secs(4), &[]);
        assert_eq!(script.claims(), 1);
        early
    });
    assert_eq!(claims, [0, 1]);
}

/// Three of four nodes are gone: one blow, and there may be more to it.
#[test]
fn c9_after_a_blow_nothing_is_claimed_until_it_is_over() {
    let claims = Rules::with_and_without(Rule::Settle, |rules| {
        let mut script = Script::new(rules);
        let peers = script.peers.clone();
        let sample = Sample::new();
        let intent = Claim::intent(slot(&sample), Revision { number: 1, id: 1 }, 0);
        let held = Claim { phase: Phase::Ready, seq: 1, ..intent };
        script.hear(Input::GossipUp { node: peers[0], incarnation: Incarnation(1) });
        let fact = Fact::Claim(held);
        script.hear(Input::Published { node: peers[0], incarnation: Incarnation(1), fact });
        script.wait(Duration::from_secs(12), &peers);
        assert!(script.node.is_warm());
        assert_eq!(script.claims(), 0, "it is held");
        while script.node.down().len() < peers.len() {
            script.wait(Duration::from_millis(250), &[]);
        }
        script.wait(Duration::from_millis(2_500), &[]);
        let early = script.claims();
        script.wait(Duration::from_secs(1), &[]);
        assert_eq!(script.claims(), 1);
        early
    });
    assert_eq!(claims, [0, 1]);
}

/// K4, when the agent was restarted while a replica was being replaced and finds both: whoever hears of the release knows already
/// that somebody serves.
#[test]
fn a_successor_is_announced_before_its_predecessor_is_let_go() {
    let sample = Sample::new();
    for (old, new) in [(1, 2), (2, 1)] {
        let (old, new) = (Revision { number: 1, id: old }, Revision { number: 2, id: new });
        let now = Instant::ZERO;
        let mut node = Node::new(at(now), config(&sample), records(&sample, new), []);
        let mut out = Vec::new();
        for revision in [old, new] {
            let found = Input::Found { slot: slot(&sample), revision, ended: None, fence: None };
            node.handle(at(now), found, &mut out);
        }
        node.handle(at(now), Input::Began, &mut out);
        let said: Vec<(Revision, Phase)> = out
            .iter()
            .filter_map(|output| {
                let Output::Publish(Fact::Claim(claim)) = output else { return None };
                Some((claim.revision, claim.phase))
            })
            .collect();
        assert_eq!(said, [(new, Phase::Ready), (old, Phase::Released)]);
    }
}

/// P1: an acknowledgement of a record that counts nowhere would be a promise that nobody keeps.
#[test]
fn what_became_void_while_the_disk_wrote_is_refused() {
    let sample = Sample::new();
    let hand = key(5);
    let mut known = records(&sample, Revision { number: 1, id: 1 });
    known.push(sample.operator(hand, Role::Deployer));
    let mut node = Node::new(Moment::default(), config(&sample), known, []);
    let app = AppUid::of(sample.mesh, &app(), 0);
    let stop = sample.says(hand, 1, Body::Run(Run { app, running: false }));
    let removal = Body::OperatorRemoval(OperatorRemoval { key: hand, keep: Vec::new() });
    let removal = sample.says(ROOT, 1, removal);
    let mut out = Vec::new();
    let mut hear = |input, out: &mut Vec<Output>| {
        node.handle(at(Instant::ZERO), input, out);
    };
    let ticket = Ticket(1);
    hear(Input::Began, &mut out);
    hear(Input::Submit { ticket, entries: vec![stop.clone()] }, &mut out);
    let message = Message::Records(vec![removal]);
    hear(Input::Said { from: NodeId::of(&PublicKey([8; 32])), message }, &mut out);
    out.clear();
    hear(Input::Stored { ticket }, &mut out);
    let answer = out.iter().find_map(|output| {
        let Output::Submitted { stored_on, refused, .. } = output else { return None };
        Some((stored_on.clone(), refused.iter().map(|(hash, _)| *hash).collect::<Vec<_>>()))
    });
    assert_eq!(answer, Some((Vec::new(), vec![stop.hash])));
    assert!(out.contains(&Output::Erase(vec![stop.hash])), "its bytes are of no use");
    assert!(node.state().apps[&app].running);
}

#[test]
fn a_clock_that_is_off_is_told_to_the_others_and_once_to_people() {
    let mut script = Script::new(Rules::ALL);
    let off = |off_ms| Input::Clock(Finding { off_ms, doubt: None });
    let mut said = |input| {
        let mut out = Vec::new();
        script.node.handle(at(script.now), input, &mut out);
        let facts = out.iter().find_map(|output| {
            let Output::Publish(Fact::Node(facts)) = output else { return None };
            Some(facts.clock_off_ms)
        });
        let n_events = out.iter().filter(|output| matches!(output, Output::Event(_))).count();
        let problems = script.node.overview(script.now).problems;
        (facts, n_events, problems.into_iter().filter(|it| it.contains("clock")).collect())
    };
    let warned: Vec<String> = said(off(3_600_000)).2;
    assert_eq!(warned.len(), 1);
    assert!(warned[0].starts_with("the wall clock of node is 1 h ahead of the mesh's: "));
    let (facts, n_events, warned) = said(off(-12_000));
    assert_eq!((facts, n_events), (Some(-12_000), 0), "it is still off");
    assert!(warned[0].contains("12 s behind the mesh's"), "{warned:?}");
    assert_eq!(said(off(0)), (Some(0), 1, vec![]));
    let (facts, n_events, warned) =
        said(Input::Clock(Finding { off_ms: 0, doubt: Some(Duration::from_secs(60)) }));
    assert_eq!((facts, n_events), (None, 0));
    assert!(warned[0].contains("1 min apart"), "{warned:?}");
}

#[test]
fn what_another_node_says_of_its_clock_is_shown() {
    let mut script = Script::new(Rules::ALL);
    let facts = NodeFacts { clock_off_ms: -3_600_000, ..config(&Sample::new()).facts };
    let (node, incarnation) = (script.peers[0], Incarnation(1));
    script.hear(Input::Published { node, incarnation, fact: Fact::Node(facts) });
    let problems = script.node.overview(script.now).problems;
    assert!(problems.iter().any(|it| it.contains("the wall clock of a is 1 h behind")));
}

#[test]
fn the_clock_of_a_node_that_is_down_is_nobodys_concern() {
    let mut script = Script::new(Rules::ALL);
    let peers = script.peers.clone();
    let facts = NodeFacts { clock_off_ms: -3_600_000, ..config(&Sample::new()).facts };
    let (node, incarnation) = (peers[0], Incarnation(1));
    script.hear(Input::Published { node, incarnation, fact: Fact::Node(facts) });
    script.wait(Duration::from_secs(5), &peers);
    let is_told = |script: &Script| {
        script.node.overview(script.now).problems.iter().any(|it| it.contains("wall clock of a"))
    };
    assert!(is_told(&script));
    script.wait(Duration::from_secs(30), &[]);
    assert!(script.node.down().contains(&node));
    assert!(!is_told(&script));
}

/// M3: the others would take over what this node holds.
#[test]
fn nothing_takes_the_announcement_of_a_restart_back() {
    let mut script = Script::new(Rules::ALL);
    let inputs = [
        Input::Restarting,
        Input::Clock(Finding { off_ms: 3_600_000, doubt: None }),
        Input::Clock(Finding { off_ms: 0, doubt: None }),
        Input::Wake,
    ];
    let mut out = Vec::new();
    for input in inputs {
        script.node.handle(at(script.now), input, &mut out);
    }
    let said = out.iter().filter_map(|output| {
        let Output::Publish(Fact::Node(facts)) = output else { return None };
        Some((facts.restarting, facts.clock_off_ms))
    });
    assert_eq!(said.collect::<Vec<_>>(), [(true, 0), (true, 3_600_000), (true, 0)]);
}
