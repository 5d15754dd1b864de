//! Replicas are started again with patience, given up in time, and never started twice at once.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};

use super::{BACK_OFF_MAX, Do, Observed, RESTARTS_IN_A_ROW_MAX, Workload, back_off, restart};
use crate::id::Revision;
use crate::spec::{HealthTest, Healthcheck, RestartPolicy, Template, sample};
use crate::time::Instant;

fn template(restart: RestartPolicy) -> Template {
    Template { restart, ..sample::service(Revision { number: 1, id: 1 }, 1).template }
}

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

const FAILED: Observed = Observed::Ended { code: Some(1), oom: false };

/// Starts a queued workload and lets it run.
fn run(workload: &mut Workload, now: Instant) {
    let mut out = Vec::new();
    workload.on_time(now, &mut out);
    workload.start(&mut out);
    workload.handle(now, Observed::Started, &mut out);
    assert_eq!(out, [Do::Start]);
}

#[test]
fn pauses_double_up_to_the_longest() {
    for in_a_row in 0..100 {
        let (pause, next) = (back_off(in_a_row), back_off(in_a_row + 1));
        assert!(next == pause * 2 || next == BACK_OFF_MAX, "{in_a_row}");
        assert!(pause <= BACK_OFF_MAX);
    }
}

#[test]
fn failing_at_once_breaks_within_ten_seconds() {
    let mut workload = Workload::new(&template(RestartPolicy::Always));
    let mut now = at(0);
    for _ in 0..=RESTARTS_IN_A_ROW_MAX {
        assert!(!workload.is_broken());
        now = workload.next_deadline().unwrap_or(now);
        run(&mut workload, now);
        workload.handle(now, FAILED, &mut Vec::new());
    }
    assert!(workload.is_broken());
    assert!(now < at(10_000), "{now:?}");
}

#[test]
fn a_good_run_forgives_what_was_before() {
    let mut workload = Workload::new(&template(RestartPolicy::Always));
    let mut now = at(0);
    for _ in 0..20 {
        run(&mut workload, now);
        workload.handle(now + Duration::from_secs(61), FAILED, &mut Vec::new());
        assert!(!workload.is_broken());
        now = workload.next_deadline().unwrap();
    }
    assert_eq!(workload.restarts(), 20);
}

#[test]
fn what_survives_being_killed_serves_nobody_and_ends_with_its_end() {
    let stuck = || Observed::Stuck { reason: "it hangs".to_owned() };
    let mut workload = Workload::new(&template(RestartPolicy::Always));
    run(&mut workload, at(0));
    let mut out = Vec::new();
    workload.handle(at(1), stuck(), &mut out);
    assert!(workload.is_stuck() && !workload.is_ready());
    assert_eq!(workload.detail(), "it hangs");
    workload.handle(at(2), Observed::Probed { failure: None }, &mut out);
    assert!(workload.is_stuck() && !workload.is_ready(), "a check that was under way says nothing");
    workload.handle(at(3), FAILED, &mut out);
    assert!(!workload.is_stuck());
    let again = workload.next_deadline().expect("it is tried again");
    run(&mut workload, again);

    workload.stop(&mut out);
    workload.handle(again, stuck(), &mut out);
    assert!(workload.is_stuck() && workload.is_leaving() && !workload.is_gone());
    assert_eq!(out, [Do::Stop]);
    workload.handle(again, Observed::Stopped, &mut out);
    workload.handle(again, Observed::Removed, &mut out);
    assert!(workload.is_gone() && !workload.is_stuck());
}

#[test]
fn policies_decide_by_the_exit_code() {
    let on_failure = |attempts_max| RestartPolicy::OnFailure { attempts_max };
    for (policy, code, in_a_row, wanted) in [
        (RestartPolicy::Always, Some(0), 99, true),
        (RestartPolicy::Never, Some(1), 0, false),
        (on_failure(None), Some(0), 0, false),
        (on_failure(None), Some(1), 99, true),
        (on_failure(None), None, 0, true),
        (on_failure(Some(2)), Some(1), 1, true),
        (on_failure(Some(2)), Some(1), 2, false),
    ] {
        assert_eq!(restart::is_wanted(policy, code, in_a_row), wanted, "{policy:?} {code:?}");
    }
}

