//! Scripts: what witnesses and holders do, message by message. What must hold whatever happens is explored by walks.

mod later_life;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::{AppUid, Incarnation, NodeId, SlotId, SlotIndex};
use crate::node::Ticket;
use crate::rules::{Rule, Rules};
use crate::time::Reading;

const TTL: Duration = Duration::from_secs(12);

fn at(millis: u64) -> Reading {
    let time = Duration::from_millis(millis);
    Reading::new(time, time)
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 10])
}

fn witness(number: u8) -> WitnessId {
    WitnessId { node: node(number), store: StoreId(u128::from(number)) }
}

fn holder(number: u8) -> Holder {
    Holder { node: node(number), boot: BootId(u128::from(number)), incarnation: Incarnation(1) }
}

fn lease() -> LeaseId {
    let (app, service) = (AppUid([1; 16]), "db".parse().unwrap());
    LeaseId::first(SlotId { app, service, index: SlotIndex::Number(0) })
}

fn set(numbers: &[u8]) -> BTreeSet<WitnessId> {
    numbers.iter().copied().map(witness).collect()
}

fn first() -> Configuration {
    Configuration::first(set(&[1, 2, 3]), TTL)
}

fn ballot(counter: u64, number: u8) -> Ballot {
    Ballot { counter, holder: holder(number) }
}

fn value(counter: u64) -> Value {
    Value { configuration: first(), token: Token(counter) }
}

fn key(counter: u64, number: u8) -> Key {
    Key { ballot: ballot(counter, number), sub: 1 }
}

/// A witness that flushes at once.
struct Desk {
    witness: Witness,
}

impl Desk {
    fn new(rules: Rules) -> Self {
        Self { witness: Witness::new(at(0), witness(1), rules, []) }
    }

    fn steps(&mut self, now: Reading, from: u8, request: Request) -> Vec<Step> {
        let mut out = Vec::new();
        self.witness.handle(now, node(from), &lease(), Home::FIRST, request, &mut out);
        out
    }

    fn ask(&mut self, now: Reading, from: u8, request: Request) -> Option<Answer> {
        let step = self.steps(now, from, request).pop()?;
        match step {
            Step::Answer { answer, .. } => Some(answer),
            Step::Persist { ticket, then, .. } => {
                self.witness.persisted(ticket);
                then.into_iter().next().map(|(_, answer)| answer)
            }
        }
    }

    fn prepare(&mut self, now: Reading, counter: u64, from: u8) -> Option<Answer> {
        let request = Request::Prepare { ballot: ballot(counter, from) };
        self.ask(now, from, request)
    }

    fn accept(&mut self, now: Reading, counter: u64, from: u8) -> Option<Answer> {
        let value = value(counter);
        self.ask(now, from, Request::Accept { key: key(counter, from), round: 7, value, ttl: TTL })
    }
}

fn is_granted(answer: &Option<Answer>) -> bool {
    matches!(answer, Some(Answer::Granted { .. }))
}

#[test]
fn a_promise_excludes_lower_ballots() {
    let came_through = Rules::with_and_without(Rule::KeepPromise, |rules| {
        let mut desk = Desk::new(rules);
        assert!(matches!(desk.prepare(at(0), 5, 2), Some(Answer::Promise { .. })));
        is_granted(&desk.accept(at(1), 4, 3))
    });
    assert_eq!(came_through, [false, true]);
}

#[test]
fn two_ballots_of_one_counter_are_not_the_same() {
    let mut desk = Desk::new(Rules::ALL);
    desk.prepare(at(0), 5, 2);
    assert!(!is_granted(&desk.accept(at(1), 5, 3)));
    assert!(is_granted(&desk.accept(at(1), 5, 2)));
}

#[test]
fn nobody_else_is_granted_what_somebody_holds() {
    let came_through = Rules::with_and_without(Rule::GrantToOne, |rules| {
        let mut desk = Desk::new(rules);
        desk.prepare(at(0), 1, 2);
        desk.accept(at(0), 1, 2);
        is_granted(&desk.accept(at(5_000), 9, 3))
    });
    assert_eq!(came_through, [false, true]);
}

