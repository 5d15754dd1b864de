//! The rules of claims one by one: what a node does with each, and that it does something else without it.

mod ahead;
mod room;
mod unknown;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Claims, Effect, STARTS_MAX, World};
use crate::catalogue::{App, Node, Release, State};
use crate::fact::{Claim, NodeFacts, Phase, Suspicion, Vote};
use crate::id::{AppUid, Hash, Incarnation, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::lease::Leases;
use crate::lease::exclusive::{BootId, Fence, Holder, StoreId, Token};
use crate::membership::Membership;
use crate::name::ServiceName;
use crate::placement::score;
use crate::rules::{Rule, Rules};
use crate::spec::{AppSpec, Bytes, Cpu, Labels, Reservation, RestartPolicy, ServiceSpec, sample};
use crate::time::{Instant, Reading, WallTime};
use crate::workload::{Do, Observed};

const APP: AppUid = AppUid([7; 16]);
const LIFE: Incarnation = Incarnation(1);
/// The revision that the catalogue wants, and the one before it.
const NEW: Revision = Revision { number: 2, id: 2 };
const OLD: Revision = Revision { number: 1, id: 1 };

fn slot(number: u32) -> SlotId {
    SlotId { app: APP, service: service(), index: SlotIndex::Number(number) }
}

fn service() -> ServiceName {
    "web".parse().unwrap()
}

/// One node of a mesh of four, and what it is told of the others. They are numbered by their score for the first slot, best
/// first.
#[derive(Clone)]
struct Script {
    rules: Rules,
    me: usize,
    nodes: Vec<NodeId>,
    state: State,
    membership: Membership,
    facts: BTreeMap<NodeId, NodeFacts>,
    claims: Claims,
    leases: Leases,
    now: Instant,
    seq: u64,
    out: Vec<Effect>,
}

/// Another one for each that differs.
fn version(of: &impl std::fmt::Debug) -> u64 {
    Hash::of(&[format!("{of:?}").as_bytes()]).head()
}

impl Script {
    fn new(rules: Rules, me: usize, replicas: u32) -> Self {
        let mut keys: Vec<PublicKey> = (0..4).map(|n| PublicKey([n; 32])).collect();
        let first = slot(0).digest();
        keys.sort_by_key(|key| std::cmp::Reverse(score(&first, NodeId::of(key), 100)));
        let nodes: Vec<NodeId> = keys.iter().map(NodeId::of).collect();
        let member = |key: &PublicKey| Node {
            key: *key,
            name: "node".parse().unwrap(),
            labels: Labels::new(),
            weight: 100,
            drained: false,
            address: None,
        };
        let capacity = Reservation { cpu: Cpu { millis: 100 }, memory: Bytes(100) };
        let facts = NodeFacts {
            name: "node".parse().unwrap(),
            capacity,
            version: String::new(),
            restarting: false,
            clock_off_ms: 0,
            store: None,
            witness_only: false,
            has_twin: false,
        };
        let services = BTreeMap::from([(service(), sample::service(NEW, replicas))]);
        let spec = AppSpec { name: "shop".parse().unwrap(), services };
        let app = App {
            release: Release { app: APP, version: 1, spec, roster: BTreeSet::new() },
            author: PublicKey([9; 32]),
            written: WallTime(0),
            scale: BTreeMap::new(),
            restarts: BTreeMap::new(),
            resets: BTreeMap::new(),
            running: true,
        };
        let state = State {
            nodes: keys.iter().map(|key| (NodeId::of(key), member(key))).collect(),
            apps: BTreeMap::from([(APP, app)]),
            ..State::default()
        };
        let mut membership = Membership::new(nodes[me]);
        membership.set_rules(rules);
        membership.set_members(Instant::ZERO, &nodes.iter().copied().collect());
        let facts = nodes.iter().map(|node| (*node, facts.clone())).collect();
        let claims = Claims::new(nodes[me], LIFE, 0);
        let holder = Holder { node: nodes[me], boot: BootId(0), incarnation: LIFE };
        let leases = Leases::new(Reading::default(), holder, StoreId(0), 0, []);
        let mut script = Self {
            rules,
            me,
            nodes,
            state,
            membership,
            facts,
            claims,
            leases,
            now: Instant::ZERO,
            seq: 0,
            out: Vec::new(),
        };
        (0..4).filter(|node| *node != me).for_each(|node| script.lives(node, true));
        script
    }

    /// What gossip's detector says of a node; nothing else is heard of it.
    fn lives(&mut self, node: usize, up: bool) {
        self.membership.on_gossip(self.now, self.nodes[node], LIFE, up, &mut Vec::new());
    }

    fn says(&mut self, node: usize, revision: Revision, phase: Phase, yielding: bool) {
        self.says_of(
            slot(0),
            node,
            Claim { phase, yielding, ..Claim::intent(slot(0), revision, 0) },
        );
    }

    fn says_of(&mut self, slot: SlotId, node: usize, claim: Claim) {
        self.seq += 1;
        let claim = Claim { seq: self.seq, slot, ..claim };
        self.claims.put(self.now, self.nodes[node], LIFE, claim, true);
    }

    fn spec(&mut self) -> &mut ServiceSpec {
        let app = self.state.apps.get_mut(&APP).unwrap();
        app.release.spec.services.get_mut(&service()).unwrap()
    }

    fn drain(&mut self, node: usize) {
        self.state.nodes.get_mut(&self.nodes[node]).unwrap().drained = true;
    }

    /// Lets this node act at each of its deadlines for `millis`.
    fn wait(&mut self, millis: u64) {
        self.act_until(self.now + Duration::from_millis(millis));
        self.look();
    }

    /// Lets this node act now and at each of its deadlines, and not once more when the time is over.
    fn act_until(&mut self, end: Instant) {
        self.look();
        while let Some(next) = self.claims.next_deadline().filter(|next| *next <= end) {
            self.now = next;
            self.look();
        }
        self.now = end;
    }

    fn look(&mut self) {
        self.in_world(Claims::reconcile);
    }

    /// Somebody asks whether it may stop because of this node's claim.
    fn is_asked(&mut self, by: usize) {
        let from = self.nodes[by];
        self.in_world(|claims, world, out| claims.on_yield(world, from, &slot(0), NEW, 1, out));
    }

    fn in_world(&mut self, act: impl FnOnce(&mut Claims, &World<'_>, &mut Vec<Effect>)) {
        for node in self.membership.take_turned() {
            self.claims.turned(node);
        }
        let world = World {
            now: self.now,
            reading: Reading::default(),
            leases: &self.leases,
            state: &self.state,
            membership: &self.membership,
            facts: &self.facts,
            own: &self.facts[&self.nodes[self.me]],
            warm: true,
            settled: true,
            root: version(&self.state),
            facts_version: version(&self.facts),
            strays: super::Strays::Stop,
            rules: self.rules,
        };
        act(&mut self.claims, &world, &mut self.out);
    }

    /// All starts that were asked for succeed.
    fn starts_succeed(&mut self) {
        let starts = self.out.iter().filter_map(|effect| {
            let Effect::Do(slot, revision, Do::Start) = effect else { return None };
            Some((slot.clone(), *revision))
        });
        for (slot, revision) in starts.collect::<Vec<_>>() {
            let mut out = Vec::new();
            self.claims.observe(self.now, &slot, revision, Observed::Started, &mut out);
        }
        self.look();
    }

    /// How far this node has come with a slot.
    fn phase(&self, number: u32) -> Option<Phase> {
        let mut mine = self.claims.mine().map(super::Mine::claim);
        mine.find(|claim| claim.slot == slot(number) && claim.revision == NEW)
            .map(|claim| claim.phase)
    }

    fn has_started(&self) -> bool {
        self.out.iter().any(|effect| matches!(effect, Effect::Do(_, _, Do::Start)))
    }

    fn n_claimed(&self, phase: Phase) -> usize {
        self.claims.mine().filter(|mine| mine.claim().phase == phase).count()
    }

    /// A node that held the first slot is lost, and this one is about to act.
    fn after_a_loss(rules: Rules, me: usize, lost: usize) -> Self {
        let mut script = Self::new(rules, me, 1);
        script.says(lost, NEW, Phase::Ready, false);
        script.look();
        script.lives(lost, false);
        script
    }
}

#[test]
fn c2_the_claims_of_the_dead_hold_nothing() {
    let started = Rules::with_and_without(Rule::DeadHoldNothing, |rules| {
        let mut script = Script::after_a_loss(rules, 0, 3);
        script.wait(5_000);
        script.has_started()
    });
    assert_eq!(started, [true, false]);
}

#[test]
fn c2_a_restarting_agent_keeps_what_it_holds() {
    let started = Rules::with_and_without(Rule::RestartingHold, |rules| {
        let mut script = Script::new(rules, 0, 1);
        script.says(3, NEW, Phase::Ready, false);
        let node = script.nodes[3];
        let vote = Vote { node, incarnation: LIFE, suspicion: Suspicion::Refused };
        for voter in [script.nodes[1], script.nodes[2]] {
            script.membership.on_heard(script.now, voter, LIFE, &mut Vec::new());
            script.membership.on_vote(script.now, voter, vote, true);
        }
        script.wait(1_000);
        script.has_started()
    });
    assert_eq!(started, [false, true]);
}

#[test]
fn c2_a_holder_that_yields_is_relieved() {
    let started = Rules::with_and_without(Rule::Relief, |rules| {
        let mut script = Script::new(rules, 0, 1);
        script.says(3, NEW, Phase::Ready, true);
        script.wait(1_000);
        script.has_started()
    });
    assert_eq!(started, [true, false]);
}

#[test]
fn c2_an_old_revision_is_replaced() {
    let started = Rules::with_and_without(Rule::Replacement, |rules| {
        let mut script = Script::new(rules, 0, 1);
        script.says(3, OLD, Phase::Ready, false);
        script.wait(1_000);
        script.has_started()
    });
    assert_eq!(started, [true, false]);
}

#[test]
fn c3_the_second_in_rank_waits_for_the_first() {
    let started = Rules::with_and_without(Rule::RankDelay, |rules| {
        let mut script = Script::after_a_loss(rules, 1, 3);
        script.wait(350);
        let early = script.has_started();
        script.wait(100);
        assert!(script.has_started(), "the first says nothing");
        early
    });
    assert_eq!(started, [false, true]);
}

#[test]
fn c4_an_intent_gives_way_to_who_serves_already() {
    let started = Rules::with_and_without(Rule::Intent, |rules| {
        let mut script = Script::after_a_loss(rules, 0, 3);
        script.wait(50);
        assert_eq!(script.phase(0), Some(Phase::Intent));
        script.says(2, NEW, Phase::Ready, false);
        script.wait(1_000);
        script.has_started()
    });
    assert_eq!(started, [false, true]);
}

#[test]
fn c4_an_intent_gives_way_to_a_better_one() {
    let started = Rules::with_and_without(Rule::Intent, |rules| {
        let mut script = Script::after_a_loss(rules, 1, 3);
        script.wait(350);
        assert_eq!(script.phase(0), Some(Phase::Intent));
        script.says(0, NEW, Phase::Intent, false);
        script.wait(1_000);
        script.has_started()
    });
    assert_eq!(started, [false, true]);
}

#[test]
fn c4_an_intent_does_not_give_way_to_a_worse_one() {
    let mut script = Script::after_a_loss(Rules::ALL, 0, 3);
    script.wait(50);
    script.says(1, NEW, Phase::Intent, false);
    script.wait(100);
    assert!(script.has_started());
}

/// The better one is asked by nobody, since it serves nobody, and the worse one goes on as long as it runs.
#[test]
fn c5_what_has_ended_gives_way_to_what_runs() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    script.spec().template.restart = RestartPolicy::Never;
    script.wait(500);
    script.starts_succeed();
    let ended = Observed::Ended { code: Some(0), oom: false };
    script.claims.observe(script.now, &slot(0), NEW, ended, &mut Vec::new());
    script.look();
    assert_eq!(script.phase(0), Some(Phase::Ended));
    script.says(1, NEW, Phase::Starting, false);
    script.look();
    assert_eq!(script.phase(0), Some(Phase::Ended));
    let mut other = script.clone();
    script.says(1, NEW, Phase::Ready, false);
    script.look();
    assert_eq!(script.phase(0), Some(Phase::Released));
    // One that wants to go too: it cannot be relieved while this one holds the slot.
    other.says(1, NEW, Phase::Ready, true);
    other.look();
    assert_eq!(other.phase(0), Some(Phase::Released));
}

/// K2. Whoever asks would stop, and nobody would serve.
#[test]
fn c5_nobody_promises_what_it_does_not_serve() {
    let promised = Rules::with_and_without(Rule::KeepOnlyReady, |rules| {
        let mut script = Script::new(rules, 0, 1);
        script.wait(500);
        assert_eq!(script.phase(0), Some(Phase::Starting));
        script.is_asked(1);
        let promises =
            |script: &Script| script.out.iter().any(|it| matches!(it, Effect::Keep { .. }));
        let early = promises(&script);
        script.starts_succeed();
        script.is_asked(1);
        assert!(promises(&script));
        early
    });
    assert_eq!(promised, [false, true]);
}

/// K3. Whoever relied on the promise has stopped by now, so that nobody serves when both go.
#[test]
fn c5_whoever_promised_to_go_on_asks_nobody_for_a_while() {
    let asked = Rules::with_and_without(Rule::HonourKeep, |rules| {
        let mut script = Script::new(rules, 1, 1);
        script.wait(500);
        script.starts_succeed();
        script.is_asked(2);
        assert!(script.out.iter().any(|effect| matches!(effect, Effect::Keep { .. })));
        // Now it would like to go, and somebody is there who would let it.
        script.says(3, NEW, Phase::Ready, false);
        script.drain(1);
        let asks =
            |script: &Script| script.out.iter().any(|effect| matches!(effect, Effect::Ask { .. }));
        script.wait(3_900);
        let early = asks(&script);
        script.wait(200);
        assert!(asks(&script), "it is free again");
        early
    });
    assert_eq!(asked, [false, true]);
}

/// C11. Two drained nodes hold it, and there is no third: one of them is enough.
#[test]
fn c11_of_two_that_want_to_go_the_better_one_stays() {
    let script = |me: usize, other: usize| {
        let mut script = Script::new(Rules::ALL, me, 1);
        script.wait(3_000);
        script.starts_succeed();
        (0..4).for_each(|node| script.drain(node));
        script.says(other, NEW, Phase::Ready, true);
        script.wait(100);
        script
    };
    let asks =
        |script: &Script| script.out.iter().any(|effect| matches!(effect, Effect::Ask { .. }));
    let mut better = script(0, 1);
    assert!(!asks(&better));
    better.is_asked(1);
    assert!(better.out.iter().any(|effect| matches!(effect, Effect::Keep { .. })));
    assert!(asks(&script(1, 0)));
}

/// C11. The current definition fits nowhere, and two nodes hold the one before it, from both sides of a split.
#[test]
fn c11_of_two_outdated_ones_the_better_one_stays() {
    let asks = [0, 1].map(|me| {
        let mut script = Script::new(Rules::ALL, me, 1);
        script.spec().deploy.reservation.cpu = Cpu { millis: 1_000_000 };
        script.claims.adopt(script.now, slot(0), OLD, None, false, None);
        script.says(1 - me, OLD, Phase::Ready, false);
        script.wait(100);
        script.out.iter().any(|effect| matches!(effect, Effect::Ask { .. }))
    });
    assert_eq!(asks, [false, true]);
}

/// K4. Two old definitions on one node, and the current one fits nowhere.
#[test]
fn c11_of_two_outdated_ones_of_a_node_the_later_one_stays() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    script.spec().deploy.reservation.cpu = Cpu { millis: 1_000_000 };
    let older = Revision { number: 0, id: 7 };
    for revision in [OLD, older] {
        script.claims.adopt(script.now, slot(0), revision, None, false, None);
    }
    script.wait(1_000);
    let claims = script.claims.mine().map(|mine| (mine.claim().revision, mine.claim().phase));
    let held: Vec<_> = claims.filter(|(_, phase)| phase.holds()).collect();
    assert_eq!(held, [(OLD, Phase::Ready)]);
}

