//! Nodes that hold leases of many slots, and are each other's witnesses. Messages take no time, and every disk writes at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Leases, Terms};
use crate::catalogue::sample::{ROOT, Sample};
use crate::catalogue::{Body, Catalogue, Entry, Release, SlotReset};
use crate::id::{AppUid, Incarnation, NodeId, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::{
    Ballot, BootId, Fence, Holder, LEAP_MAX, LeaseId, Request, StoreId, Timing, Token, WitnessId,
};
use crate::message::Message;
use crate::name::AppName;
use crate::node::Output;
use crate::spec::{AppSpec, Guarantee, sample};
use crate::time::Reading;

const N_NODES: u8 = 6;
/// The first three are the first witnesses.
const N_FIRST: u8 = 3;

/// Further above all that was than any honest node goes by itself.
const AFTER: u64 = 1 << 40;

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 10])
}

fn witness(n: u8) -> WitnessId {
    WitnessId { node: node(n), store: StoreId(u128::from(n)) }
}

/// A life of the app, of so many exclusive replicas.
fn release(sample: &Sample, life: u64, n_slots: u32) -> (AppUid, Release) {
    let name: AppName = "web".parse().unwrap();
    let roster: BTreeSet<WitnessId> = (0..N_FIRST).map(witness).collect();
    let app = AppUid::with_roster(sample.mesh, &name, life, &roster);
    let mut service = sample::service(Revision { number: 1, id: 1 }, n_slots);
    service.guarantee = Guarantee::Exclusive { ttl: Timing::DEFAULT_TTL };
    let services = BTreeMap::from([("db".parse().unwrap(), service)]);
    (app, Release { app, version: 1, spec: AppSpec { name, services }, roster })
}

struct Small {
    sample: Sample,
    records: Vec<Entry>,
    catalogue: Catalogue,
    app: AppUid,
    nodes: BTreeMap<NodeId, Leases>,
    now: Reading,
    /// Nobody hears them, and they do nothing.
    dead: BTreeSet<NodeId>,
    /// How many requests each message had that one node has sent another.
    asked: Vec<usize>,
}

impl Small {
    /// An app of so many exclusive replicas.
    fn new(n_slots: u32) -> Self {
        let sample = Sample::new();
        let (app, release) = release(&sample, 0, n_slots);
        let records = vec![sample.says(ROOT, 1, Body::App(release))];
        let catalogue = sample.in_any_order(&records);
        let leases = |n| {
            let me = Holder { node: node(n), boot: BootId(1), incarnation: Incarnation(1) };
            (node(n), Leases::new(Reading::default(), me, StoreId(u128::from(n)), 7, []))
        };
        let nodes = (0..N_NODES).map(leases).collect();
        let (now, dead, asked) = (Reading::default(), BTreeSet::new(), Vec::new());
        Self { sample, records, catalogue, app, nodes, now, dead, asked }
    }

    fn slot(&self, number: u32) -> SlotId {
        let index = SlotIndex::Number(number);
        SlotId { app: self.app, service: "db".parse().unwrap(), index }
    }

    /// A node wants a slot.
    fn seek(&mut self, n: u8, slot: &SlotId) {
        let terms = Terms::of(self.catalogue.state(), slot).unwrap();
        self.nodes.get_mut(&node(n)).unwrap().seek(self.now, slot, &terms, 0);
    }

    /// An operator gives the slot these witnesses, and all nodes hear of it.
    fn reset(&mut self, slot: &SlotId, after: u64, roster: &[u8]) {
        let SlotIndex::Number(number) = slot.index else { panic!("{slot:?}") };
        let roster = roster.iter().copied().map(witness).collect();
        let (app, service, after) = (slot.app, slot.service.clone(), Token(after));
        let reset = SlotReset { app, service, number, after, roster };
        let generation = u64::try_from(self.records.len()).unwrap();
        self.records.push(self.sample.says(ROOT, generation, Body::SlotReset(reset)));
        self.hear();
    }

    /// The app is removed.
    fn remove(&mut self) {
        let (app, name) = (self.app, "web".parse().unwrap());
        self.records.push(self.sample.says(ROOT, 1, Body::AppRemoval { app, name }));
        self.hear();
    }

    /// It is placed again.
    fn place_again(&mut self) {
        let (app, release) = release(&self.sample, 1, 1);
        self.records.push(self.sample.says(ROOT, 1, Body::App(release)));
        self.app = app;
        self.hear();
    }

    fn hear(&mut self) {
        self.catalogue = self.sample.in_any_order(&self.records);
        for leases in self.nodes.values_mut() {
            leases.note_ended(self.now, self.catalogue.state());
            leases.drop_reset(self.catalogue.state());
        }
    }

    fn token(&self, n: u8, slot: &SlotId) -> Option<Token> {
        self.nodes[&node(n)].acquired(self.now, slot)
    }