#[test]
fn nobody_disturbs_a_holder() {
    let mut desk = Desk::new(Rules::ALL);
    desk.prepare(at(0), 1, 2);
    desk.accept(at(0), 1, 2);
    let answer = desk.prepare(at(5_000), 9, 3);
    assert!(
        matches!(&answer, Some(Answer::Busy { token: Token(1), remaining, .. })
            if *remaining == Duration::from_secs(7)),
        "{answer:?}"
    );
    // And nothing was promised.
    assert!(is_granted(&desk.accept(at(6_000), 1, 2)));
    assert!(matches!(desk.prepare(at(18_000), 9, 3), Some(Answer::Promise { .. })));
}

#[test]
fn a_lease_ends_by_the_slower_clock_of_its_witness() {
    let mut desk = Desk::new(Rules::ALL);
    desk.prepare(at(0), 1, 2);
    desk.accept(at(0), 1, 2);
    let suspended = Reading::new(Duration::from_secs(60), Duration::from_secs(11));
    assert!(matches!(desk.prepare(suspended, 9, 3), Some(Answer::Busy { .. })));
}

#[test]
fn an_answer_waits_for_the_disk() {
    let waits = Rules::with_and_without(Rule::FlushFirst, |rules| {
        let mut desk = Desk::new(rules);
        let prepare = Request::Prepare { ballot: ballot(1, 2) };
        let steps = desk.steps(at(0), 2, prepare);
        // A second question, while the answer to the first is on its way to the disk.
        let lower = Request::Prepare { ballot: ballot(1, 3) };
        let more = desk.steps(at(1), 3, lower);
        let persists = |step: &Step| matches!(step, Step::Persist { then, .. } if !then.is_empty());
        steps.iter().all(persists) && more.iter().all(persists)
    });
    assert_eq!(waits, [true, false]);
}

#[test]
fn nothing_waits_for_the_disk_that_is_on_it() {
    let mut desk = Desk::new(Rules::ALL);
    desk.prepare(at(0), 1, 2);
    desk.accept(at(0), 1, 2);
    let renew = Request::Renew { key: key(1, 2), round: 8, ttl: TTL };
    let steps = desk.steps(at(1), 2, renew);
    assert!(matches!(&steps[..], [Step::Answer { answer: Answer::Granted { round: 8, .. }, .. }]));
}

/// The disk was full for a moment, and took the next write, of another slot.
#[test]
fn what_was_not_written_is_not_said_when_something_else_was() {
    let mut desk = Desk::new(Rules::ALL);
    let prepare = Request::Prepare { ballot: ballot(5, 2) };
    desk.steps(at(0), 2, prepare.clone());
    let other = LeaseId { reset: 1, ..lease() };
    let mut out = Vec::new();
    desk.witness.handle(at(1), node(2), &other, Home::FIRST, prepare, &mut out);
    let Some(Step::Persist { ticket, .. }) = out.pop() else { panic!("nothing is written") };
    desk.witness.persisted(ticket);
    let steps = desk.steps(at(2), 3, Request::Prepare { ballot: ballot(5, 3) });
    assert!(matches!(&steps[..], [Step::Persist { then, .. }] if then.len() == 1), "{steps:?}");
}

#[test]
fn after_a_failed_write_nothing_is_said() {
    let mut desk = Desk::new(Rules::ALL);
    desk.witness.fail();
    assert_eq!(desk.prepare(at(0), 1, 2), None);
}

#[test]
fn a_restarted_witness_waits_for_what_it_may_have_granted() {
    let promised = Rules::with_and_without(Rule::Quarantine, |rules| {
        let mut desk = Desk::new(rules);
        desk.prepare(at(0), 1, 2);
        desk.accept(at(0), 1, 2);
        let kept: Vec<_> = desk.witness.registers().map(|(s, r)| (s.clone(), r.clone())).collect();
        desk.witness = Witness::new(at(1_000), witness(1), rules, kept);
        let early = desk.prepare(at(12_900), 9, 3);
        let late = desk.prepare(at(13_100), 10, 3);
        assert!(matches!(late, Some(Answer::Promise { .. })));
        matches!(early, Some(Answer::Promise { .. }))
    });
    assert_eq!(promised, [false, true]);
}

