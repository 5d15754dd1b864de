//! Admins who contradict each other are judged alike everywhere, and one always remains.

use crate::catalogue::sample::{RECOVERY, ROOT, Sample, heal, kept, key};
use crate::catalogue::{Body, Catalogue, Drain, Entry, Inserted, Operator, Refusal, Role};
use crate::id::{NodeId, PublicKey};
use crate::prng::Prng;

fn admins(catalogue: &Catalogue) -> Vec<PublicKey> {
    let operators = catalogue.state().operators.values();
    operators.filter(|it| it.role == Role::Admin).map(|it| it.key).collect()
}

fn role(catalogue: &Catalogue, key: PublicKey) -> Option<Role> {
    catalogue.state().operators.get(&key).map(|operator| operator.role)
}

/// Admins 5 and 6, made by the root.
fn two_admins(sample: &Sample) -> Vec<Entry> {
    vec![sample.operator(key(5), Role::Admin), sample.operator(key(6), Role::Admin)]
}

/// Why an agent that has `entries` would not take `entry`.
fn refused(sample: &Sample, entries: &[Entry], entry: &Entry) -> Option<Refusal> {
    let (refused, _) = sample.catalogue(entries).check(std::slice::from_ref(entry));
    refused.into_iter().next().map(|(_, refusal)| refusal)
}

fn drain(sample: &Sample, author: PublicKey, generation: u64, drained: bool) -> Entry {
    sample.says(author, generation, Body::Drain(Drain { node: NodeId::of(&key(99)), drained }))
}

#[test]
fn of_two_admins_who_remove_each_other_in_a_split_the_lower_key_stays_on_both_sides() {
    let sample = Sample::new();
    let mut entries = two_admins(&sample);
    let (left, right) = (sample.removes(key(6), key(5), &[]), sample.removes(key(5), key(6), &[]));
    // Each side has heard one removal before the other.
    let [mut one, mut two] = [&left, &right].map(|first| {
        let mut side = sample.catalogue(&entries);
        assert_eq!(side.insert(first.clone()), Inserted::Applied);
        side.purge();
        side
    });
    assert_eq!((admins(&one), admins(&two)), (vec![ROOT, key(6)], vec![ROOT, key(5)]));
    for (side, late) in [(&mut one, &right), (&mut two, &left)] {
        assert_eq!(side.insert(late.clone()), Inserted::Applied, "it is kept, whatever it does");
        side.purge();
    }
    assert_eq!(one.root(), two.root());
    assert_eq!(one.state(), two.state());
    assert_eq!(admins(&one), [ROOT, key(5)]);
    entries.extend([left, right]);
    assert_eq!(admins(&sample.in_any_order(&entries)), [ROOT, key(5)]);
}

#[test]
fn an_admin_and_the_root_who_remove_each_other_leave_the_root() {
    let sample = Sample::new();
    let grant = sample.operator(key(5), Role::Admin);
    let entries =
        [grant.clone(), sample.removes(key(5), ROOT, &[&grant]), sample.removes(ROOT, key(5), &[])];
    assert_eq!(admins(&sample.in_any_order(&entries)), [ROOT]);
}

#[test]
fn three_admins_in_a_ring_of_removals_end_alike_in_any_order() {
    let sample = Sample::new();
    let mut entries: Vec<Entry> = [5, 6, 7].map(|n| sample.operator(key(n), Role::Admin)).to_vec();
    for (author, victim) in [(5, 6), (6, 7), (7, 5)] {
        entries.push(sample.removes(key(author), key(victim), &[]));
    }
    // 5 removes 6, so 6 removes nobody; and 7 cannot undo what 5 did.
    assert_eq!(admins(&sample.in_any_order(&entries)), [ROOT, key(5), key(7)]);
}

#[test]
fn an_admin_removes_the_root_and_stands_on_what_the_removal_keeps() {
    let sample = Sample::new();
    let grant = sample.operator(key(5), Role::Admin);
    let other = sample.operator(key(6), Role::Deployer);
    let removal = sample.removes(key(5), ROOT, &[&grant]);
    let entries = [grant, other, removal];
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(admins(&catalogue), [key(5)]);
    assert_eq!(role(&catalogue, key(6)), None, "whom the removal does not keep is gone");
    assert!(catalogue.state().removed_operators.contains(&ROOT));
}

#[test]
fn a_removal_that_would_leave_no_admin_is_refused_and_does_nothing_where_it_arrives() {
    let sample = Sample::new();
    let entries = [sample.operator(key(5), Role::Admin)];
    for removal in [sample.removes(key(5), ROOT, &[]), sample.removes(ROOT, ROOT, &[])] {
        assert_eq!(refused(&sample, &entries, &removal), Some(Refusal::OwnGround));
        let all = [entries[0].clone(), removal];
        assert_eq!(admins(&sample.in_any_order(&all)), [ROOT, key(5)]);
    }
}

