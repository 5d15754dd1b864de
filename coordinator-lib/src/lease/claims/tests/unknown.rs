//! Claims of a definition that no record knows: its record may be on its way, or a member makes it up.

use super::room::{has_its_time_to_let_go, takes_a_port};
use super::{Effect, OLD, Script, slot};
use crate::fact::Phase;
use crate::id::Revision;
use crate::rules::Rules;
use crate::spec::Bytes;

/// What a member makes up: a definition that is later than any, and that no record knows.
const UNKNOWN: Revision = Revision { number: u64::MAX, id: u64::MAX };

#[test]
fn c7_a_definition_that_nobody_knows_holds_no_slot_for_ever() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    script.says(1, UNKNOWN, Phase::Ready, false);
    script.wait(1_000);
    assert!(script.phase(0).is_some(), "it is replaced like an old one");

    // With ports of the node the holder is to go first. One that does not go is not waited for.
    let mut script = Script::new(Rules::ALL, 0, 1);
    takes_a_port(&mut script);
    script.says(1, UNKNOWN, Phase::Ready, false);
    has_its_time_to_let_go(&mut script);
}

#[test]
fn c11_nobody_lets_go_for_a_definition_that_nobody_knows() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    // No node can hold the current definition.
    script.spec().deploy.reservation.memory = Bytes(1_000);
    script.claims.adopt(script.now, slot(0), OLD, None, false, None);
    script.says(1, UNKNOWN, Phase::Ready, false);
    script.out.clear();
    script.wait(5_000);
    let asks = |effect: &Effect| matches!(effect, Effect::Ask { .. });
    assert!(!script.out.iter().any(asks), "{:?}", script.out);
    // A later one of those that the catalogue may have had does relieve it.
    script.says(1, Revision { number: 2, id: 1 }, Phase::Ready, false);
    script.wait(5_000);
    assert!(script.out.iter().any(asks), "{:?}", script.out);
}
