//! Claims of a definition that no record knows: its record may be on its way, or a member makes it up.

use super::super::seek::MAKE_ROOM_MAX;
use super::{Effect, OLD, Script, slot};
use crate::fact::Phase;
use crate::id::Revision;
use crate::rules::Rules;
use crate::spec::{Bytes, Protocol, PublishMode, PublishedPort};

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
    let port = PublishedPort {
        published: 80,
        target: 80,
        protocol: Protocol::Tcp,
        mode: PublishMode::Host,
    };
    script.spec().ports.push(port);
    script.says(1, UNKNOWN, Phase::Ready, false);
    script.wait(u64::try_from(MAKE_ROOM_MAX.as_millis()).unwrap() - 1_000);
    assert_eq!(script.phase(0), None, "it has its time to let go");
    script.wait(2_000);
    assert!(script.phase(0).is_some(), "then somebody else takes the slot");
}

#[test]
fn c11_nobody_lets_go_for_a_definition_that_nobody_knows() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    // No node can hold the current definition.
    script.spec().deploy.reservation.memory = Bytes(1_000);
    script.claims.adopt(script.now, slot(0), OLD, None, false);
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
