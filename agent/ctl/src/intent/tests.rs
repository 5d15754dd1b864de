//! Records follow what they change.

use mesh_coordinator::catalogue::{Body, Drain};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::time::WallTime;

use super::{Author, Times};
use crate::mesh::fake::{MESH, OPERATOR, entry, node_key};

fn body(drained: bool) -> Body {
    Body::Drain(Drain { node: NodeId::of(&node_key(1)), drained })
}

fn at(now: u64) -> Author {
    Author { mesh: MESH, key: OPERATOR, now: WallTime(now) }
}

#[test]
fn the_first_record_has_generation_one_and_no_parent() {
    let record = at(5).follow(None, body(true));
    assert_eq!((record.stamp.generation, record.parent), (1, None));
    assert_eq!((record.mesh, record.author), (MESH, OPERATOR));
}

#[test]
fn a_record_names_its_parent_and_is_one_generation_later() {
    let first = entry(at(5).follow(None, body(true)));
    let second = at(6).follow(Some(&first), body(false));
    assert_eq!((second.stamp.generation, second.parent), (2, Some(first.hash)));
    assert_eq!(second.stamp.written, WallTime(6));
}

#[test]
fn a_clock_that_is_behind_does_not_write_before_the_parent() {
    let first = entry(at(1_000).follow(None, body(true)));
    let second = at(5).follow(Some(&first), body(false));
    assert_eq!(second.stamp.written, WallTime(1_000));
}

#[test]
fn a_time_that_this_machine_finds_wrong_is_told_with_both() {
    let doubt = |told, own| Times { agent: "a:7420".to_owned(), told: WallTime(told), own }.doubt();
    let own = WallTime(1_800_000_000_000);
    for near in [own.0, own.0 - 10_000, own.0 + 10_000] {
        assert_eq!(doubt(near, own), None);
    }
    let text = doubt(own.0 - 3_600_000, own).unwrap();
    for part in ["a:7420", "2027-01-15T07:00:00.000Z", "2027-01-15T08:00:00.000Z", ": 1 h apart"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(doubt(own.0 + 10_001, own).is_some());
}
