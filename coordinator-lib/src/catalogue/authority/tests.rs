//! A removed node admits nobody any more, and the latest word about an operator's role counts.

use super::super::sample::{ROOT, Sample, key};
use super::super::{
    Body, Entry, Inserted, Invitation, KeptRecord, Member, Operator, Refusal, Role,
};
use crate::id::{NodeId, PublicKey};
use crate::time::WallTime;

/// The node that redeems, the invitation, and a guest.
const REDEEMER: u8 = 10;
const INVITATION: u8 = 20;

fn member(n: u8, invitation: Option<PublicKey>) -> Body {
    Body::Member(Member {
        key: key(n),
        name: format!("node{n}").parse().unwrap(),
        invitation,
        invited: invitation.map(|_| crate::id::Signature([1; 64])),
    })
}

fn invited(sample: &Sample, redeemer: u8, n: u8) -> Entry {
    sample.says(key(redeemer), 1, member(n, Some(key(INVITATION))))
}

fn beginning(sample: &Sample) -> Vec<Entry> {
    let invitation = Invitation {
        key: key(INVITATION),
        redeemer: NodeId::of(&key(REDEEMER)),
        expires: WallTime(1),
        uses: 1,
    };
    vec![
        sample.says(ROOT, 1, member(REDEEMER, None)),
        sample.says(ROOT, 1, Body::Invitation(invitation)),
    ]
}

fn removal(sample: &Sample, keep: &[&Entry]) -> Entry {
    let keep = keep.iter().map(|entry| KeptRecord { hash: entry.hash }).collect();
    let node = NodeId::of(&key(REDEEMER));
    sample.says(ROOT, 1, Body::MemberRemoval { node, keep, destroyed: false })
}

fn is_member(catalogue: &super::super::Catalogue, n: u8) -> bool {
    catalogue.state().nodes.contains_key(&NodeId::of(&key(n)))
}

#[test]
fn what_a_removed_node_countersigns_later_is_void() {
    let sample = Sample::new();
    let (before, after) = (invited(&sample, REDEEMER, 30), invited(&sample, REDEEMER, 31));
    let mut catalogue = sample.catalogue(&beginning(&sample));
    assert_eq!(catalogue.insert(before.clone()), Inserted::Applied);
    catalogue.insert(removal(&sample, &[&before]));
    let outcome = catalogue.insert(after);
    assert_eq!(outcome, Inserted::Refused(Refusal::RemovedAuthor));
    assert!(is_member(&catalogue, 30), "whom the removal lists stays");
    assert!(!is_member(&catalogue, 31));
}

#[test]
fn who_joins_while_the_redeemer_is_removed_is_judged_alike_everywhere() {
    let sample = Sample::new();
    let (kept, left) = (invited(&sample, REDEEMER, 30), invited(&sample, REDEEMER, 31));
    let mut entries = beginning(&sample);
    entries.extend([kept.clone(), left, removal(&sample, &[&kept])]);
    let catalogue = sample.in_any_order(&entries);
    assert!(is_member(&catalogue, 30) && !is_member(&catalogue, 31));
}

#[test]
fn whoever_was_admitted_by_a_void_member_is_void_too() {
    let sample = Sample::new();
    let second =
        Invitation { key: key(21), redeemer: NodeId::of(&key(31)), expires: WallTime(1), uses: 1 };
    let mut entries = beginning(&sample);
    entries.extend([
        invited(&sample, REDEEMER, 31),
        sample.says(ROOT, 1, Body::Invitation(second)),
        sample.says(key(31), 1, member(32, Some(key(21)))),
    ]);
    let before = sample.in_any_order(&entries);
    assert!(is_member(&before, 31) && is_member(&before, 32));
    entries.push(removal(&sample, &[]));
    let after = sample.in_any_order(&entries);
    assert!(!is_member(&after, 31) && !is_member(&after, 32));
}

#[test]
fn of_two_admins_at_one_distance_the_later_one_says_what_a_third_may_do() {
    let sample = Sample::new();
    let name = || "third".parse().unwrap();
    let says = |author: u8, generation, role| {
        let operator = Operator { key: key(7), name: name(), role, keep: Vec::new() };
        sample.says(key(author), generation, Body::Operator(operator))
    };
    for (earlier, later) in [(5, 6), (6, 5)] {
        let catalogue = sample.in_any_order(&[
            sample.operator(key(5), Role::Admin),
            sample.operator(key(6), Role::Admin),
            says(earlier, 1, Role::Admin),
            says(later, 2, Role::Viewer),
        ]);
        let third = &catalogue.state().operators[&key(7)];
        assert_eq!(third.role, Role::Viewer, "{later} has taken it back");
    }
}

#[test]
fn a_record_of_another_mesh_is_refused() {
    let sample = Sample::new();
    let mut entry = sample.operator(key(5), Role::Admin);
    entry.record.mesh = crate::id::MeshId(crate::id::Hash([9; 32]));
    let mut catalogue = sample.catalogue(&[]);
    assert_eq!(catalogue.insert(entry), Inserted::Refused(Refusal::OtherMesh));
    // Nor does another birth of the mesh count, by the same root.
    let mut born = sample.genesis;
    born.hash = crate::id::Hash([9; 32]);
    assert_eq!(catalogue.insert(born), Inserted::Refused(Refusal::OtherMesh));
}

#[test]
fn a_token_that_is_used_on_both_sides_of_a_split_counts_where_its_redeemer_is() {
    let sample = Sample::new();
    let other = sample.says(ROOT, 1, member(11, None));
    let there = invited(&sample, REDEEMER, 30);
    // The other side has the token and the invitation, and a member that would like to help.
    let here = invited(&sample, 11, 31);
    let mut unsigned = invited(&sample, REDEEMER, 32);
    unsigned.invitation_verified = false;
    let mut entries = beginning(&sample);
    entries.push(other);
    let mut side = sample.catalogue(&entries);
    for forged in [&here, &unsigned] {
        assert_eq!(side.insert(forged.clone()), Inserted::Refused(Refusal::Invitation));
    }
    entries.extend([there, here, unsigned]);
    let catalogue = sample.in_any_order(&entries);
    assert!(is_member(&catalogue, 30) && !is_member(&catalogue, 31) && !is_member(&catalogue, 32));
}

#[test]
fn a_viewer_changes_nothing_and_a_deployer_admits_nobody() {
    let sample = Sample::new();
    let drain = |n| {
        let drain = super::super::Drain { node: NodeId::of(&key(REDEEMER)), drained: true };
        sample.says(key(n), 1, Body::Drain(drain))
    };
    let mut catalogue = sample.catalogue(&[
        sample.operator(key(5), Role::Viewer),
        sample.operator(key(6), Role::Deployer),
    ]);
    let role = |needed, found| Inserted::Refused(Refusal::Role { needed, found });
    assert_eq!(catalogue.insert(drain(5)), role(Role::Deployer, Role::Viewer));
    assert_eq!(catalogue.insert(drain(6)), Inserted::Applied);
    let admitted = sample.says(key(6), 1, member(30, None));
    assert_eq!(catalogue.insert(admitted), role(Role::Admin, Role::Deployer));
}