#[test]
fn a_released_lease_is_over_and_stays_so() {
    let is_back = Rules::with_and_without(Rule::ReleaseFinal, |rules| {
        let mut desk = Desk::new(rules);
        desk.prepare(at(0), 1, 2);
        desk.accept(at(0), 1, 2);
        // Somebody else's word does not end it.
        assert_eq!(desk.ask(at(1), 3, Request::Release { token: Token(1) }), None);
        desk.ask(at(1), 2, Request::Release { token: Token(1) });
        let mut next = desk.witness.clone();
        let mut out = Vec::new();
        let prepare = Request::Prepare { ballot: ballot(9, 3) };
        next.handle(at(2), node(3), &lease(), Home::FIRST, prepare, &mut out);
        assert!(matches!(&out[..], [Step::Persist { .. }]), "it is free: {out:?}");
        let late = Request::Renew { key: key(1, 2), round: 9, ttl: TTL };
        let late = [desk.ask(at(3), 2, late), desk.accept(at(4), 1, 2)];
        late.iter().map(is_granted).collect::<Vec<_>>()
    });
    assert_eq!(is_back, [[false, false], [true, true]]);
}

#[test]
fn the_next_life_on_the_same_boot_goes_on_and_a_reboot_waits() {
    let mut desk = Desk::new(Rules::ALL);
    desk.prepare(at(0), 1, 2);
    desk.accept(at(0), 1, 2);
    let ask = |desk: &mut Desk, counter, holder: Holder| {
        desk.ask(at(10), 2, Request::Prepare { ballot: Ballot { counter, holder } })
    };
    let rebooted = Holder { boot: BootId(99), incarnation: Incarnation(2), ..holder(2) };
    assert!(matches!(ask(&mut desk, 2, rebooted), Some(Answer::Busy { .. })));
    let former = Holder { incarnation: Incarnation(0), ..holder(2) };
    assert!(matches!(ask(&mut desk, 2, former), Some(Answer::Busy { .. })));
    let next = Holder { incarnation: Incarnation(2), ..holder(2) };
    assert!(matches!(ask(&mut desk, 2, next), Some(Answer::Promise { .. })));
}

#[test]
fn a_removed_app_gets_no_more_time() {
    let mut desk = Desk::new(Rules::ALL);
    desk.prepare(at(0), 1, 2);
    desk.accept(at(0), 1, 2);
    let mut out = Vec::new();
    let renew = Request::Renew { key: key(1, 2), round: 8, ttl: TTL };
    desk.witness.handle(at(1), node(2), &lease(), Home::Removed, renew, &mut out);
    assert!(matches!(
        &out[..],
        [Step::Answer { answer: Answer::Refused { refusal: Refusal::Removed, .. }, .. }]
    ));
}

/// A lease whose witnesses a script plays.
struct Script {
    lease: Lease,
}

impl Script {
    fn new(rules: Rules) -> Self {
        let timing = Timing::of(TTL).unwrap();
        let (me, first) = (holder(9), first());
        Self {
            lease: Lease::new(Setup {
                me,
                first,
                timing,
                seed: 1,
                resume: None,
                former: None,
                rules,
            }),
        }
    }

    fn wake(&mut self, now: Reading) -> Vec<Motion> {
        let mut out = Vec::new();
        self.lease.wake(now, &mut out);
        out
    }

    fn hear(&mut self, now: Reading, from: u8, answer: Answer) -> Vec<Motion> {
        let mut out = Vec::new();
        self.lease.answer(now, witness(from), answer, &mut out);
        out
    }