#[test]
fn an_admin_who_steps_down_needs_another_one_to_write_it() {
    let sample = Sample::new();
    let entries = two_admins(&sample);
    let itself = sample.names((key(5), 2), key(5), Role::Viewer);
    assert_eq!(refused(&sample, &entries, &itself), Some(Refusal::OwnGround));
    let other = sample.names((key(6), 2), key(5), Role::Viewer);
    assert_eq!(refused(&sample, &entries, &other), None);
}

#[test]
fn an_admin_demotes_another_whom_the_root_made() {
    let sample = Sample::new();
    let mut entries = two_admins(&sample);
    let third = sample.names((key(6), 1), key(7), Role::Admin);
    let demotion = sample.names((key(7), 2), key(5), Role::Deployer);
    assert_eq!(
        refused(&sample, &[&entries[..], std::slice::from_ref(&third)].concat(), &demotion),
        None
    );
    entries.extend([third, demotion]);
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(role(&catalogue, key(5)), Some(Role::Deployer), "though 7 is farther from the root");

    entries.push(sample.names((ROOT, 3), key(5), Role::Admin));
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(role(&catalogue, key(5)), Some(Role::Admin), "what is said later counts");
}

#[test]
fn two_admins_who_demote_each_other_leave_one() {
    let sample = Sample::new();
    let mut entries = two_admins(&sample);
    entries.push(sample.names((key(5), 2), key(6), Role::Viewer));
    entries.push(sample.names((key(6), 2), key(5), Role::Viewer));
    assert_eq!(admins(&sample.in_any_order(&entries)), [ROOT, key(5)]);
}

#[test]
fn nobody_demotes_the_admin_who_made_him_one_in_the_same_breath() {
    // 5 makes 6 an admin, and 6 demotes 5: the demotion stands on what it would take away.
    let sample = Sample::new();
    let first = sample.operator(key(5), Role::Admin);
    let second = sample.names((key(5), 1), key(6), Role::Admin);
    let demotion = sample.names((key(6), 2), key(5), Role::Viewer);
    assert_eq!(
        refused(&sample, &[first.clone(), second.clone()], &demotion),
        Some(Refusal::OwnGround)
    );
    let catalogue = sample.in_any_order(&[first.clone(), second.clone(), demotion]);
    assert_eq!(admins(&catalogue), [ROOT, key(5), key(6)]);

    // With the record that made 6 an admin among those that stay, it does not.
    let name = "someone".parse().unwrap();
    let keep = kept(&[&second]);
    let demotion = Operator { key: key(5), name, role: Role::Viewer, keep };
    let demotion = sample.says(key(6), 2, Body::Operator(demotion));
    let catalogue = sample.in_any_order(&[first, second, demotion]);
    assert_eq!(admins(&catalogue), [ROOT, key(6)]);
}

#[test]
fn nobody_brings_back_whom_somebody_nearer_to_the_root_removed() {
    let sample = Sample::new();
    let mut entries = two_admins(&sample);
    entries.push(sample.operator(key(7), Role::Admin));
    let first = sample.removes(key(5), key(7), &[]);
    entries.push(first.clone());
    let undoing = sample.removes(key(6), key(5), &[]);
    assert_eq!(refused(&sample, &entries, &undoing), Some(Refusal::Senior));
    entries.push(undoing);
    assert_eq!(admins(&sample.in_any_order(&entries)), [ROOT, key(5), key(6)]);

    entries.pop();
    entries.push(sample.removes(key(6), key(5), &[&first]));
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(admins(&catalogue), [ROOT, key(6)], "the first removal stays, and 7 is removed");
}

#[test]
fn a_removed_operator_does_not_come_back_by_a_new_grant() {
    let sample = Sample::new();
    let mut entries = vec![sample.operator(key(5), Role::Admin)];
    entries.push(sample.removes(ROOT, key(5), &[]));
    let again = sample.names((ROOT, 2), key(5), Role::Viewer);
    assert_eq!(refused(&sample, &entries, &again), Some(Refusal::Outranked));
    entries.push(again);
    assert_eq!(role(&sample.in_any_order(&entries), key(5)), None);
}

#[test]
fn a_demotion_takes_back_what_it_does_not_keep() {
    let sample = Sample::new();
    let (kept_one, lost) = (
        sample.says(key(5), 1, Body::Drain(Drain { node: NodeId::of(&key(98)), drained: true })),
        drain(&sample, key(5), 1, true),
    );
    let operator = |keep| {
        let name = "someone".parse().unwrap();
        Body::Operator(Operator { key: key(5), name, role: Role::Viewer, keep })
    };
    let entries = [
        sample.operator(key(5), Role::Deployer),
        kept_one.clone(),
        lost.clone(),
        sample.says(ROOT, 2, operator(kept(&[&kept_one]))),
    ];
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(catalogue.record(&kept_one.record.body.key()), Some(&kept_one));
    assert_eq!(catalogue.record(&lost.record.body.key()), None);
}