/// L-release. Two containers of an exclusive slot were found: what is left of an earlier lease, and what runs by the last one.
#[test]
fn what_an_earlier_lease_left_goes_without_a_release() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    for (token, revision, ended) in [(4, OLD, true), (5, NEW, false)] {
        let (stop, kill) = (Reading::default(), Reading::default());
        let fence = Some(Fence { token: Token(token), stop, kill });
        script.claims.adopt(script.now, slot(0), revision, None, ended, fence);
    }
    let releases = |script: &Script| {
        script.out.iter().filter(|effect| matches!(effect, Effect::Release(_))).count()
    };
    for (revision, n_releases) in [(OLD, 0), (NEW, 1)] {
        script.wait(10);
        for observed in [Observed::Stopped, Observed::Removed] {
            let (now, out) = (script.now, &mut script.out);
            script.claims.observe(now, &slot(0), revision, observed, out);
        }
        script.wait(10);
        assert_eq!(releases(&script), n_releases, "{revision}");
    }
}

#[test]
fn c11_a_drained_node_needs_no_two_revisions() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    script.claims.adopt(script.now, slot(0), OLD, None, false, None);
    script.wait(500);
    assert_eq!(script.phase(0), Some(Phase::Starting));
    (0..4).for_each(|node| script.drain(node));
    script.starts_succeed();
    script.wait(1_000);
    let claims = script.claims.mine().map(|mine| (mine.claim().revision, mine.claim().phase));
    let held: Vec<_> = claims.filter(|(_, phase)| phase.holds()).collect();
    assert_eq!(held, [(NEW, Phase::Ready)]);
}