    /// Time passes in steps of 10 ms.
    fn wait(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 10 {
            self.now = self.now + Duration::from_millis(10);
            let mut wire = VecDeque::new();
            for (id, leases) in &mut self.nodes {
                if self.dead.contains(id) {
                    continue;
                }
                let mut out = Vec::new();
                leases.wake(self.now, self.catalogue.state(), &mut out);
                leases.send(&mut out);
                wire.extend(out.into_iter().map(|output| (*id, output)));
            }
            while let Some((from, output)) = wire.pop_front() {
                let more = self.carry(from, output);
                wire.extend(more);
            }
        }
    }

    fn carry(&mut self, from: NodeId, output: Output) -> Vec<(NodeId, Output)> {
        if let Output::Persist { ticket, then, .. } = output {
            self.nodes.get_mut(&from).unwrap().persisted(ticket);
            let sends = then.into_iter().map(|(to, message)| Output::Send { to, message });
            return sends.map(|send| (from, send)).collect();
        }
        let Output::Send { to, message } = output else { panic!("{output:?}") };
        if let Message::Ask(requests) = &message {
            self.asked.push(requests.len());
        }
        if self.dead.contains(&to) {
            return Vec::new();
        }
        let state = self.catalogue.state();
        let leases = self.nodes.get_mut(&to).unwrap();
        let mut out = Vec::new();
        if let Message::Ask(requests) = message {
            for (slot, request) in requests {
                leases.ask(self.now, state, (from, &slot, request), &mut out);
            }
        } else if let Message::Word { store, answers } = message {
            let witness = WitnessId { node: from, store };
            for (slot, answer) in answers {
                leases.answer(self.now, state, (witness, &slot, answer), &mut out);
            }
        } else {
            panic!("{message:?}");
        }
        leases.send(&mut out);
        out.into_iter().map(|output| (to, output)).collect()
    }
}

/// Each renewal is as much work for a witness as its message costs, so the messages should be few.
#[test]
fn leases_that_began_at_different_times_are_renewed_together() {
    const N_SLOTS: usize = 300;
    let mut small = Small::new(300);
    let slots: Vec<SlotId> = (0..300).map(|number| small.slot(number)).collect();
    let renew = Timing::of(Timing::DEFAULT_TTL).unwrap().renew;
    for slot in &slots {
        small.seek(0, slot);
        small.wait(Duration::from_millis(10));
    }
    small.wait(renew * 2);
    small.asked.clear();
    small.wait(renew * 4);
    let per_round = small.asked.iter().sum::<usize>() / 4 / usize::from(N_FIRST - 1);
    assert!((N_SLOTS..=N_SLOTS * 2).contains(&per_round), "{per_round} asked");
    // Two flocks at most, each split once, to two others, in four rounds.
    assert!(small.asked.len() <= 2 * 2 * 2 * 4, "{} messages", small.asked.len());
    assert!(slots.iter().all(|slot| small.token(0, slot).is_some()));
}

/// On a busy machine answers come late, and to ask more because of that would make it busier still.
#[test]
fn a_lease_that_waits_for_its_answers_is_not_renewed_because_another_is_due() {
    const N_HELD: u32 = 20;
    const N_SOUGHT: u32 = 10;
    let mut small = Small::new(N_HELD + N_SOUGHT);
    let timing = Timing::of(Timing::DEFAULT_TTL).unwrap();
    for number in 0..N_HELD {
        let slot = small.slot(number);
        small.seek(0, &slot);
    }
    small.wait(Duration::from_millis(100));
    small.dead.extend((1..N_FIRST).map(node));
    // All have been asked for, and no attempt has failed yet.
    small.wait(timing.renew);
    small.asked.clear();
    for number in N_HELD..N_HELD + N_SOUGHT {
        let slot = small.slot(number);
        small.seek(0, &slot);
        small.wait(Duration::from_millis(20));
    }
    let n_others = usize::from(N_FIRST - 1);
    assert_eq!(small.asked, vec![1; n_others * 10], "each message is about the one that is sought");
}

/// Two of three witnesses are lost, so nobody can hold the slot again before an operator decides.
#[test]
fn a_reset_gives_a_slot_other_witnesses_when_the_last_lease_is_over() {
    let mut small = Small::new(1);
    let slot = small.slot(0);
    small.seek(0, &slot);
    small.wait(Duration::from_secs(1));
    assert!(small.token(0, &slot).is_some());
    small.dead = [0, 1].map(node).into();
    small.seek(3, &slot);
    small.wait(Duration::from_mins(1));
    assert_eq!(small.token(3, &slot), None);

    let failover = Timing::of(Timing::DEFAULT_TTL).unwrap().failover();
    small.reset(&slot, AFTER, &[2, 3, 4, 5]);
    small.seek(3, &slot);
    small.wait(failover.saturating_sub(Duration::from_millis(20)));
    assert_eq!(small.token(3, &slot), None, "whoever held it may still be alive");
    small.wait(Duration::from_secs(1));
    assert!(small.token(3, &slot) > Some(Token(AFTER)));
}

