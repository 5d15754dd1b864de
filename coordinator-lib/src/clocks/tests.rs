//! What most clocks say is the time, whoever is off and however far.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Clocks, Finding, REMEMBERED, SURE, Span, TOLERANCE, off, words};
use crate::id::NodeId;
use crate::time::{Instant, WallTime};

/// Some moment of the wall clock, in milliseconds.
const NOON: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;
const YEAR: u64 = 365 * 24 * HOUR;

fn node(number: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(number).unwrap(); 10])
}

fn at(s: u64) -> Instant {
    Instant::from_start(Duration::from_secs(s))
}

/// A node that hears these clocks at once.
fn hearing(now: Instant, clocks: &[u64]) -> Clocks {
    let mut known = Clocks::default();
    for (number, clock) in clocks.iter().enumerate() {
        known.hear(now, node(number), WallTime(*clock));
    }
    known
}

fn span(earliest: u64, latest: u64) -> Span {
    Span { earliest: WallTime(earliest), latest: WallTime(latest) }
}

#[test]
fn of_three_nodes_one_that_is_off_changes_nothing_on_any_of_them() {
    for wrong in [NOON + HOUR, NOON - HOUR, NOON + YEAR, NOON - YEAR, 0, u64::MAX] {
        let right = hearing(at(9), &[NOON, wrong]);
        assert_eq!(right.span(at(9), WallTime(NOON)), span(NOON, NOON));
        let off = hearing(at(9), &[NOON, NOON]);
        assert_eq!(off.span(at(9), WallTime(wrong)), span(NOON, NOON));
    }
}

#[test]
fn alone_a_node_believes_itself_and_of_two_it_believes_both() {
    let own = WallTime(NOON);
    assert_eq!(Clocks::default().span(at(0), own), span(NOON, NOON));
    let ahead = hearing(at(0), &[NOON + HOUR]);
    assert_eq!(ahead.span(at(0), own), span(NOON, NOON + HOUR));
    assert_eq!(ahead.span(at(0), own).near(own), own);
    let behind = hearing(at(0), &[NOON - HOUR]);
    assert_eq!(behind.span(at(0), own), span(NOON - HOUR, NOON));
}

#[test]
fn the_dead_count_on_for_a_while_and_strangers_never() {
    let mut known = Clocks::default();
    known.hear(at(0), node(1), WallTime(NOON));
    let later = |s: u64| NOON + s * 1_000;
    // The third one is an hour ahead, and heard to the end.
    known.hear(at(1_000), node(2), WallTime(later(1_000) + HOUR));
    let own = WallTime(later(1_000));
    assert_eq!(known.span(at(1_000), own), span(own.0, own.0));
    let s = REMEMBERED.as_secs();
    let own = WallTime(later(s));
    assert_eq!(known.span(at(s), own), span(own.0, own.0 + HOUR), "it was long ago");
    known.retain(at(1_000), |it| it == node(1));
    let own = WallTime(later(1_000));
    assert_eq!(known.span(at(1_000), own), span(own.0, own.0));
}

#[test]
fn an_own_clock_that_is_set_says_nothing_about_the_others() {
    let known = hearing(at(5), &[NOON, NOON]);
    for own in [NOON + 1_000, NOON + YEAR, NOON - YEAR] {
        assert_eq!(known.span(at(6), WallTime(own)), span(NOON + 1_000, NOON + 1_000));
    }
}

/// What a node tells that has a clock which is `off_ms` ahead, second by second.
fn told(off_ms: &[i64]) -> Vec<(u64, Finding)> {
    let mut clocks = Clocks::default();
    let mut told = Vec::new();
    for (s, off_ms) in (0..).zip(off_ms) {
        let wall = NOON + s * 1_000;
        clocks.hear(at(s), node(1), WallTime(wall));
        clocks.hear(at(s), node(2), WallTime(wall + 3));
        let own = WallTime(wall.saturating_add_signed(*off_ms));
        told.extend(clocks.judge(at(s), own).map(|finding| (s, finding)));
    }
    told
}

