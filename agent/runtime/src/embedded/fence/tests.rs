//! What is written, and what is refused.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mesh_coordinator::lease::exclusive::{Fence, Token};
use mesh_coordinator::time::Reading;

use super::{Place, Renewal, end, forget, is_past, make, moment, read, renew};
use crate::cgroup::Tree;
use crate::shim::lease::State;
use crate::shim::{Held, fences};

const BOOT: u128 = 5 << 64 | 6;

fn at(millis: u64) -> Reading {
    Reading::default() + Duration::from_millis(millis)
}

fn fence(token: u64, stop: u64, kill: u64) -> Fence {
    Fence { token: Token(token), stop: at(stop), kill: at(kill) }
}

fn made(path: &Path, first: &Fence) {
    let group = Tree::discover().expect("a host with cgroups").group("/mesh/x/c");
    let dir = path.parent().expect("it is in one").to_path_buf();
    let place = Place { dir: dir.clone(), run: dir, fence: path.to_path_buf() };
    make(&place, first, &group, BOOT).expect("made");
}

#[test]
fn renewals_are_written_in_turns_and_the_last_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("c.fence");
    assert_eq!(read(&path, BOOT).expect("read"), None);
    made(&path, &fence(7, 100, 200));
    assert_eq!(read(&path, BOOT).expect("read"), Some(fence(7, 100, 200)));
    for round in 1..5 {
        let later = fence(7, 100 + round, 200 + round);
        let renewed = renew(&path, &later, BOOT, moment(at(0))).expect("written");
        assert_eq!(renewed, Renewal::Told);
        assert_eq!(read(&path, BOOT).expect("read"), Some(later));
        // A tear in the one that was written leaves the one before.
        let bytes = fs::read(&path).expect("read");
        let slot = if round % 2 == 1 { 128 } else { 0 };
        let mut torn = bytes.clone();
        torn[slot + 20] ^= 1;
        fs::write(&path, torn).expect("written");
        let before = fence(7, 99 + round, 199 + round);
        assert_eq!(read(&path, BOOT).expect("read"), Some(before), "round {round}");
        fs::write(&path, bytes).expect("written");
    }
    assert_eq!(read(&path, BOOT + 1).expect("read"), None, "of another boot");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    forget(&path).expect("removed");
    forget(&path).expect("fine when it is not there");
}

#[test]
fn the_end_is_written_once_for_all_and_renewals_leave_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("c.fence");
    assert_eq!(end(&path, BOOT).expect("fine without a lease"), None);
    made(&path, &fence(7, 100, 200));
    let is_held = || {
        let page = fs::read(&path).expect("read");
        let mut guard = Held::begin(fences(&page), BOOT).expect("whole");
        guard.take(&page);
        guard.state(moment(at(0))) == State::Held
    };
    assert!(is_held());
    assert_eq!(end(&path, BOOT + 1).expect("of another boot"), None);
    assert!(is_held());
    assert!(end(&path, BOOT).expect("written").is_some());
    assert!(!is_held());
    for round in 1..4 {
        let renewed = renew(&path, &fence(7, 100 + round, 200 + round), BOOT, moment(at(0)));
        assert_eq!(renewed.expect("written"), Renewal::Told);
        assert!(!is_held(), "round {round}");
    }
}

#[test]
fn what_does_not_renew_the_lease_is_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("c.fence");
    let now = moment(at(50));
    assert_eq!(renew(&path, &fence(7, 1, 2), BOOT, now).expect("told"), Renewal::Refused);
    made(&path, &fence(7, 100, 200));
    let before = fs::read(&path).expect("read");
    let cases = [
        (fence(8, 300, 400), 50, Renewal::Refused),
        (fence(7, 99, 400), 50, Renewal::Told),
        (fence(7, 300, 199), 50, Renewal::Told),
        (fence(7, 100, 200), 50, Renewal::Told),
        (fence(7, 300, 400), 200, Renewal::Refused),
    ];
    for (later, now, expected) in cases {
        let renewed = renew(&path, &later, BOOT, moment(at(now))).expect("told");
        assert_eq!(renewed, expected, "{later:?} at {now}");
        assert_eq!(fs::read(&path).expect("read"), before, "{later:?} at {now}");
    }
    let other = renew(&path, &fence(7, 300, 400), BOOT + 1, now).expect("told");
    assert_eq!(other, Renewal::Refused, "of another boot");
}

#[test]
fn a_start_needs_time_before_the_stop_by_both_clocks() {
    let wanted = fence(7, 100, 200);
    assert!(!is_past(&wanted, at(99)));
    assert!(is_past(&wanted, at(100)));
    let ahead = Reading::new(Duration::from_millis(100), Duration::ZERO);
    assert!(is_past(&wanted, ahead));
    let upside_down = Fence { stop: at(300), ..wanted };
    assert!(is_past(&upside_down, at(200)));
}
