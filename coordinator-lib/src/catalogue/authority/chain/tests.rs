//! The recovery key replaces the root, once, for everybody.

use crate::catalogue::sample::{RECOVERY, ROOT, Sample, key};
use crate::catalogue::{Body, Drain, Entry, Inserted, Refusal, Role};
use crate::id::{NodeId, PublicKey};

/// The second root, and the second recovery key.
const NEW: PublicKey = PublicKey([3; 32]);
const NEXT: PublicKey = PublicKey([4; 32]);

fn drain(sample: &Sample, author: PublicKey, drained: bool) -> Entry {
    sample.says(author, 1, Body::Drain(Drain { node: NodeId::of(&key(99)), drained }))
}

fn refused(sample: &Sample, entries: &[Entry], entry: &Entry) -> Option<Refusal> {
    let (refused, _) = sample.catalogue(entries).check(std::slice::from_ref(entry));
    refused.into_iter().next().map(|(_, refusal)| refusal)
}

#[test]
fn a_new_root_takes_the_place_of_the_old_one() {
    let sample = Sample::new();
    let (kept, thief) =
        (sample.operator(key(5), Role::Admin), sample.operator(key(6), Role::Admin));
    let rotation = sample.rotation((RECOVERY, 1), (NEW, NEXT), &[&kept]);
    let entries = [
        kept,
        thief,
        sample.removes(ROOT, key(7), &[]),
        drain(&sample, ROOT, true),
        drain(&sample, key(6), true),
        rotation,
    ];
    let catalogue = sample.in_any_order(&entries);
    let state = catalogue.state();
    assert_eq!(state.operators.keys().copied().collect::<Vec<_>>(), [NEW, key(5)]);
    assert_eq!(state.operators[&NEW].role, Role::Admin);
    assert_eq!((state.root, state.recovery), (Some(NEW), Some(NEXT)));
    assert!(state.removed_operators.contains(&ROOT), "the old root is refused");
    assert!(!state.removed_operators.contains(&key(7)), "what the old root took is given back");
    assert_eq!(catalogue.record(&drain(&sample, ROOT, true).record.body.key()), None);
}

#[test]
fn what_the_old_root_signs_afterwards_is_void_and_the_new_one_goes_on() {
    let sample = Sample::new();
    let rotation = sample.rotation((RECOVERY, 1), (NEW, NEXT), &[]);
    let mut catalogue = sample.catalogue(&[rotation]);
    let late = drain(&sample, ROOT, true);
    assert_eq!(catalogue.insert(late), Inserted::Refused(Refusal::RemovedAuthor));
    for act in [sample.removes(ROOT, NEW, &[]), sample.operator(key(6), Role::Admin)] {
        catalogue.insert(act);
        assert_eq!(catalogue.state().operators.keys().copied().collect::<Vec<_>>(), [NEW]);
    }
    assert_eq!(catalogue.insert(drain(&sample, NEW, true)), Inserted::Applied);
}

#[test]
fn a_mesh_that_a_thief_took_over_is_taken_back() {
    // The thief removed the root, and everybody else.
    let sample = Sample::new();
    let (thief, other) =
        (sample.operator(key(6), Role::Admin), sample.operator(key(7), Role::Admin));
    let mut entries = vec![
        thief.clone(),
        other.clone(),
        sample.removes(key(6), ROOT, &[&thief, &other]),
        sample.removes(key(6), key(7), &[]),
    ];
    let taken = sample.in_any_order(&entries);
    assert_eq!(taken.state().operators.keys().copied().collect::<Vec<_>>(), [key(6)]);
    entries.push(sample.rotation((RECOVERY, 1), (NEW, NEXT), &[&other]));
    let back = sample.in_any_order(&entries);
    assert_eq!(back.state().operators.keys().copied().collect::<Vec<_>>(), [NEW, key(7)]);
}