#[test]
fn c7_one_replica_is_replaced_after_the_other() {
    let phases = Rules::with_and_without(Rule::OneAtATime, |rules| {
        let mut script = Script::new(rules, 0, 2);
        (1..3).for_each(|node| script.lives(node, false));
        script.says_of(slot(0), 3, Claim::intent(slot(0), OLD, 0));
        script.says_of(slot(1), 3, Claim::intent(slot(1), OLD, 0));
        script.wait(1_000);
        let at_once = [script.phase(0), script.phase(1)];
        script.starts_succeed();
        script.wait(1_000);
        assert!(script.phase(1).is_some(), "its turn has come");
        at_once
    });
    let starting = Some(Phase::Starting);
    assert_eq!(phases, [[starting, None], [starting, starting]]);
}

#[test]
fn c7_a_slot_that_nobody_can_relieve_holds_up_no_rollout() {
    let mut script = Script::new(Rules::ALL, 0, 2);
    (1..3).for_each(|node| script.lives(node, false));
    script.spec().deploy.replicas_per_node_max = Some(1);
    // The first slot is held by a drained node, the second by this one, and there is no third.
    script.drain(3);
    script.says(3, OLD, Phase::Ready, true);
    script.claims.adopt(script.now, slot(1), OLD, None, false, None);
    script.wait(1_000);
    assert_eq!((script.phase(0), script.phase(1)), (None, Some(Phase::Starting)));
}

