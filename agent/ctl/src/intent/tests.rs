//! Records follow what they change.

use mesh_coordinator::catalogue::{Body, Drain};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::time::WallTime;

use super::Author;
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
