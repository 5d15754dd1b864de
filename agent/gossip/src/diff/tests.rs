//! What the engine hears, in which order, and what it never hears.

use std::collections::BTreeMap;
use std::sync::Arc;

use chitchat::{ChitchatId, NodeState};
use mesh_coordinator::fact::{Claim, Fact};
use mesh_coordinator::id::{AppUid, Incarnation, Revision, SlotId, SlotIndex};
use mesh_ports::gossip::{Event, FactCodec as _};
use mesh_telemetry::{Reason, Refusals};

use super::Diff;
use crate::keys;
use crate::tests::world::{Eyes, World, node, vote};

type Live = BTreeMap<ChitchatId, NodeState>;

struct Script {
    world: Arc<World>,
    diff: Diff,
    refusals: Refusals,
    live: Live,
}

impl Script {
    fn new(members: &[u8]) -> Self {
        let world = World::of(members);
        let (eyes, refusals) = (Eyes::new(&world, 1), Refusals::new());
        let diff = Diff::new(node(1), Arc::<Eyes>::clone(&eyes), eyes, refusals.clone());
        Self { world, diff, refusals, live: Live::new() }
    }

    fn state(&mut self, n: u8, life: u64) -> &mut NodeState {
        let id = ChitchatId::new(node(n).to_string(), life, ([127, 0, 0, 1], 1).into());
        self.live.entry(id).or_insert_with(NodeState::for_test)
    }

    fn says(&mut self, n: u8, life: u64, fact: &Fact) {
        let eyes = Eyes::new(&self.world, n);
        let value = keys::seal(eyes.as_ref(), Incarnation(life), fact).unwrap();
        self.state(n, life).set(keys::to_text(fact.key()), value);
    }

    fn step(&mut self) -> Vec<Event> {
        self.diff.step(&self.live, true)
    }
}

fn up(n: u8, life: u64) -> Event {
    Event::Up { node: node(n), incarnation: Incarnation(life) }
}

fn down(n: u8, life: u64) -> Event {
    Event::Down { node: node(n), incarnation: Incarnation(life) }
}

fn published(n: u8, life: u64, fact: Fact) -> Event {
    Event::Published { node: node(n), incarnation: Incarnation(life), fact }
}

fn withdrawn(n: u8, life: u64, fact: &Fact) -> Event {
    Event::Withdrawn { node: node(n), incarnation: Incarnation(life), key: fact.key() }
}

#[test]
fn each_difference_is_told_once_and_up_comes_first() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &Fact::Root(1));
    assert_eq!(script.step(), [up(2, 5), published(2, 5, Fact::Root(1))]);
    assert_eq!(script.step(), []);
    script.says(2, 5, &Fact::Root(2));
    assert_eq!(script.step(), [published(2, 5, Fact::Root(2))]);
    script.state(2, 5).delete("r");
    assert_eq!(script.step(), [withdrawn(2, 5, &Fact::Root(2))]);
    script.live.clear();
    assert_eq!(script.step(), [down(2, 5)]);
    assert_eq!(script.step(), []);
}

#[test]
fn a_higher_life_replaces_a_lower_one_without_a_death() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &vote(0, 1));
    script.says(2, 5, &vote(1, 1));
    assert_eq!(script.step().len(), 3);
    script.says(2, 6, &vote(0, 1));
    let news = [up(2, 6), published(2, 6, vote(0, 1)), withdrawn(2, 5, &vote(1, 1))];
    assert_eq!(script.step(), news);
    script.live.retain(|id, _| id.generation_id == 5);
    assert_eq!(script.step(), [down(2, 6)], "the lower life does not count any more");
}

#[test]
fn one_that_comes_back_tells_all_again() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &vote(0, 1));
    script.says(2, 5, &vote(1, 1));
    assert_eq!(script.step().len(), 3);
    let back = std::mem::take(&mut script.live);
    assert_eq!(script.step(), [down(2, 5)]);
    script.live = back;
    script.state(2, 5).delete(&keys::to_text(vote(1, 1).key()));
    let news = [up(2, 5), published(2, 5, vote(0, 1)), withdrawn(2, 5, &vote(1, 1))];
    assert_eq!(script.step(), news);
}

#[test]
fn nobody_falls_while_a_new_instance_settles() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &vote(0, 1));
    assert_eq!(script.step().len(), 2);
    assert_eq!(script.diff.step(&Live::new(), false), []);
    let mut partial = Live::new();
    for id in script.live.keys() {
        partial.insert(id.clone(), NodeState::for_test());
    }
    assert_eq!(script.diff.step(&partial, false), [], "a state in pieces withdraws nothing");
    assert_eq!(script.diff.step(&Live::new(), true), [down(2, 5)]);
}

#[test]
fn strangers_and_facts_about_ourselves_are_not_heard() {
    let mut script = Script::new(&[1, 2]);
    script.says(1, 5, &Fact::Root(1));
    script.says(3, 5, &Fact::Root(1));
    assert_eq!(script.step(), []);
    script.world.admit(3, String::new());
    assert_eq!(
        script.step(),
        [up(3, 5), published(3, 5, Fact::Root(1))],
        "facts wait for the member"
    );
}

#[test]
fn a_removed_member_is_taken_back_once() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &Fact::Root(1));
    assert_eq!(script.step().len(), 2);
    script.world.remove(2);
    assert_eq!(script.step(), [withdrawn(2, 5, &Fact::Root(1)), down(2, 5)]);
    assert_eq!(script.step(), []);
}