    /// Gets the slot at `now`.
    fn acquire(&mut self, now: Reading) -> Vec<Motion> {
        self.lease.seek(now, 0);
        self.wake(now);
        let ballot = ballot(1, 9);
        for number in [1, 2] {
            self.hear(now, number, Answer::Promise { ballot, accepted: None });
        }
        self.hear(now, 1, Answer::Granted { key: key(1, 9), round: 1 });
        self.hear(now, 2, Answer::Granted { key: key(1, 9), round: 1 })
    }
}

#[test]
fn the_deadline_is_set_before_the_container_may_start() {
    let motions = Script::new(Rules::ALL).acquire(at(0));
    let mut heads = motions.iter();
    assert!(
        matches!(heads.next(), Some(Motion::Deadline(Fence { token: Token(1), .. }))),
        "{motions:?}"
    );
    assert!(matches!(heads.next(), Some(Motion::Acquired { token: Token(1) })), "{motions:?}");
}

#[test]
fn time_counts_from_the_question() {
    let ends = Rules::with_and_without(Rule::FromAsking, |rules| {
        let mut script = Script::new(rules);
        script.acquire(at(0));
        // The second round left at once; its answers come two seconds later.
        for number in [1, 2] {
            script.hear(at(2_000), number, Answer::Granted { key: key(1, 9), round: 2 });
        }
        script.lease.over().map(Reading::boot)
    });
    let end = |millis| Some(Duration::from_millis(millis) + timing::valid(TTL));
    assert_eq!(ends, [end(0), end(2_000)]);
}

#[test]
fn what_lapsed_does_not_come_back() {
    let is_back = Rules::with_and_without(Rule::LapseIsFinal, |rules| {
        let mut script = Script::new(rules);
        script.acquire(at(0));
        script.wake(at(5_000));
        let lapsed = script.wake(at(12_000));
        assert!(lapsed.contains(&Motion::Lapsed { token: Token(1) }), "{lapsed:?}");
        // The grants of a round that is open still.
        for number in [1, 2] {
            script.hear(at(12_100), number, Answer::Granted { key: key(1, 9), round: 3 });
        }
        script.lease.token(at(12_100)).is_some()
    });
    assert_eq!(is_back, [false, true]);
}

#[test]
fn a_lease_ends_by_the_quicker_clock_of_its_holder() {
    let mut script = Script::new(Rules::ALL);
    script.acquire(at(0));
    let slewed = Reading::new(Duration::from_secs(1), Duration::from_secs(30));
    assert_eq!(script.lease.token(slewed), None);
}

#[test]
fn an_earlier_value_decides_who_the_witnesses_are() {
    let mut script = Script::new(Rules::ALL);
    script.lease.seek(at(0), 0);
    script.wake(at(0));
    let moved = Configuration { version: 2, current: set(&[3, 4, 5]), next: None, ttl: TTL };
    let accepted =
        Accepted { key: key(0, 3), value: Value { configuration: moved, token: Token(0) } };
    let ballot = ballot(1, 9);
    script.hear(at(1), 1, Answer::Promise { ballot, accepted: None });
    let asked = script.hear(at(1), 3, Answer::Promise { ballot, accepted: Some(accepted) });
    let to: Vec<NodeId> = asked
        .iter()
        .filter_map(|motion| match motion {
            Motion::Send { to, request: Request::Prepare { .. } } => Some(*to),
            Motion::Acquired { .. }
            | Motion::Deadline(_)
            | Motion::Lapsed { .. }
            | Motion::Locate
            | Motion::Send { .. } => None,
        })
        .collect();
    assert_eq!(to, [node(4), node(5)]);
    let won = script.hear(at(2), 4, Answer::Promise { ballot, accepted: None });
    let asks_for = |motion: &Motion| matches!(motion, Motion::Send { request: Request::Accept { value, .. }, .. } if value.configuration.current == set(&[3, 4, 5]));
    assert_eq!(won.iter().filter(|motion| asks_for(motion)).count(), 3, "{won:?}");
}