#[test]
fn a_stray_serves_again_when_its_definition_arrives() {
    let mut workload = Workload::stray(at(0));
    assert!(!workload.is_ready());
    workload.recognise(at(5), &template(RestartPolicy::Always));
    assert!(workload.is_ready());
    workload.handle(at(6), FAILED, &mut Vec::new());
    assert!(!workload.has_ended(), "it is started again like any other");
}

#[test]
fn a_stray_that_ended_is_judged_by_its_policy_when_that_arrives() {
    for (policy, ended) in [(RestartPolicy::Always, false), (RestartPolicy::Never, true)] {
        let mut workload = Workload::stray(at(0));
        workload.handle(at(1), FAILED, &mut Vec::new());
        workload.recognise(at(2), &template(policy));
        assert_eq!(workload.has_ended(), ended, "{policy:?}");
    }
}

fn anything() -> impl Strategy<Value = Option<Observed>> {
    prop_oneof![
        Just(None),
        Just(Some(Observed::Started)),
        Just(Some(FAILED)),
        Just(Some(Observed::StartFailed { reason: String::new(), transient: true })),
        Just(Some(Observed::Stopped)),
        Just(Some(Observed::Removed)),
        Just(Some(Observed::Stuck { reason: String::new() })),
    ]
}

proptest! {
    /// Whatever happens, a start is answered before the next one, and after a stop nothing starts any more.
    #[test]
    fn it_is_never_started_twice_at_once(events in proptest::collection::vec(anything(), 0..60), stop in 0_usize..60) {
        let mut workload = Workload::new(&template(RestartPolicy::Always));
        let (mut starting, mut stopped) = (false, false);
        let mut now = at(0);
        for (number, event) in events.into_iter().enumerate() {
            let mut out = Vec::new();
            now = now + Duration::from_secs(1);
            workload.on_time(now, &mut out);
            if number == stop {
                workload.stop(&mut out);
                stopped = true;
            }
            workload.start(&mut out);
            for job in &out {
                if *job == Do::Start {
                    assert!(!starting && !stopped);
                    starting = true;
                }
            }
            if let Some(event) = event {
                let ends = !matches!(
                    event,
                    Observed::Probed { .. }
                        | Observed::Removed
                        | Observed::Stopped
                        | Observed::Stuck { .. }
                );
                workload.handle(now, event, &mut Vec::new());
                starting &= !ends;
            }
        }
    }
}

fn checked(retries: u32) -> Template {
    let check = Healthcheck {
        test: HealthTest::Shell("true".to_owned()),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        retries,
        start_period: Duration::ZERO,
        start_interval: Duration::from_secs(1),
    };
    Template { healthcheck: Some(check), ..template(RestartPolicy::Always) }
}

#[test]
fn what_was_found_running_is_relied_on_only_after_a_check() {
    let template = checked(3);
    let mut workload = Workload::adopted(&template, at(0));
    assert!(workload.is_ready(), "it served a moment ago, as far as anybody knows");
    assert!(!workload.is_proven(), "and it may have been about to start");
    let mut out = Vec::new();
    workload.on_time(at(0), &mut out);
    assert_eq!(out, [Do::Probe], "so it is looked at without delay");
    workload.handle(at(5), Observed::Probed { failure: None }, &mut out);
    assert!(workload.is_proven());
}

#[test]
fn why_a_check_failed_is_told() {
    let template = checked(1);
    let mut workload = Workload::new(&template);
    let mut out = Vec::new();
    workload.start(&mut out);
    workload.handle(at(0), Observed::Started, &mut out);
    let mut fail = |workload: &mut Workload, millis| {
        let failure = Some("exit code 1: refused".to_owned());
        workload.handle(at(millis), Observed::Probed { failure }, &mut out);
    };
    fail(&mut workload, 100);
    assert_eq!(workload.detail(), "", "it may still come up");
    assert_eq!(workload.last_check(), "health check: exit code 1: refused");
    fail(&mut workload, 10_000);
    assert_eq!(workload.detail(), "health check: exit code 1: refused");
}
