//! Constraints and amounts read and print as documented.

use super::{Bytes, Constraint, ConstraintError};

#[test]
fn a_constraint_prints_as_it_was_read() {
    for text in ["node.labels.disk==ssd", "node.labels.zone!=a", "node.name==web1", "node.id!=x"] {
        let constraint: Constraint = text.parse().unwrap();
        assert_eq!(constraint.to_string(), text);
    }
}

#[test]
fn a_constraint_without_an_operator_is_refused() {
    assert_eq!("node.name".parse::<Constraint>(), Err(ConstraintError::Operator));
    assert!(matches!("disk==ssd".parse::<Constraint>(), Err(ConstraintError::Subject(_))));
}

#[test]
fn amounts_use_the_largest_fitting_unit() {
    assert_eq!(Bytes(64 << 20).to_string(), "64 MiB");
    assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
    assert_eq!(Bytes(12).to_string(), "12 B");
}