#[test]
fn a_loser_waits_for_the_holders_time() {
    let mut script = Script::new(Rules::ALL);
    script.lease.seek(at(0), 0);
    script.wake(at(0));
    let ballot = ballot(1, 9);
    let remaining = Duration::from_secs(4);
    let busy = || Answer::Busy {
        ballot,
        holder: holder(3),
        token: Token(1),
        remaining,
        configuration: None,
    };
    for number in [1, 2, 3] {
        script.hear(at(10), number, busy());
    }
    assert_eq!(script.lease.next_deadline(), Some(at(4_010)));
}

#[test]
fn a_promise_elsewhere_costs_a_ballot_and_not_the_lease() {
    let n_asked = Rules::with_and_without(Rule::WinBack, |rules| {
        let mut script = Script::new(rules);
        script.acquire(at(0));
        let refusal = Refusal::Promised(ballot(6, 4));
        let refused = Answer::Refused { ballot: ballot(1, 9), refusal, configuration: None };
        let asked = script.hear(at(100), 3, refused);
        let prepares = |motion: &&Motion| matches!(motion, Motion::Send { request: Request::Prepare { ballot, .. }, .. } if ballot.counter == 7);
        for number in [1, 3] {
            script.hear(at(110), number, Answer::Promise { ballot: ballot(7, 9), accepted: None });
        }
        assert_eq!(script.lease.token(at(120)), Some(Token(1)));
        asked.iter().filter(prepares).count()
    });
    assert_eq!(n_asked, [3, 0]);
}

#[test]
fn witnesses_change_only_by_both_majorities() {
    let changed = Rules::with_and_without(Rule::BothMajorities, |rules| {
        let mut script = Script::new(rules);
        script.acquire(at(0));
        let mut out = Vec::new();
        assert!(script.lease.change(at(10), set(&[4, 5, 6]), &mut out));
        assert!(!script.lease.change(at(10), set(&[1, 5, 6]), &mut out), "one at a time");
        let joint = Key { sub: 2, ..key(1, 9) };
        for number in [4, 5] {
            script.hear(at(20), number, Answer::Granted { key: joint, round: 3 });
        }
        let alone = script.lease.configuration().next.is_none();
        for number in [1, 2] {
            script.hear(at(20), number, Answer::Granted { key: joint, round: 3 });
        }
        assert_eq!(script.lease.configuration().current, set(&[4, 5, 6]));
        alone
    });
    assert_eq!(changed, [false, true]);
}

#[test]
fn who_waits_for_a_renewal_changes_no_witnesses() {
    let have_begun = Rules::with_and_without(Rule::AskLiving, |rules| {
        [3_000, 4_000].map(|when| {
            let mut script = Script::new(rules);
            script.acquire(at(0));
            script.lease.change(at(when), set(&[4, 5, 6]), &mut Vec::new())
        })
    });
    assert_eq!(have_begun, [[true, false], [true, true]]);
}

#[test]
fn a_liar_cannot_use_up_the_counters() {
    let mut desk = Desk::new(Rules::ALL);
    let answer = desk.prepare(at(0), u64::MAX, 3);
    assert!(matches!(answer, Some(Answer::Refused { refusal: Refusal::Leap, .. })), "{answer:?}");
    let mut script = Script::new(Rules::ALL);
    script.lease.seek(at(0), 0);
    script.wake(at(0));
    let refusal = Refusal::Promised(ballot(u64::MAX, 3));
    for number in [1, 2, 3] {
        let ballot = ballot(1, 9);
        let refused = Answer::Refused { ballot, refusal, configuration: None };
        script.hear(at(10), number, refused);
    }
    let next = script.lease.next_deadline().unwrap();
    let asked = script.wake(next);
    let is_next = |motion: &Motion| matches!(motion, Motion::Send { request: Request::Prepare { ballot }, .. } if ballot.counter == 2);
    assert!(asked.iter().any(is_next), "{asked:?}");
}

