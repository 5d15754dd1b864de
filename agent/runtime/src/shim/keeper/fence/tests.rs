//! What is written comes back, and only what renews a lease is taken.

use super::super::lease::State;
use super::{
    Due, END_AT, FENCES_LEN, GROUPS_AT, Held, Moment, PAGE_LEN, SLOT_LEN, SLOTS_AT, Told, fences,
    groups, network, page, parse_boot,
};

const fn at(millis: u64) -> Moment {
    Moment { boot: millis * 1_000_000, raw: millis * 1_000_000 }
}

const fn told(token: u64, stop: u64, kill: u64) -> Told {
    Told { boot: 5 << 64 | 6, token, stop: at(stop), kill: at(kill) }
}

/// What a guard reads of a file with these fences.
fn file(fences: [Option<Told>; 2]) -> Vec<u8> {
    let mut page = vec![0; FENCES_LEN];
    for (at, told) in SLOTS_AT.into_iter().zip(fences) {
        let bytes = told.map(|told| told.encode()).unwrap_or_default();
        page[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    page
}

fn held(told: Told) -> Held {
    Held::begin([Some(told), None], told.boot).expect("of this boot")
}

#[test]
fn a_page_says_what_was_put_in() {
    let text = "/sys/fs/cgroup/freezer/mesh/c\n/sys/fs/cgroup/pids/mesh/c";
    let first = Told { boot: u128::MAX - 1, token: u64::MAX, ..told(7, 1, 2) };
    let page = page(&first, text, "/run/mesh/c/netns").expect("room");
    assert_eq!(page.len(), PAGE_LEN);
    assert_eq!(fences(&page[..FENCES_LEN]), [Some(first), None]);
    assert_eq!((groups(&page), network(&page)), (Some(text), Some("/run/mesh/c/netns")));
    let long = "x".repeat(PAGE_LEN);
    assert_eq!(super::page(&first, &long, ""), None, "no room");
    assert_eq!(super::page(&first, text, &long), None, "no room");
    let nameless = super::page(&first, text, "").expect("room");
    assert_eq!((groups(&nameless), network(&nameless)), (Some(text), None));
}

#[test]
fn every_torn_record_is_noticed() {
    let (old, new) = (told(7, 100, 200).encode(), told(7, 300, 400).encode());
    for cut in 1..SLOT_LEN {
        let torn = [&new[..cut], &old[cut..]].concat();
        let whole = torn == new || torn == old;
        assert_eq!(Told::decode(&torn).is_some(), whole, "cut after {cut} bytes");
    }
    for bit in 0..SLOT_LEN * 8 {
        let mut bytes = new.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Told::decode(&bytes), None, "bit {bit}");
    }
    assert_eq!(Told::decode(&new[..SLOT_LEN - 1]), None);
    assert_eq!(Told::decode(&[0; SLOT_LEN]), None, "a slot that was never written");
}

#[test]
fn texts_that_are_damaged_are_noticed() {
    let mut page = page(&told(7, 1, 2), "/sys/fs/cgroup/mesh/c", "/run/c").expect("room");
    page[256 + 16 + 21 + 16] ^= 1;
    assert_eq!((groups(&page), network(&page)), (Some("/sys/fs/cgroup/mesh/c"), None));
    page[256 + 16 + 21..].fill(0);
    let known = (Some("/sys/fs/cgroup/mesh/c"), None);
    assert_eq!((groups(&page), network(&page)), known, "as an older agent leaves it");
    page[300 - 20] ^= 1;
    assert_eq!(groups(&page), None);
    page[256..264].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(groups(&page), None);
    assert_eq!(groups(&page[..FENCES_LEN]), None);
}

#[test]
fn while_one_record_is_written_the_other_one_holds() {
    let mut page = page(&told(7, 100, 200), "", "").expect("room");
    let mut guard = Held::begin(fences(&page), told(7, 0, 0).boot).expect("whole");
    let at = SLOTS_AT[1];
    page[at..at + 40].copy_from_slice(&told(7, 300, 400).encode()[..40]);
    guard.take(&page);
    assert_eq!(guard.told(), told(7, 100, 200));
    page[at..at + SLOT_LEN].copy_from_slice(&told(7, 300, 400).encode());
    guard.take(&page);
    page.fill(0);
    guard.take(&page);
    assert_eq!(guard.told(), told(7, 300, 400), "and what was taken is kept");
}

#[test]
fn a_fence_of_another_boot_is_void() {
    let own = told(7, 100, 200);
    let other = Told { boot: 9, ..told(7, 300, 400) };
    assert!(Held::begin([Some(other), None], own.boot).is_none());
    assert_eq!(Held::begin([Some(other), Some(own)], own.boot).expect("one").told(), own);
    let mut guard = held(own);
    guard.take(&file([Some(other), None]));
    assert_eq!(guard.told(), own);
}

#[test]
fn only_what_renews_the_lease_is_taken() {
    let first = told(7, 100, 200);
    let refused = [
        told(8, 300, 400),
        told(6, 300, 400),
        told(7, 99, 400),
        told(7, 300, 199),
        Told { kill: Moment { boot: u64::MAX, raw: 1 }, ..told(7, 300, 400) },
        Told { stop: Moment { boot: 1, raw: u64::MAX }, ..told(7, 300, 400) },
    ];
    for other in refused {
        let mut guard = held(first);
        guard.take(&file([Some(other), Some(first)]));
        assert_eq!(guard.told(), first, "{other:?}");
    }
    let mut guard = held(first);
    guard.take(&file([Some(told(7, 300, 400)), Some(first)]));
    assert_eq!(guard.told(), told(7, 300, 400));
}

#[test]
fn a_guard_that_begins_late_takes_the_later_of_one_lease_and_the_sooner_of_two() {
    let (early, late) = (told(7, 100, 200), told(7, 300, 400));
    for fences in [[Some(early), Some(late)], [Some(late), Some(early)]] {
        assert_eq!(Held::begin(fences, early.boot).expect("whole").told(), late);
    }
    let other = told(8, 500, 600);
    for fences in [[Some(early), Some(other)], [Some(other), Some(early)]] {
        assert_eq!(Held::begin(fences, early.boot).expect("whole").told(), early);
    }
}

#[test]
fn stop_is_due_once_and_kill_for_ever() {
    let mut guard = held(told(7, 100, 200));
    assert_eq!(guard.due(at(99)), Due::Nothing);
    assert_eq!(guard.state(at(99)), State::Held);
    assert_eq!(guard.due(at(100)), Due::Stop);
    assert_eq!(guard.due(at(150)), Due::Nothing);
    assert_eq!(guard.state(at(150)), State::Ending);
    assert_eq!(guard.due(at(200)), Due::Kill);
    guard.take(&file([Some(told(7, 1000, 2000)), None]));
    assert_eq!(guard.due(at(201)), Due::Kill, "what lapsed does not come back");
    assert_eq!(guard.state(at(201)), State::Over);
}

#[test]
fn a_renewal_that_is_read_after_the_stop_takes_nothing_back() {
    let mut guard = held(told(7, 100, 200));
    assert_eq!(guard.due(at(100)), Due::Stop);
    guard.take(&file([Some(told(7, 1000, 2000)), None]));
    assert_eq!(guard.due(at(300)), Due::Nothing, "but it has longer to end");
    assert_eq!(guard.state(at(300)), State::Ending);
}

#[test]
fn what_one_says_has_passed_the_other_acts_upon() {
    let mut guard = held(told(7, 100, 200));
    let teller = guard.twin();
    assert_eq!(teller.state(at(100)), State::Ending);
    guard.take(&file([Some(told(7, 1000, 2000)), None]));
    assert_eq!(guard.due(at(101)), Due::Stop);
    assert_eq!(guard.due(at(102)), Due::Nothing, "once");
    assert_eq!(teller.state(at(250)), State::Over);
    assert_eq!(guard.due(at(103)), Due::Kill);

    let mut guard = held(told(7, 100, 200));
    let mut teller = guard.twin();
    teller.take(&file([Some(told(7, 1000, 2000)), None]));
    assert_eq!(guard.due(at(100)), Due::Stop);
    assert_eq!(teller.state(at(100)), State::Ending);
}

#[test]
fn the_end_is_that_of_its_lease_and_whole_and_asks_nobody_to_stop() {
    let first = told(7, 100, 200);
    let with = |end: &[u8]| {
        let mut page = file([Some(first), None]);
        page[END_AT..END_AT + end.len()].copy_from_slice(end);
        let mut guard = held(first);
        guard.take(&page);
        guard
    };
    let end = first.encode_end();
    assert!(END_AT + end.len() <= GROUPS_AT && SLOTS_AT[1] + SLOT_LEN <= END_AT);
    let mut guard = with(&end);
    assert_eq!((guard.due(at(0)), guard.state(at(0))), (Due::Nothing, State::Ending));
    guard.take(&file([Some(told(7, 300, 400)), None]));
    assert_eq!(guard.state(at(0)), State::Ending, "and for good");
    assert_eq!(guard.twin().state(at(0)), State::Ending);
    assert_eq!(with(&told(8, 1, 2).encode_end()).state(at(0)), State::Held);
    let other = Told { boot: 9, ..first };
    assert_eq!(with(&other.encode_end()).state(at(0)), State::Held);
    for cut in 0..end.len() {
        assert_eq!(with(&end[..cut]).state(at(0)), State::Held, "cut after {cut} bytes");
    }
}

#[test]
fn whichever_clock_is_ahead_decides() {
    let fence = told(7, 100, 200);
    let cases = [(100, 0, Due::Stop), (0, 100, Due::Stop), (200, 0, Due::Kill), (0, 200, Due::Kill)];
    for (boot, raw, due) in cases {
        let now = Moment { boot: at(boot).boot, raw: at(raw).raw };
        assert_eq!(held(fence).due(now), due, "{now:?}");
    }
}

#[test]
fn a_renewal_that_came_in_time_counts_even_if_it_is_read_late() {
    let mut guard = held(told(7, 100, 200));
    guard.take(&file([Some(told(7, 1000, 2000)), None]));
    assert_eq!(guard.due(at(300)), Due::Nothing);
}

#[test]
fn a_guard_wakes_at_the_deadline_and_often_before() {
    let mut guard = held(told(7, 1000, 1050));
    assert_eq!(guard.wake_ms(at(0)), 100);
    assert_eq!(guard.wake_ms(at(990)), 11);
    assert_eq!(guard.due(at(1001)), Due::Stop);
    assert_eq!(guard.wake_ms(at(1001)), 50);
    assert_eq!(guard.due(at(1051)), Due::Kill);
    assert_eq!(guard.wake_ms(at(1051)), 10);
    assert_eq!(guard.wake_ms(at(3050)), 100, "what hangs is not asked all the time");
}

#[test]
fn the_kernels_name_of_a_boot_is_a_number() {
    let text = "0123456789ab-cdef-0123-4567-89abcdef0000\n";
    assert_eq!(parse_boot(text), None, "not 32 digits of it");
    let text = "01234567-89ab-cdef-0123-456789abcdef\n";
    assert_eq!(parse_boot(text), Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
    assert_eq!(parse_boot(""), None);
}