#[test]
fn being_off_is_told_once_when_it_is_sure_and_so_is_being_right_again() {
    let sure = usize::try_from(SURE.as_secs()).unwrap();
    let off = [vec![0; 3], vec![-3_600_000; 60], vec![0; 60]].concat();
    let began = 3 + SURE.as_secs();
    let Ok([(first, off_by), (last, right)]) = <[_; 2]>::try_from(told(&off)) else {
        panic!("one beginning and one end: {:?}", told(&off));
    };
    assert_eq!((first, last), (began, began + 60));
    assert_eq!((off_by.off_ms, off_by.doubt), (-3_600_000, None));
    assert_eq!(right, Finding::default());
    let moment = [vec![0; 3], vec![90_000; sure], vec![0; 60]].concat();
    assert_eq!(told(&moment), [], "a pause of this host");
    let margin = i64::try_from(TOLERANCE.as_millis()).unwrap();
    assert_eq!(told(&vec![margin; 60]), []);
    let around: Vec<i64> = (0..60).map(|s| margin + 50 * (s % 3)).collect();
    assert!(told(&around).len() <= 1, "at the margin it is told once");
}

#[test]
fn two_that_disagree_are_told_of_as_a_doubt() {
    let mut clocks = hearing(at(0), &[NOON + HOUR]);
    assert_eq!(clocks.judge(at(0), WallTime(NOON)), None);
    let finding = clocks.judge(at(9), WallTime(NOON + 9_000));
    let doubt = Some(Duration::from_millis(HOUR));
    assert_eq!(finding, Some(Finding { off_ms: 0, doubt }));
}

#[test]
fn differences_are_said_in_units_that_people_use() {
    let said = [11, 60, 61, 3_600, 3_660, 86_400, 31_539_600];
    let said = said.map(|s| words(Duration::from_secs(s)));
    assert_eq!(said, ["11 s", "1 min", "1 min 1 s", "1 h", "1 h 1 min", "1 d", "365 d 1 h"]);
    assert_eq!(off(0), None);
    assert_eq!(off(-3_600_000).unwrap(), "1 h behind");
    assert_eq!(off(3_599_990).unwrap(), "1 h ahead of", "a message is under way for a moment");
    assert_eq!(off(12_000).unwrap(), "12 s ahead of");
}

proptest! {
    /// Whatever less than half of the clocks say, the time is what the others say.
    #[test]
    fn a_minority_cannot_move_the_time(
        right in vec(0_u64..1_000, 1..20),
        wrong in vec(any::<u64>(), 0..20),
        own_is_right: bool,
        turn in 0_usize..40,
    ) {
        prop_assume!(wrong.len() < right.len());
        let right: Vec<u64> = right.iter().map(|ms| NOON + ms).collect();
        let (own, others) = match (own_is_right, wrong.split_first()) {
            (false, Some((own, rest))) => (*own, [rest, &right].concat()),
            _ => (right[0], [&wrong, &right[1..]].concat()),
        };
        let mut others = others;
        let turn = turn % others.len().max(1);
        others.rotate_left(turn);
        let span = hearing(at(7), &others).span(at(7), WallTime(own));
        prop_assert!(span.earliest <= span.latest);
        prop_assert!(span.earliest.0 >= NOON && span.latest.0 < NOON + 1_000, "{span:?}");
    }

    /// When half of them are right, the time is never outside of what is told.
    #[test]
    fn a_half_is_never_shut_out(
        right in vec(0_u64..1_000, 1..20),
        wrong in vec(any::<u64>(), 20),
    ) {
        let right: Vec<u64> = right.iter().map(|ms| NOON + ms).collect();
        let others = [&right[1..], &wrong[..right.len()]].concat();
        let span = hearing(at(7), &others).span(at(7), WallTime(right[0]));
        prop_assert!(span.earliest.0 < NOON + 1_000 && span.latest.0 >= NOON, "{span:?}");
    }
}