#[test]
fn nobody_waits_for_ever_for_a_liar() {
    let mut script = Script::new(Rules::ALL);
    script.lease.seek(at(0), 3);
    let began = script.lease.next_deadline().unwrap();
    script.wake(began);
    for number in [1, 2, 3] {
        let busy = Answer::Busy {
            ballot: ballot(1, 9),
            holder: holder(3),
            token: Token(1),
            remaining: Duration::MAX,
            configuration: None,
        };
        script.hear(began, number, busy);
    }
    let next = script.lease.next_deadline().unwrap();
    assert!(began.until(next) < Timing::TTL_MAX + Duration::from_secs(2), "{next:?}");
}

#[test]
fn a_promise_of_the_same_counter_is_won_back_too() {
    let mut script = Script::new(Rules::ALL);
    script.acquire(at(0));
    let refusal = Refusal::Promised(ballot(1, 4));
    let refused = Answer::Refused { ballot: ballot(1, 9), refusal, configuration: None };
    let asked = script.hear(at(100), 3, refused);
    let prepares =
        |motion: &Motion| matches!(motion, Motion::Send { request: Request::Prepare { .. }, .. });
    assert!(asked.iter().any(prepares), "{asked:?}");
}

#[test]
fn a_refused_attempt_ends_at_once() {
    let mut script = Script::new(Rules::ALL);
    script.lease.seek(at(0), 0);
    script.wake(at(0));
    let refused = || Answer::Refused {
        ballot: ballot(1, 9),
        refusal: Refusal::Promised(ballot(6, 4)),
        configuration: None,
    };
    script.hear(at(10), 1, refused());
    // The third may be the dead holder's own node, and never answer.
    script.hear(at(10), 2, refused());
    let wait = at(10).until(script.lease.next_deadline().unwrap());
    assert!(wait <= Duration::from_millis(800), "{wait:?}");
}

#[test]
fn every_ttl_has_times_that_fit_or_says_why_not() {
    for seconds in 1..=400 {
        let timing = Timing::of(Duration::from_secs(seconds));
        let is_in_range = (6..=300).contains(&seconds);
        assert_eq!(timing.is_ok(), is_in_range, "{seconds} s: {timing:?}");
        let Ok(timing) = timing else { continue };
        // A container that starts under the first grants is not told to stop before the next ones are there.
        let stop = timing::valid(timing.ttl_first).saturating_sub(timing.kill + timing.grace);
        assert!(stop >= Duration::from_secs(3), "{seconds} s: {stop:?}");
    }
    let told = Timing::of(Duration::from_secs(2)).unwrap_err().to_string();
    assert_eq!(told, "a lease of 2s is not between 6s and 300s");
}

proptest! {
    /// S1: whatever the rates within their bound, and however late the question arrives, the holder ends first.
    #[test]
    fn the_holder_ends_before_its_witness(
        ttl in 6_u64..=300,
        holder_ppm in 990_000_u64..=1_010_000,
        witness_ppm in 990_000_u64..=1_010_000,
        late in 0_u64..1_000_000,
    ) {
        let ttl = Duration::from_secs(ttl);
        let real = |by_clock: Duration, ppm: u64| {
            by_clock.as_nanos() * 1_000_000 / u128::from(ppm)
        };
        let holder_ends = real(timing::valid(ttl), holder_ppm);
        let witness_ends = u128::from(late) + real(ttl, witness_ppm);
        prop_assert!(holder_ends <= witness_ends);
    }
}

#[test]
fn writes_are_counted_up() {
    let mut desk = Desk::new(Rules::ALL);
    let prepare = |counter| Request::Prepare { ballot: ballot(counter, 2) };
    let tickets: Vec<Ticket> = (1..4)
        .filter_map(|counter| match desk.steps(at(0), 2, prepare(counter)).pop()? {
            Step::Persist { ticket, .. } => Some(ticket),
            Step::Answer { .. } => None,
        })
        .collect();
    assert_eq!(tickets, [Ticket(1), Ticket(2), Ticket(3)]);
}
