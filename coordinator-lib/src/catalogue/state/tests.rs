//! What a tombstone ends, and which of two apps with one name runs.

use std::collections::{BTreeMap, BTreeSet};

use super::super::sample::{ROOT, Sample, key};
use super::super::{Body, Catalogue, Entry, Release, Role, Scale};
use crate::id::{AppUid, NodeId, Revision};
use crate::lease::exclusive::{StoreId, Timing, WitnessId};
use crate::name::AppName;
use crate::spec::{AppSpec, Guarantee, sample};

type Roster = BTreeSet<WitnessId>;

fn name() -> AppName {
    "web".parse().unwrap()
}

fn release(sample: &Sample, life: u64) -> Entry {
    let app = AppUid::of(sample.mesh, &name(), life);
    let spec = AppSpec { name: name(), services: BTreeMap::new() };
    sample.says(ROOT, 1, Body::App(Release { app, version: 1, spec, roster: Roster::new() }))
}

fn tombstone(sample: &Sample, app: AppUid) -> Entry {
    sample.says(ROOT, 1, Body::AppRemoval { app, name: name() })
}

/// Three nodes, with stores of this number.
fn roster(store: u128) -> Roster {
    let witness = |n| WitnessId { node: NodeId::from_bytes([n; 10]), store: StoreId(store) };
    [1, 2, 3].map(witness).into()
}

fn uid(sample: &Sample, life: u64, roster: &Roster) -> AppUid {
    AppUid::with_roster(sample.mesh, &name(), life, roster)
}

/// A release of the app with one exclusive service.
fn exclusive(app: AppUid, roster: Roster) -> Release {
    let ttl = Timing::DEFAULT_TTL;
    let mut service = sample::service(Revision { number: 1, id: 1 }, 1);
    service.guarantee = Guarantee::Exclusive { ttl };
    let services = BTreeMap::from([("db".parse().unwrap(), service)]);
    Release { app, version: 1, spec: AppSpec { name: name(), services }, roster }
}

/// The first life of the app with this roster.
fn placed(sample: &Sample, roster: &Roster) -> Entry {
    let release = exclusive(uid(sample, 0, roster), roster.clone());
    sample.says(ROOT, 1, Body::App(release))
}

fn running(catalogue: &Catalogue) -> Vec<AppUid> {
    catalogue.state().apps.keys().copied().collect()
}

fn parked(catalogue: &Catalogue) -> Vec<AppUid> {
    catalogue.state().parked.keys().copied().collect()
}

#[test]
fn an_exclusive_app_is_the_one_that_its_roster_makes() {
    let sample = Sample::new();
    let (mine, other) = (roster(1), roster(2));
    let says = |release| sample.in_any_order(&[sample.says(ROOT, 1, Body::App(release))]);
    let of = |store| uid(&sample, 0, &roster(store));
    assert_eq!(running(&says(exclusive(of(1), mine.clone()))), [of(1)]);
    assert_eq!(running(&says(exclusive(of(1), other))), [], "another roster is another app");
    let plain = AppUid::of(sample.mesh, &name(), 0);
    assert_eq!(running(&says(exclusive(plain, mine))), [], "nor is it the one without");
}

#[test]
fn an_exclusive_service_without_a_roster_is_void() {
    let sample = Sample::new();
    let app = AppUid::of(sample.mesh, &name(), 0);
    let entry = sample.says(ROOT, 1, Body::App(exclusive(app, Roster::new())));
    assert_eq!(running(&sample.in_any_order(&[entry])), []);
}

#[test]
fn an_app_keeps_its_roster_when_no_service_of_it_is_exclusive_any_more() {
    let sample = Sample::new();
    let first = placed(&sample, &roster(1));
    let Body::App(release) = first.record.body.clone() else { panic!() };
    let spec = AppSpec { name: name(), services: BTreeMap::new() };
    let second = sample.follows(&first, 2, Body::App(Release { version: 2, spec, ..release }));
    let catalogue = sample.in_any_order(&[first, second]);
    let app = &catalogue.state().apps[&uid(&sample, 0, &roster(1))];
    assert_eq!((app.release.version, &app.release.roster), (2, &roster(1)));
}