/// The operator was wrong: its holder lives, and so does one who has witnessed for it.
#[test]
fn whoever_witnessed_the_lease_before_a_reset_waits_for_its_end() {
    let mut small = Small::new(1);
    let slot = small.slot(0);
    small.seek(0, &slot);
    small.wait(Duration::from_secs(1));
    let before = small.catalogue.state().clone();
    small.reset(&slot, AFTER, &[0, 1, 2]);
    // What does not know of the reset goes on as it did.
    let terms = Terms::of(&before, &slot).unwrap();
    let later = small.now + Duration::from_mins(1);
    let request = Request::Prepare {
        ballot: Ballot {
            counter: AFTER + 1,
            holder: Holder { node: node(3), boot: BootId(1), incarnation: Incarnation(1) },
        },
    };
    let lease = small.catalogue.state().apps[&slot.app].lease(&slot).0;
    let mut answers = |now, lease: &LeaseId| {
        let witness = small.nodes.get_mut(&node(1)).unwrap();
        let mut out = Vec::new();
        witness.ask(now, small.catalogue.state(), (node(3), lease, request.clone()), &mut out);
        witness.send(&mut out);
        format!("{out:?}")
    };
    assert!(answers(small.now, &lease).contains("Busy"));
    assert!(answers(small.now, &terms.lease).contains("Removed"), "nobody renews the old one");
    let unheard = LeaseId { reset: 7, ..lease.clone() };
    assert!(answers(small.now, &unheard).contains("Removed"), "nor one that is not the last");
    assert!(answers(later, &lease).contains("Promise"));
}

#[test]
fn what_runs_by_a_lease_that_was_reset_is_not_resumed() {
    let mut small = Small::new(1);
    let slot = small.slot(0);
    small.seek(0, &slot);
    small.wait(Duration::from_secs(1));
    let token = small.token(0, &slot).unwrap();
    small.reset(&slot, AFTER, &[0, 1, 2]);
    assert_eq!(small.token(0, &slot), None);
    assert!(small.nodes[&node(0)].has_news(), "it has to stop");
    let terms = Terms::of(small.catalogue.state(), &slot).unwrap();
    let kill = small.now + Duration::from_secs(5);
    let leases = small.nodes.get_mut(&node(0)).unwrap();
    leases.resume(small.now, &slot, &terms, Fence { token, stop: small.now, kill });
    assert!(!leases.is_resuming(small.now, &slot));
    let own = Fence { token: Token(AFTER + 7), stop: small.now, kill };
    leases.resume(small.now, &slot, &terms, own);
    assert!(leases.is_resuming(small.now, &slot));
}

/// Its last holder may not have heard of the removal, but nobody renews its lease any more.
#[test]
fn an_app_that_is_placed_again_waits_for_the_leases_of_its_former_life_and_its_tokens_rise() {
    let failover = Timing::of(Timing::DEFAULT_TTL).unwrap().failover();
    for (later, waits) in [(Duration::ZERO, true), (failover, false)] {
        let mut small = Small::new(1);
        let slot = small.slot(0);
        small.seek(0, &slot);
        small.wait(Duration::from_secs(1));
        let former = small.token(0, &slot).unwrap();
        small.remove();
        small.wait(later);
        small.place_again();
        let slot = small.slot(0);
        small.seek(1, &slot);
        small.wait(Duration::from_secs(1));
        assert_eq!(small.token(1, &slot).is_none(), waits);
        small.wait(failover);
        let token = small.token(1, &slot).unwrap();
        assert!(former < token && token > Token(LEAP_MAX), "{former} {token}");
    }
}

/// Whoever has not heard of the removal of an app's former life cannot take back its tokens, and whoever hears of it late does not go on
/// with what he promised before.
#[test]
fn no_token_of_a_former_life_is_promised() {
    let mut small = Small::new(1);
    let name = "web".parse().unwrap();
    small.remove();
    small.place_again();
    let lease = LeaseId::first(small.slot(0));
    let holder = Holder { node: node(1), boot: BootId(1), incarnation: Incarnation(1) };
    let request = |counter| Request::Prepare { ballot: Ballot { counter, holder } };
    let answer = |small: &mut Small, counter| {
        let mut out = Vec::new();
        let leases = small.nodes.get_mut(&node(2)).unwrap();
        let asked = (node(1), &lease, request(counter));
        leases.ask(small.now, small.catalogue.state(), asked, &mut out);
        leases.send(&mut out);
        format!("{out:?}")
    };
    for (counter, word) in [(5, "Promised"), (LEAP_MAX, "Promised"), (LEAP_MAX + 1, "Promise {")] {
        let said = answer(&mut small, counter);
        assert!(said.contains(word), "{counter}: {said}");
    }
    // Another life ended, and this witness hears of it after its promise.
    let other = AppUid([9; 16]);
    small.records.push(small.sample.says(ROOT, 1, Body::AppRemoval { app: other, name }));
    small.hear();
    let said = answer(&mut small, LEAP_MAX + 2);
    assert!(said.contains("Promised"), "{said}");
}
