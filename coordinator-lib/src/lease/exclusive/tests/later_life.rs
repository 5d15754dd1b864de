//! Scripts: a later life of an agent on the same boot, which finds what the former one has left (H3, H8).

use super::*;

/// A later life whose guard holds token 3 until `kill`, after phase 1 at 100 ms.
fn later_life(kill: Reading, rules: Rules) -> (Script, Vec<Motion>) {
    let timing = Timing::of(TTL).unwrap();
    let resume = Some(Resume { token: Token(3), kill });
    let setup =
        Setup { me: holder(9), first: first(), timing, seed: 1, resume, former: None, rules };
    let mut script = Script { lease: Lease::new(setup) };
    script.lease.seek(at(0), 0);
    script.wake(at(0));
    let accepted = Some(Accepted { key: key(3, 9), value: value(3) });
    let promise = || Answer::Promise { ballot: ballot(4, 9), accepted: accepted.clone() };
    script.hear(at(100), 1, promise());
    let asked = script.hear(at(100), 2, promise());
    (script, asked)
}

#[test]
fn a_later_life_keeps_the_token_while_the_guard_holds() {
    let token = |kill| {
        let (mut script, _) = later_life(kill, Rules::ALL);
        for number in [1, 2] {
            script.hear(at(110), number, Answer::Granted { key: key(4, 9), round: 1 });
        }
        script.lease.token(at(110))
    };
    assert_eq!([at(9_000), at(50)].map(token), [Some(Token(3)), Some(Token(4))]);
}

#[test]
fn a_later_life_asks_for_no_less_time_than_the_former_may_have() {
    for kill in [at(9_000), at(50)] {
        let asks_for_all = Rules::with_and_without(Rule::OutlastFormer, |rules| {
            let (_, asked) = later_life(kill, rules);
            let is_full = |motion: &&Motion| matches!(motion, Motion::Send { request: Request::Accept { ttl, .. }, .. } if *ttl == TTL);
            asked.iter().filter(is_full).count()
        });
        assert_eq!(asks_for_all, [3, 0], "{kill:?}");
    }
}

#[test]
fn a_token_that_was_released_is_not_used_again() {
    let tokens = Rules::with_and_without(Rule::ResumeOnce, |rules| {
        let (mut script, _) = later_life(at(9_000), rules);
        for number in [1, 2] {
            script.hear(at(110), number, Answer::Granted { key: key(4, 9), round: 1 });
        }
        script.lease.release(&mut Vec::new());
        script.lease.seek(at(200), 0);
        script.wake(at(200));
        let accepted = Some(Accepted { key: key(4, 9), value: value(3) });
        for number in [1, 2] {
            let accepted = accepted.clone();
            script.hear(at(210), number, Answer::Promise { ballot: ballot(5, 9), accepted });
        }
        for number in [1, 2] {
            script.hear(at(220), number, Answer::Granted { key: key(5, 9), round: 1 });
        }
        script.lease.token(at(220))
    });
    assert_eq!(tokens, [Some(Token(5)), Some(Token(3))]);
}

#[test]
fn a_former_lifes_lease_is_released_when_its_container_is_gone() {
    let timing = Timing::of(TTL).unwrap();
    let resume = Some(Resume { token: Token(3), kill: at(9_000) });
    let setup = Setup {
        me: holder(9),
        first: first(),
        timing,
        seed: 1,
        resume,
        former: None,
        rules: Rules::ALL,
    };
    let mut told = Vec::new();
    Lease::new(setup).release(&mut told);
    let releases = |motion: &Motion| {
        matches!(motion, Motion::Send { request: Request::Release { token: Token(3) }, .. })
    };
    assert_eq!(told.iter().filter(|motion| releases(motion)).count(), 3, "{told:?}");
}
