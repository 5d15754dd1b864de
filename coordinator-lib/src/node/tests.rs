//! What a whole node says, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Config, Input, Node, Output, Ticket};
use crate::catalogue::sample::{ROOT, Sample, key};
use crate::catalogue::{Body, Entry, Member, OperatorRemoval, Release, Role, Run};
use crate::fact::{Fact, NodeFacts, Phase};
use crate::id::{AppUid, Incarnation, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::message::Message;
use crate::name::AppName;
use crate::spec::{
    AppSpec, Bytes, Cpu, Deploy, ImageRef, Limits, Mode, Reservation, RestartPolicy, ServiceSpec,
    StopSignal, Template,
};
use crate::time::{Instant, WallTime};

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

/// A service of one replica without a health check.
fn service(revision: Revision) -> ServiceSpec {
    ServiceSpec {
        template: Template {
            image: ImageRef { name: "image".to_owned(), digest: "sha256:0".to_owned() },
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            labels: BTreeMap::new(),
            restart: RestartPolicy::Always,
            healthcheck: None,
            stop_signal: StopSignal::TERM,
            stop_grace: Duration::from_secs(10),
            limits: Limits::default(),
        },
        revision,
        deploy: Deploy {
            mode: Mode::Replicated(1),
            constraints: Vec::new(),
            spread: Vec::new(),
            replicas_per_node_max: None,
            reservation: Reservation { cpu: Cpu { millis: 100 }, memory: Bytes(1) },
        },
        ports: Vec::new(),
    }
}

/// A mesh of one node, and an app whose service is at `revision`.
fn records(sample: &Sample, revision: Revision) -> Vec<Entry> {
    let member =
        Member { key: KEY, name: "node".parse().unwrap(), invitation: None, invited: None };
    let services = BTreeMap::from([("web".parse().unwrap(), service(revision))]);
    let release = Release {
        app: AppUid::of(sample.mesh, &app(), 0),
        version: 2,
        spec: AppSpec { name: app(), services },
    };
    vec![
        sample.genesis.clone(),
        sample.says(ROOT, 1, Body::Member(member)),
        sample.says(ROOT, 1, Body::App(release)),
    ]
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
        },
        seed: 1,
    }
}

/// K4, when the agent was restarted while a replica was being replaced and finds both: whoever hears of the release knows already
/// that somebody serves.
#[test]
fn a_successor_is_announced_before_its_predecessor_is_let_go() {
    let sample = Sample::new();
    for (old, new) in [(1, 2), (2, 1)] {
        let (old, new) = (Revision { number: 1, id: old }, Revision { number: 2, id: new });
        let now = Instant::ZERO;
        let mut node = Node::new(now, config(&sample), records(&sample, new));
        let mut out = Vec::new();
        for revision in [old, new] {
            let found = Input::Found { slot: slot(&sample), revision, ended: None };
            node.handle(now, WallTime(0), found, &mut out);
        }
        node.handle(now, WallTime(0), Input::Began, &mut out);
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
    let mut node = Node::new(Instant::ZERO, config(&sample), known);
    let app = AppUid::of(sample.mesh, &app(), 0);
    let stop = sample.says(hand, 1, Body::Run(Run { app, running: false }));
    let removal = Body::OperatorRemoval(OperatorRemoval { key: hand, keep: Vec::new() });
    let removal = sample.says(ROOT, 1, removal);
    let mut out = Vec::new();
    let mut hear = |input, out: &mut Vec<Output>| {
        node.handle(Instant::ZERO, WallTime(0), input, out);
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
