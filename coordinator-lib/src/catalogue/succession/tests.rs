//! No record is the last one of its key.

use std::collections::{BTreeMap, BTreeSet};

use super::super::sample::{ROOT, Sample, key};
use super::super::{Body, Drain, Entry, Inserted, Refusal, Release, Restart, Role};
use super::{GENERATION_MAX, GENERATION_MAX_OF_ADMINS, NUMBER_MAX, STEP_MAX, WRITTEN_MAX};
use crate::id::{AppUid, NodeId, PublicKey};
use crate::spec::AppSpec;
use crate::time::WallTime;

fn drain(drained: bool) -> Body {
    Body::Drain(Drain { node: NodeId::of(&key(9)), drained })
}

fn at(sample: &Sample, author: PublicKey, generation: u64) -> Entry {
    sample.says(author, generation, drain(true))
}

#[test]
fn a_record_above_its_authors_ceiling_is_refused() {
    let sample = Sample::new();
    let mut catalogue = sample.catalogue(&[sample.operator(key(5), Role::Deployer)]);
    for (author, max) in [(key(5), GENERATION_MAX), (ROOT, GENERATION_MAX_OF_ADMINS)] {
        for found in [max + 1, u64::MAX] {
            let outcome = catalogue.insert(at(&sample, author, found));
            assert_eq!(outcome, Inserted::Refused(Refusal::Generation { found, max }));
        }
        assert_eq!(catalogue.insert(at(&sample, author, max)), Inserted::Applied);
    }
}

#[test]
fn an_admin_follows_whatever_a_deployer_wrote() {
    let sample = Sample::new();
    let lock = at(&sample, key(5), GENERATION_MAX);
    let answer = sample.says(ROOT, GENERATION_MAX + 1, drain(false));
    let entries = [sample.operator(key(5), Role::Deployer), lock, answer.clone()];
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(catalogue.record(&drain(true).key()), Some(&answer));
}

#[test]
fn a_lock_goes_with_the_operator_who_wrote_it() {
    let sample = Sample::new();
    let removal = super::super::OperatorRemoval { key: key(5), keep: Vec::new() };
    let before = sample.says(ROOT, 4, drain(false));
    let entries = [
        sample.operator(key(5), Role::Admin),
        at(&sample, key(5), GENERATION_MAX_OF_ADMINS),
        before.clone(),
        sample.says(ROOT, 1, Body::OperatorRemoval(removal)),
    ];
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(catalogue.record(&drain(true).key()), Some(&before));
}

#[test]
fn a_ceiling_leaves_the_order_of_arrival_without_meaning() {
    let sample = Sample::new();
    let generations = [1, 7, GENERATION_MAX, GENERATION_MAX + 1, u64::MAX];
    let mut entries = vec![sample.operator(key(5), Role::Deployer)];
    for author in [key(5), ROOT] {
        entries.extend(generations.map(|generation| at(&sample, author, generation)));
    }
    let catalogue = sample.in_any_order(&entries);
    let best = catalogue.record(&drain(true).key()).unwrap();
    assert_eq!((best.record.author, best.record.stamp.generation), (ROOT, GENERATION_MAX + 1));
}

#[test]
fn what_is_handed_in_is_one_step_above_its_parent() {
    let sample = Sample::new();
    let parent = at(&sample, ROOT, 7);
    let catalogue = sample.catalogue(std::slice::from_ref(&parent));
    let next =
        |generation| catalogue.check_step(&sample.follows(&parent, generation, drain(false)));
    assert_eq!(next(8), Ok(()));
    assert_eq!(next(9), Err(Refusal::Generation { found: 9, max: 8 }));
}

#[test]
fn what_follows_a_record_that_is_not_known_here_is_not_far_above() {
    let sample = Sample::new();
    let catalogue = sample.catalogue(&[at(&sample, ROOT, 7)]);
    let elsewhere = at(&sample, key(5), 60);
    let next =
        |generation| catalogue.check_step(&sample.follows(&elsewhere, generation, drain(false)));
    assert_eq!(next(61), Ok(()));
    assert_eq!(next(7 + STEP_MAX), Ok(()));
    assert!(next(7 + STEP_MAX + 1).is_err());
    assert!(
        catalogue.check_step(&at(&sample, ROOT, u64::MAX)).is_err(),
        "nor what follows nothing"
    );
}

#[test]
fn a_record_of_another_key_is_no_parent() {
    let sample = Sample::new();
    let other =
        sample.says(ROOT, 9_000, Body::Drain(Drain { node: NodeId::of(&key(8)), drained: true }));
    let catalogue = sample.catalogue(std::slice::from_ref(&other));
    assert!(catalogue.check_step(&sample.follows(&other, 9_001, drain(true))).is_err());
}

fn restart(count: u64) -> Body {
    let service = "web".parse().unwrap();
    Body::Restart(Restart { app: AppUid([1; 16]), service, count })
}

fn release(version: u64) -> Body {
    let spec = AppSpec { name: "blog".parse().unwrap(), services: BTreeMap::new() };
    Body::App(Release { app: AppUid([1; 16]), version, spec, roster: BTreeSet::new() })
}

#[test]
fn no_number_is_so_high_that_the_next_one_looks_like_it() {
    let sample = Sample::new();
    let mut catalogue = sample.catalogue(&[]);
    for body in [restart, release] {
        for found in [NUMBER_MAX + 1, u64::MAX] {
            let outcome = catalogue.insert(sample.says(ROOT, 1, body(found)));
            let Inserted::Refused(Refusal::Number { found: said, max: NUMBER_MAX, .. }) = outcome
            else {
                panic!("{outcome:?}")
            };
            assert_eq!(said, found);
        }
        assert_eq!(catalogue.insert(sample.says(ROOT, 1, body(NUMBER_MAX))), Inserted::Applied);
    }
}

#[test]
fn what_is_handed_in_counts_on_from_what_is_known() {
    let sample = Sample::new();
    for body in [restart, release] {
        let first = sample.says(ROOT, 1, body(7));
        let catalogue = sample.catalogue(std::slice::from_ref(&first));
        let next = |n| catalogue.check_step(&sample.follows(&first, 2, body(n)));
        assert_eq!(next(8), Ok(()));
        assert_eq!(next(1), Ok(()), "and may begin anew");
        assert!(matches!(next(8 + STEP_MAX), Err(Refusal::Number { .. })));
        assert!(matches!(next(u64::MAX), Err(Refusal::Number { .. })));
    }
}

#[test]
fn a_stamp_beyond_reason_is_refused() {
    let sample = Sample::new();
    let mut catalogue = sample.catalogue(&[]);
    let mut entry = at(&sample, ROOT, 1);
    entry.record.stamp.written = WallTime(u64::MAX);
    let outcome = catalogue.insert(entry.clone());
    assert!(matches!(outcome, Inserted::Refused(Refusal::Number { what: "moment", .. })));
    entry.record.stamp.written = WallTime(WRITTEN_MAX);
    assert_eq!(catalogue.insert(entry), Inserted::Applied);
}
