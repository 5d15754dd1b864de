//! Services that take ports of their node: two definitions cannot run side by side there, so that the holder goes first, and has
//! its time to do so.

use super::super::seek::MAKE_ROOM_MAX;
use super::{OLD, Script};
use crate::fact::Phase;
use crate::rules::Rules;
use crate::spec::{Protocol, PublishMode, PublishedPort};

/// The service of the script takes a port of its node.
pub(super) fn takes_a_port(script: &mut Script) {
    let mode = PublishMode::Host;
    let port = PublishedPort { published: 80, target: 80, protocol: Protocol::Tcp, mode };
    script.spec().ports.push(port);
}

/// From now on the holder has the whole of its time to let go, and no more.
pub(super) fn has_its_time_to_let_go(script: &mut Script) {
    script.wait(u64::try_from(MAKE_ROOM_MAX.as_millis()).unwrap() - 1_000);
    assert_eq!(script.phase(0), None, "it has its time to let go");
    script.wait(2_000);
    assert!(script.phase(0).is_some(), "then somebody else takes the slot");
}

#[test]
fn c7_the_time_to_let_go_begins_when_the_slot_is_to_be_replaced() {
    let mut script = Script::new(Rules::ALL, 0, 1);
    takes_a_port(&mut script);
    let drain_all = |script: &mut Script, drained| {
        script.state.nodes.values_mut().for_each(|node| node.drained = drained);
    };
    drain_all(&mut script, true);
    script.says(1, OLD, Phase::Ready, true);
    script.wait(u64::try_from(MAKE_ROOM_MAX.as_millis()).unwrap() + 10_000);
    assert_eq!(script.phase(0), None, "for long nobody may relieve it");
    drain_all(&mut script, false);
    script.says(1, OLD, Phase::Ready, false);
    has_its_time_to_let_go(&mut script);
}