#[test]
fn of_two_apps_with_one_name_the_same_one_runs_everywhere_and_always() {
    let sample = Sample::new();
    let mut rosters = [roster(1), roster(2), Roster::new()];
    rosters.sort_by_key(|roster| uid(&sample, 0, roster));
    let entries: Vec<Entry> = rosters
        .iter()
        .map(|roster| match roster.len() {
            0 => release(&sample, 0),
            _ => placed(&sample, roster),
        })
        .collect();
    let uids = rosters.each_ref().map(|roster| uid(&sample, 0, roster));
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(running(&catalogue), uids[..1]);
    assert_eq!(parked(&catalogue), uids[1..]);

    // What is written later about the one that is parked does not bring it back.
    let Body::App(last) = entries[2].record.body.clone() else { panic!() };
    let version = last.version + 1;
    let later = sample.follows(&entries[2], 2, Body::App(Release { version, ..last }));
    let (service, app) = ("db".parse().unwrap(), uids[2]);
    let scale = sample.says(ROOT, 1, Body::Scale(Scale { app, service, replicas: 5 }));
    let catalogue = sample.in_any_order(&[&entries[..], &[later, scale]].concat());
    assert_eq!((running(&catalogue), parked(&catalogue)), (uids[..1].into(), uids[1..].into()));
    assert_eq!(catalogue.state().parked[&uids[2]].release.version, version);
}

#[test]
fn the_end_of_an_app_is_not_the_end_of_another_one_with_its_name() {
    let sample = Sample::new();
    let (mut here, mut there) = (roster(1), roster(2));
    if uid(&sample, 0, &here) > uid(&sample, 0, &there) {
        std::mem::swap(&mut here, &mut there);
    }
    let uids = [&here, &there].map(|roster| uid(&sample, 0, roster));
    let entries = [placed(&sample, &here), placed(&sample, &there)];
    let ends = |app| {
        let body = Body::AppRemoval { app, name: name() };
        sample.in_any_order(&[&entries[..], &[sample.says(ROOT, 1, body)]].concat())
    };
    let catalogue = ends(uids[1]);
    assert_eq!((running(&catalogue), parked(&catalogue)), (vec![uids[0]], vec![]));
    let catalogue = ends(uids[0]);
    assert_eq!((running(&catalogue), parked(&catalogue)), (vec![uids[1]], vec![]));
    // Of a roster that nobody has, or of none.
    for made_up in [roster(3), Roster::new()] {
        let catalogue = ends(uid(&sample, 0, &made_up));
        assert_eq!((running(&catalogue), parked(&catalogue)), (vec![uids[0]], vec![uids[1]]));
    }
}

#[test]
fn a_removed_exclusive_app_comes_back_only_as_another_one() {
    let sample = Sample::new();
    let roster = roster(1);
    let [first, second] = [0, 1].map(|life| uid(&sample, life, &roster));
    let removal = Body::AppRemoval { app: first, name: name() };
    let anew = sample.says(ROOT, 1, Body::App(exclusive(second, roster.clone())));
    let mut entries = vec![placed(&sample, &roster), anew];
    let catalogue = sample.in_any_order(&entries);
    assert_eq!(running(&catalogue), [first], "the next life has not begun");

    entries.push(sample.says(ROOT, 1, removal));
    let catalogue = sample.in_any_order(&entries);
    let state = catalogue.state();
    assert_eq!((running(&catalogue), parked(&catalogue)), (vec![second], vec![]));
    assert!(state.removed_apps.contains(&first));
    assert_eq!(state.uid_with_roster(sample.mesh, &name(), &roster), second);
    let plain = AppUid::of(sample.mesh, &name(), 0);
    assert_eq!(state.uid(sample.mesh, &name()), plain, "one without a roster never ended");
}

#[test]
fn a_life_is_over_whatever_else_its_tombstone_says() {
    let sample = Sample::new();
    let roster = roster(1);
    let [first, second] = [0, 1].map(|life| uid(&sample, life, &roster));
    let says = |author, generation, name: &str| {
        let body = Body::AppRemoval { app: first, name: name.parse().unwrap() };
        sample.says(author, generation, body)
    };
    // The later one holds under its key, and would keep the name from ever being used again.
    let entries = [
        sample.operator(key(5), Role::Deployer),
        placed(&sample, &roster),
        says(ROOT, 1, "web"),
        says(key(5), 9, "other"),
        sample.says(ROOT, 1, Body::App(exclusive(second, roster.clone()))),
    ];
    assert_eq!(running(&sample.in_any_order(&entries)), [second]);
}

#[test]
fn a_tombstone_for_another_life_of_the_name_ends_nothing() {
    let sample = Sample::new();
    let [now, future] = [0, 1].map(|life| AppUid::of(sample.mesh, &name(), life));
    let strange = tombstone(&sample, AppUid([7; 16]));
    let mut entries = vec![release(&sample, 0), strange, tombstone(&sample, future)];
    let catalogue = sample.in_any_order(&entries);
    assert!(catalogue.state().apps.contains_key(&now));
    assert_eq!(catalogue.state().uid(sample.mesh, &name()), now);

    entries.push(tombstone(&sample, now));
    let next = AppUid::of(sample.mesh, &name(), 2);
    let catalogue = sample.in_any_order(&entries);
    assert!(catalogue.state().apps.is_empty());
    assert_eq!(catalogue.state().uid(sample.mesh, &name()), next, "the next life is a new one");
}