#[test]
fn a_kept_record_survives_that_its_removed_author_replaced_it_meanwhile() {
    let sample = Sample::new();
    let grant = sample.operator(key(5), Role::Deployer);
    let good = drain(&sample, key(5), 1, true);
    let bad = drain(&sample, key(5), 2, false);
    let removal = sample.removes(ROOT, key(5), &[&good]);
    let entry_agent = sample.catalogue(&[grant.clone(), good.clone()]);
    let (refused, kept) = entry_agent.check(std::slice::from_ref(&removal));
    assert_eq!((refused, &kept), (Vec::new(), &vec![good.clone()]), "it is stored again with it");

    // The thief's record reached every node before the removal did, the entry agent while it stored the removal.
    let mut node = sample.catalogue(&[grant.clone(), good.clone(), bad.clone()]);
    assert_eq!(node.record(&good.record.body.key()), Some(&bad));
    node.extend([vec![removal.clone()], kept].concat());
    node.purge();
    assert_eq!(node.record(&good.record.body.key()), Some(&good));
    sample.in_any_order(&[grant, good, bad, removal]);
}

#[test]
fn a_removal_that_keeps_what_is_not_here_is_not_taken() {
    let sample = Sample::new();
    let grant = sample.operator(key(5), Role::Deployer);
    let elsewhere = drain(&sample, key(5), 1, true);
    let removal = sample.removes(ROOT, key(5), &[&elsewhere]);
    let known = sample.catalogue(&[grant]);
    let (refused, _) = known.check(std::slice::from_ref(&removal));
    assert_eq!(refused, [(removal.hash, Refusal::UnknownKept(elsewhere.hash))]);
    let (refused, _) = known.check(&[removal, elsewhere]);
    assert_eq!(refused, [], "handed in together they are");
}

#[test]
fn a_deployer_says_nothing_about_operators() {
    let sample = Sample::new();
    let grant = sample.operator(key(5), Role::Deployer);
    let own = sample.names((key(5), 2), key(5), Role::Admin);
    let role_of = |it: &Refusal| matches!(it, Refusal::Role { needed: Role::Admin, .. });
    assert!(refused(&sample, std::slice::from_ref(&grant), &own).is_some_and(|it| role_of(&it)));
    let stranger = sample.names((key(8), 2), key(8), Role::Admin);
    let unknown = Some(Refusal::UnknownAuthor(key(8)));
    assert_eq!(refused(&sample, std::slice::from_ref(&grant), &stranger), unknown);
    let catalogue = sample.in_any_order(&[grant, own, stranger]);
    assert_eq!(role(&catalogue, key(5)), Some(Role::Deployer));
}

/// What somebody might say, of operators, of the root or of a node, keeping some of what was said before.
fn anything(sample: &Sample, prng: &mut Prng, said: &[Entry]) -> Entry {
    let [author, other] = [0; 2].map(|_| match prng.below(6) {
        0 => ROOT,
        n => key(4 + u8::try_from(n).unwrap()),
    });
    let keep: Vec<&Entry> = said.iter().filter(|_| prng.below(3) > 0).collect();
    let generation = 1 + prng.below(3);
    match prng.below(13) {
        0..=2 => sample.removes(author, other, &keep),
        3..=8 => {
            let name = "someone".parse().unwrap();
            let roles = [Role::Viewer, Role::Deployer, Role::Admin, Role::Admin];
            let role = *prng.pick(&roles).unwrap();
            let operator = Operator { key: other, name, role, keep: kept(&keep) };
            sample.says(author, generation, Body::Operator(operator))
        }
        9 => {
            let recoveries = [RECOVERY, key(31), key(32), key(33)];
            let [author, next] = [0; 2].map(|_| *prng.pick(&recoveries).unwrap());
            sample.rotation((author, generation), (other, next), &keep)
        }
        _ => drain(sample, author, generation, prng.chance(500)),
    }
}

#[test]
fn whatever_operators_say_of_each_other_all_agree_and_an_admin_remains() {
    let sample = Sample::new();
    let mut prng = Prng::new(20);
    for _ in 0..60 {
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..24 {
            let entry = anything(&sample, &mut prng, &entries);
            entries.push(entry);
        }
        let catalogue = sample.in_any_order(&entries);
        assert!(!admins(&catalogue).is_empty(), "nobody is left: {entries:?}");
    }
}

#[test]
fn whatever_is_said_on_the_sides_of_a_split_they_agree_when_it_heals() {
    let sample = Sample::new();
    let mut prng = Prng::new(21);
    for _ in 0..400 {
        let common = [5, 6, 7].map(|n| sample.operator(key(n), Role::Admin));
        let mut sides = [0; 3].map(|_| sample.catalogue(&common));
        let mut said = common.to_vec();
        for _ in 0..24 {
            let entry = anything(&sample, &mut prng, &said);
            let side = usize::try_from(prng.below(3)).unwrap();
            sides[side].insert(entry.clone());
            sides[side].purge();
            said.push(entry);
        }
        heal(&mut sides);
        assert!(!admins(&sides[0]).is_empty(), "nobody is left");
    }
}