#[test]
fn c8_what_waits_for_its_turn_to_start_is_an_intent() {
    let waiting = Rules::with_and_without(Rule::StartsMax, |rules| {
        let mut script = Script::new(rules, 0, 6);
        (1..4).for_each(|node| script.lives(node, false));
        script.wait(1_000);
        let waiting = script.n_claimed(Phase::Intent);
        assert_eq!(script.n_claimed(Phase::Starting), 6 - waiting);
        script.starts_succeed();
        assert_eq!(script.n_claimed(Phase::Starting), waiting, "room was made");
        waiting
    });
    assert_eq!(waiting, [6 - STARTS_MAX, 0]);
}

#[test]
fn c8_an_intent_that_lasts_holds_nobody_back() {
    let started = Rules::with_and_without(Rule::IntentMax, |rules| {
        let mut script = Script::new(rules, 1, 1);
        script.says(0, NEW, Phase::Intent, false);
        script.wait(9_900);
        assert!(!script.has_started());
        script.wait(1_000);
        script.has_started()
    });
    assert_eq!(started, [true, false]);
}

#[test]
fn c8_who_waits_for_its_turn_gives_way_to_who_had_room() {
    let mut script = Script::new(Rules::ALL, 0, 6);
    (1..4).for_each(|node| script.lives(node, false));
    script.wait(1_000);
    script.lives(3, true);
    let waiting = (0..6).find(|number| script.phase(*number) == Some(Phase::Intent)).unwrap();
    let starting = Claim { phase: Phase::Starting, crowding: 9, ..Claim::intent(slot(0), NEW, 0) };
    script.says_of(slot(waiting), 3, starting);
    script.wait(1_000);
    assert_eq!(script.phase(waiting), Some(Phase::Intent), "it is the better one, and not late");
    script.wait(9_000);
    assert_eq!(script.phase(waiting), Some(Phase::Released));
}

