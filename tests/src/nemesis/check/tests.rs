//! Good histories pass, and each kind of bad one is found.

use std::time::Duration;

use super::{Promise, Touches, Verdict, Window, judge};
use crate::nemesis::history::Run;

const PROMISE: Promise = Promise {
    bound: Duration::from_secs(7),
    start: Duration::from_secs(3),
    settle: Duration::from_secs(5),
};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A start that writes every 10 ms from one moment to another.
fn run(host: usize, token: u64, from: u64, to: u64) -> Run {
    in_container("c", host, token, from, to)
}

fn in_container(container: &str, host: usize, token: u64, from: u64, to: u64) -> Run {
    let mut run = Run::new("a/0", host, container, &from.to_string());
    let lines = (from..=to).step_by(10).map(|ms| format!("{token} {} tick\n", ms * 1_000_000));
    run.take(lines.collect::<String>().as_bytes());
    run
}

fn window(touches: Touches, began: u64, ended: Option<u64>) -> Window {
    Window { what: "it".to_owned(), touches, boot: None, began: at(began), ended: ended.map(at) }
}

fn judged(runs: &[Run], windows: &[Window], now: u64) -> Verdict {
    judge(&["a/0".to_owned()], runs, windows, PROMISE, at(now))
}

/// What is wrong, in one line.
fn wrong(runs: &[Run], windows: &[Window], now: u64) -> String {
    judged(runs, windows, now).violations.join("; ")
}

#[test]
fn one_after_the_other_is_fine() {
    let runs = [run(1, 3, 0, 1_000), run(2, 4, 1_010, 2_000), run(1, 9, 8_000, 9_000)];
    let verdict = judged(&runs, &[], 9_000);
    assert_eq!(verdict.violations, [""; 0]);
    let lengths: Vec<_> = verdict.gaps.iter().map(super::Gap::length).collect();
    assert_eq!(lengths, [at(10), at(6_000)]);
    assert_eq!(verdict.n_starts, 3);
    let [one, two, three] = runs;
    assert_eq!(judged(&[three, one, two], &[], 9_000), verdict, "in whatever order they are read");
}

#[test]
fn one_tick_of_two_is_found() {
    let two = wrong(&[run(1, 3, 0, 1_000), run(2, 4, 1_000, 2_000)], &[], 2_000);
    assert!(two.contains("two run at one moment"), "{two}");
    let two = wrong(&[run(2, 4, 1_000, 2_000), run(1, 3, 0, 1_000)], &[], 2_000);
    assert!(two.contains("two run at one moment"), "{two}");
}

#[test]
fn one_that_outlives_its_successors_is_found_each_time() {
    let runs = [run(1, 3, 0, 5_000), run(2, 4, 1_000, 2_000), run(3, 5, 3_000, 4_000)];
    assert_eq!(judged(&runs, &[], 5_000).violations.len(), 2);
}

#[test]
fn slots_have_nothing_to_do_with_each_other() {
    let mut other = run(2, 2, 0, 1_000);
    other.slot = "a/1".to_owned();
    let slots = ["a/0".to_owned(), "a/1".to_owned()];
    let runs = [run(1, 3, 0, 1_000), other];
    assert_eq!(judge(&slots, &runs, &[], PROMISE, at(1_000)).violations, [""; 0]);
}

#[test]
fn a_token_that_does_not_rise_is_found() {
    for token in [3, 2] {
        let fallen = wrong(&[run(1, 3, 0, 1_000), run(2, token, 2_000, 3_000)], &[], 3_000);
        assert!(fallen.contains("a token did not rise"), "{token}: {fallen}");
    }
    // The highest counts, not the last.
    let runs = [run(1, 3, 0, 10), run(2, 5, 20, 30), run(3, 4, 40, 50), run(1, 5, 60, 70)];
    assert_eq!(judged(&runs, &[], 70).violations.len(), 2);
}

#[test]
fn a_container_that_is_started_again_in_its_place_keeps_its_token() {
    let again = [run(1, 3, 0, 1_000), run(1, 3, 2_000, 3_000), run(1, 4, 4_000, 5_000)];
    assert_eq!(wrong(&again, &[], 5_000), "");
    let lower = [run(1, 3, 0, 1_000), run(1, 2, 2_000, 3_000)];
    assert!(wrong(&lower, &[], 3_000).contains("a token did not rise"));
    let another = [run(1, 3, 0, 1_000), in_container("d", 1, 3, 2_000, 3_000)];
    assert!(wrong(&another, &[], 3_000).contains("a token did not rise"));
    let came_back = [run(1, 3, 0, 10), run(2, 4, 20, 30), run(1, 4, 40, 50)];
    assert!(wrong(&came_back, &[], 50).contains("a token did not rise"));
}