#[test]
fn a_recovery_key_is_used_once_and_the_earlier_use_wins() {
    let sample = Sample::new();
    let first = sample.rotation((RECOVERY, 1), (NEW, NEXT), &[]);
    let mut second = sample.rotation((RECOVERY, 1), (key(30), key(31)), &[]);
    second.record.stamp.written.0 += 1;
    assert_eq!(refused(&sample, std::slice::from_ref(&first), &second), Some(Refusal::Recovery));
    let raised = sample.rotation((RECOVERY, 2), (key(30), key(31)), &[]);
    assert_eq!(refused(&sample, std::slice::from_ref(&first), &raised), Some(Refusal::Recovery));
    // Handed in on the two sides of a split, one of them wins everywhere, with all that follows from it.
    let third = sample.rotation((NEXT, 2), (key(40), key(41)), &[]);
    let lost = sample.rotation((key(31), 2), (key(50), key(51)), &[]);
    for entries in [
        vec![first.clone(), second.clone(), third.clone(), lost.clone(), raised.clone()],
        vec![lost, raised, second, third, first],
    ] {
        let catalogue = sample.in_any_order(&entries);
        assert_eq!(catalogue.state().root, Some(key(40)));
        assert_eq!(catalogue.state().recovery, Some(key(41)));
        let operators: Vec<_> = catalogue.state().operators.keys().copied().collect();
        assert_eq!(operators, [key(40)]);
    }
}

#[test]
fn a_second_rotation_keeps_of_every_former_root_what_it_lists() {
    let sample = Sample::new();
    let [one, two] = [5, 6].map(|n| sample.operator(key(n), Role::Admin));
    let mine = sample.names((NEW, 1), key(7), Role::Admin);
    let entries = [
        one.clone(),
        two.clone(),
        mine.clone(),
        sample.rotation((RECOVERY, 1), (NEW, NEXT), &[&one]),
        sample.rotation((NEXT, 2), (key(40), key(41)), &[&two, &mine]),
    ];
    let catalogue = sample.in_any_order(&entries);
    let operators: Vec<_> = catalogue.state().operators.keys().copied().collect();
    assert_eq!(operators, [key(7), key(40)], "neither rotation brings back what another left out");
}

#[test]
fn only_the_recovery_key_that_counts_rotates() {
    let sample = Sample::new();
    let by = |author, generation| sample.rotation((author, generation), (NEW, NEXT), &[]);
    let unknown = |key| Some(Refusal::UnknownAuthor(key));
    assert_eq!(refused(&sample, &[], &by(ROOT, 1)), unknown(ROOT));
    assert_eq!(refused(&sample, &[], &by(key(77), 1)), unknown(key(77)));
    assert_eq!(refused(&sample, &[], &by(RECOVERY, 2)), Some(Refusal::Recovery));
    let itself = sample.rotation((RECOVERY, 1), (NEW, RECOVERY), &[]);
    assert_eq!(refused(&sample, &[], &itself), Some(Refusal::Recovery), "it names itself again");
    let admin = sample.operator(key(5), Role::Admin);
    assert_eq!(refused(&sample, &[admin], &by(key(5), 1)), unknown(key(5)));
    // And it does nothing else.
    assert_eq!(refused(&sample, &[], &drain(&sample, RECOVERY, true)), unknown(RECOVERY));
}

#[test]
fn a_former_root_does_not_become_the_root_again() {
    let sample = Sample::new();
    let first = sample.rotation((RECOVERY, 1), (NEW, NEXT), &[]);
    let back = sample.rotation((NEXT, 2), (ROOT, key(41)), &[]);
    assert_eq!(refused(&sample, std::slice::from_ref(&first), &back), Some(Refusal::Recovery));
    let catalogue = sample.in_any_order(&[first, back]);
    assert_eq!(catalogue.state().root, Some(NEW));
}

#[test]
fn the_recovery_key_alone_can_be_replaced() {
    let sample = Sample::new();
    let rotation = sample.rotation((RECOVERY, 1), (ROOT, NEXT), &[]);
    let catalogue = sample.in_any_order(&[drain(&sample, ROOT, true), rotation]);
    let state = catalogue.state();
    assert_eq!((state.root, state.recovery), (Some(ROOT), Some(NEXT)));
    assert!(state.removed_operators.is_empty());
    assert!(catalogue.record(&drain(&sample, ROOT, true).record.body.key()).is_some());
}