#[test]
fn c8_who_has_no_room_takes_nothing_that_waits_elsewhere() {
    let mut script = Script::new(Rules::ALL, 0, 5);
    script.says_of(slot(4), 3, Claim::intent(slot(4), NEW, 0));
    (1..3).for_each(|node| script.lives(node, false));
    script.wait(20_000);
    assert_eq!((script.n_claimed(Phase::Starting), script.phase(4)), (4, None));
    script.starts_succeed();
    script.wait(1_000);
    assert_eq!(script.phase(4), Some(Phase::Starting));
}

#[test]
fn c10_who_holds_fewer_replicas_of_the_service_comes_first() {
    let started = Rules::with_and_without(Rule::Spread, |rules| {
        let mut script = Script::after_a_loss(rules, 0, 3);
        script.state.apps.get_mut(&APP).unwrap().scale.insert(service(), 2);
        // The best by score, which has the other replica already.
        script.claims.adopt(script.now, slot(1), NEW, None, false, None);
        script.wait(350);
        script.has_started()
    });
    assert_eq!(started, [false, true]);
}

#[test]
fn whoever_takes_two_slots_at_once_has_room_for_both() {
    for (millis, n_taken) in [(50, 2), (60, 1)] {
        let mut script = Script::new(Rules::ALL, 1, 2);
        script.spec().deploy.reservation.cpu = Cpu { millis };
        script.look();
        // The others were better for the first slot and say nothing, and this node is late: it is its turn with both.
        script.now = script.now + Duration::from_secs(3);
        script.look();
        assert_eq!(script.claims.mine().count(), n_taken, "{millis} of 100");
    }
}