#[test]
fn a_host_that_lost_its_power_is_another_holder() {
    let again = [run(1, 3, 0, 1_000), run(1, 3, 2_000, 3_000)];
    let lost =
        |host| Window { boot: Some(at(1_200)), ..window(Touches::Host(host), 900, Some(1_500)) };
    assert!(wrong(&again, &[lost(1)], 3_000).contains("a token did not rise"));
    assert_eq!(wrong(&again, &[lost(2)], 3_000), "");
    // Until then it is the one that it was.
    let before = [run(1, 3, 0, 1_000), run(1, 3, 1_100, 1_190)];
    assert_eq!(wrong(&before, &[lost(1)], 1_190), "");
    let restarted = window(Touches::Host(1), 1_000, Some(1_500));
    assert_eq!(wrong(&again, &[restarted], 3_000), "");
    let risen = [run(1, 3, 0, 1_000), run(1, 4, 2_000, 3_000)];
    assert_eq!(wrong(&risen, &[lost(1)], 3_000), "");
}

#[test]
fn a_gap_beyond_the_bound_is_found() {
    let gap = |ms: u64| [run(1, 3, 0, 1_000), run(2, 4, 1_000 + ms, 60_000)];
    assert_eq!(wrong(&gap(10_000), &[], 60_000), "");
    assert!(wrong(&gap(10_010), &[], 60_000).contains("nothing of it ran for 10.01s"));
    // Also while one host is lost, for however long.
    let lost = [window(Touches::Host(1), 500, None)];
    assert!(wrong(&gap(10_010), &lost, 60_000).contains("nothing of it ran"));
    let cut = [window(Touches::Link(1, 2), 500, None), window(Touches::Nobody, 0, None)];
    assert!(wrong(&gap(10_010), &cut, 60_000).contains("nothing of it ran"));
}

#[test]
fn the_gap_that_lasts_is_judged_too() {
    let runs = [run(1, 3, 0, 1_000)];
    assert_eq!(wrong(&runs, &[], 11_000), "");
    assert!(wrong(&runs, &[], 11_010).contains("nothing of it ran"));
    assert!(wrong(&[], &[], 0).contains("a/0: nothing of it ever ran"));
}

#[test]
fn a_gap_is_not_judged_while_two_hosts_are_needed_to_explain_it() {
    let runs = [run(1, 3, 0, 1_000), run(2, 4, 30_000, 60_000)];
    let two =
        |ended| [window(Touches::Host(1), 500, None), window(Touches::Host(2), 1_000, Some(ended))];
    // Until the end of the second, and until that has settled.
    assert_eq!(wrong(&runs, &two(15_000), 60_000), "");
    let verdict = judged(&runs, &two(15_000), 60_000);
    assert_eq!(verdict.gaps.first().map(|gap| gap.judged), Some(at(10_000)));
    assert!(wrong(&runs, &two(14_990), 60_000).contains("10.01s of it while one host explains"));
    let frozen = [window(Touches::All, 500, Some(15_000))];
    assert_eq!(wrong(&runs, &frozen, 60_000), "");
    // One that ends before an earlier one does.
    let within = [window(Touches::Host(3), 1_500, Some(2_000))];
    assert_eq!(wrong(&runs, &[&two(15_000)[..], &within].concat(), 60_000), "");
    // A link has two ends, and either of them explains it.
    let links = [window(Touches::Link(1, 2), 0, None), window(Touches::Link(2, 3), 0, None)];
    assert!(wrong(&runs, &links, 60_000).contains("nothing of it ran"));
    let links = [window(Touches::Link(1, 2), 0, None), window(Touches::Link(3, 4), 0, None)];
    assert_eq!(wrong(&runs, &links, 60_000), "");
}

#[test]
fn the_stretch_before_a_second_fault_is_judged() {
    let runs = [run(1, 3, 0, 1_000), run(2, 4, 60_000, 61_000)];
    let second =
        |began| [window(Touches::Host(1), 500, None), window(Touches::Host(2), began, None)];
    assert_eq!(wrong(&runs, &second(11_000), 61_000), "");
    assert!(wrong(&runs, &second(11_010), 61_000).contains("nothing of it ran"));
}

#[test]
fn files_that_say_nothing_or_break_off_are_no_violation() {
    let mut cut = run(2, 4, 2_000, 3_000);
    cut.take(b"4 30");
    let runs = [run(1, 3, 0, 1_000), Run::new("a/0", 3, "c", "1500"), cut];
    let verdict = judged(&runs, &[], 3_000);
    assert_eq!((verdict.violations.len(), verdict.n_silent), (0, 1));
    let mut torn = run(1, 3, 0, 1_000);
    torn.take(b"nonsense\n");
    assert!(wrong(&[torn], &[], 1_000).contains("is \"nonsense\""));
}