#[test]
fn a_fact_that_does_not_verify_is_counted_once_and_its_forerunner_stands() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &Fact::Root(1));
    assert_eq!(script.step().len(), 2);
    let forged = Eyes::new(&script.world, 3).seal(Incarnation(5), &Fact::Root(2));
    script.state(2, 5).set("r", format!("1{forged}"));
    assert_eq!(script.step(), []);
    script.says(2, 5, &vote(0, 1));
    assert_eq!(script.step(), [published(2, 5, vote(0, 1))]);
    assert_eq!(
        script.refusals.count(Reason::FactSignature),
        1,
        "an unchanged value is not opened again"
    );
    script.state(2, 5).delete("r");
    assert_eq!(script.step(), [withdrawn(2, 5, &Fact::Root(1))], "until it is taken back");
    // What stood in an earlier life says nothing of the next one.
    script.says(2, 6, &Fact::Root(3));
    script.state(2, 6).set(keys::to_text(vote(0, 1).key()), format!("1{forged}"));
    let news = [up(2, 6), published(2, 6, Fact::Root(3)), withdrawn(2, 5, &vote(0, 1))];
    assert_eq!(script.step(), news);
}

#[test]
fn nobody_claims_what_only_another_node_can_hold() {
    let mut script = Script::new(&[1, 2, 3]);
    let claim = |owner| {
        let (app, service) = (AppUid([1; 16]), "web".parse().unwrap());
        let slot = SlotId { app, service, index: SlotIndex::Node(owner) };
        Fact::Claim(Claim::intent(slot, Revision { number: 1, id: 1 }, 0))
    };
    script.says(2, 5, &Fact::Root(1));
    assert_eq!(script.step().len(), 2);
    script.says(2, 5, &claim(node(2)));
    script.says(2, 5, &claim(node(3)));
    script.says(2, 5, &claim(node(1)));
    assert_eq!(script.step(), [published(2, 5, claim(node(2)))]);
    assert_eq!(script.refusals.count(Reason::FactSignature), 2);
}

#[test]
fn a_life_that_is_said_to_be_somewhere_else_as_well_is_not_heard_there() {
    let mut script = Script::new(&[1, 2]);
    script.says(2, 5, &Fact::Root(1));
    script.says(2, 5, &vote(0, 1));
    assert_eq!(script.step().len(), 3);
    // Another member repeats one true fact of it under another address, below and above the true one, and leaves the others out.
    let (id, state) = script.live.first_key_value().unwrap();
    let (itself, name, mut partial) = (id.clone(), Arc::clone(&id.node_id), state.clone());
    partial.delete(&keys::to_text(vote(0, 1).key()));
    partial.set_max_version(u64::MAX);
    for address in [[1, 1, 1, 1], [255, 255, 255, 255]] {
        let elsewhere = ChitchatId::new(Arc::clone(&name), 5, (address, 1).into());
        script.live.insert(elsewhere, partial.clone());
    }
    assert_eq!(script.step(), []);
    script.says(2, 5, &Fact::Root(2));
    assert_eq!(script.step(), [published(2, 5, Fact::Root(2))], "it is still heard");
    // The copies live on without it, and it comes back.
    let (of_itself, copies) =
        std::mem::take(&mut script.live).into_iter().partition(|(id, _)| *id == itself);
    script.live = copies;
    assert_eq!(script.step(), [down(2, 5)], "no copy takes its place");
    script.live.extend::<Live>(of_itself);
    script.says(2, 5, &Fact::Root(3));
    let news = [up(2, 5), published(2, 5, Fact::Root(3)), published(2, 5, vote(0, 1))];
    assert_eq!(script.step(), news, "it is heard again");
}

#[test]
fn a_fact_of_another_life_or_place_is_refused() {
    let mut script = Script::new(&[1, 2]);
    let eyes = Eyes::new(&script.world, 2);
    let of_former_life = keys::seal(eyes.as_ref(), Incarnation(4), &Fact::Root(1)).unwrap();
    let of_other_key = keys::seal(eyes.as_ref(), Incarnation(5), &vote(0, 1)).unwrap();
    script.says(2, 5, &Fact::Root(1));
    assert_eq!(script.step().len(), 2);
    script.state(2, 5).set("r", of_former_life);
    script.state(2, 5).set(keys::to_text(vote(1, 1).key()), of_other_key);
    assert_eq!(script.step(), []);
    assert_eq!(script.refusals.count(Reason::FactSignature), 2);
}

#[test]
fn a_life_that_the_node_did_not_prove_does_not_count() {
    let mut script = Script::new(&[1, 2, 3]);
    script.says(2, 5, &Fact::Root(1));
    assert_eq!(script.step().len(), 2);
    // Another member says that node 2 has begun anew: with nothing, with its old facts, and with facts of its own.
    let old = keys::seal(Eyes::new(&script.world, 2).as_ref(), Incarnation(5), &Fact::Root(1));
    let own = keys::seal(Eyes::new(&script.world, 3).as_ref(), Incarnation(8), &Fact::Root(1));
    script.state(2, 6);
    script.state(2, 7).set("r", old.unwrap());
    script.state(2, 8).set("r", own.unwrap());
    script.state(2, u64::MAX).set("x", "y");
    assert_eq!(script.step(), []);
    script.says(2, 5, &Fact::Root(2));
    assert_eq!(script.step(), [published(2, 5, Fact::Root(2))], "it is still heard");
    script.says(2, 6, &vote(0, 1));
    let news = [up(2, 6), published(2, 6, vote(0, 1)), withdrawn(2, 5, &Fact::Root(2))];
    assert_eq!(script.step(), news, "and a life that it proves replaces the last");
}
