//! An answer is what holds at its moment, and no more are given than allowed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::super::fence::{Told, fences, page};
use super::{ANSWERS_MAX, Held, Moment, Pace, WINDOW_MS, reply, spawn};

const fn at(millis: u64) -> Moment {
    Moment { boot: millis * 1_000_000, raw: millis * 1_000_000 }
}

const fn told(token: u64, stop: u64, kill: u64) -> Told {
    Told { boot: 5, token, stop: at(stop), kill: at(kill) }
}

fn answered(held: &Held, now: Moment) -> String {
    let (mut asking, answering) = UnixStream::pair().expect("a pair");
    reply(answering, held, now).expect("said");
    let mut text = String::new();
    asking.read_to_string(&mut text).expect("closed after the answer");
    text
}

#[test]
fn an_answer_is_one_line_and_then_the_end() {
    let held = Held::begin([Some(told(7, 1_000, 2_000)), None], 5).expect("of this boot");
    let rest = "\"written_at_ms\":400,\"valid_for_ms\":600,\"killed_in_ms\":1600}\n";
    assert_eq!(answered(&held, at(400)), format!("{{\"token\":7,\"state\":\"held\",{rest}"));
    let rest = "\"written_at_ms\":2000,\"valid_for_ms\":0,\"killed_in_ms\":0}\n";
    assert_eq!(answered(&held, at(2_000)), format!("{{\"token\":7,\"state\":\"over\",{rest}"));
}

#[test]
fn the_longest_answer_has_room() {
    let longest = Told { token: u64::MAX, ..told(0, u64::MAX / 1_000_000, u64::MAX / 1_000_000) };
    let held = Held::begin([Some(longest), None], 5).expect("of this boot");
    for now in [at(0), at(1), Moment { boot: u64::MAX, raw: u64::MAX }] {
        assert!(answered(&held, now).ends_with("}\n"), "{now:?}");
    }
}

#[test]
fn who_goes_away_or_is_deaf_is_told_nothing() {
    let held = Held::begin([Some(told(7, 1_000, 2_000)), None], 5).expect("of this boot");
    let (asking, answering) = UnixStream::pair().expect("a pair");
    drop(asking);
    assert!(reply(answering, &held, at(0)).is_err());
    let (asking, answering) = UnixStream::pair().expect("a pair");
    asking.shutdown(Shutdown::Read).expect("deaf");
    assert!(reply(answering, &held, at(0)).is_err());
}

#[test]
fn no_more_questions_are_answered_in_a_window_than_allowed() {
    let mut pace = Pace::default();
    for window in [5_000, 5_000 + WINDOW_MS, 9_000] {
        for _question in 1..ANSWERS_MAX {
            assert_eq!(pace.count(at(window)), 0);
        }
        assert_eq!(pace.count(at(window + 40)), WINDOW_MS - 40);
        assert_eq!(pace.count(at(window + 99)), 1, "a wait that was cut short goes on");
    }
}

#[test]
fn whoever_connects_hears_what_the_file_says_by_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fence");
    let endless = u64::MAX / 1_000_000;
    let first = told(7, endless - 1, endless);
    std::fs::write(&path, page(&first, "", "").expect("room")).expect("written");
    let held = Held::begin(fences(&page(&first, "", "").expect("room")), 5).expect("of this boot");
    let socket = dir.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    spawn(listener, File::open(&path).expect("opened"), held).expect("a thread");
    let ask = || {
        let mut text = String::new();
        let mut stream = UnixStream::connect(&socket).expect("somebody listens");
        stream.read_to_string(&mut text).expect("closed after the answer");
        text
    };
    // One that says something and stays, and one that goes away, are in nobody's way.
    let mut talker = UnixStream::connect(&socket).expect("somebody listens");
    let (Ok(_) | Err(_)) = talker.write(b"?");
    drop(UnixStream::connect(&socket).expect("somebody listens"));
    assert!(ask().contains("\"state\":\"held\""));
    let mut ended = page(&first, "", "").expect("room");
    let end = first.encode_end();
    let place = super::super::fence::END_AT;
    ended[place..place + end.len()].copy_from_slice(&end);
    std::fs::write(&path, ended).expect("written");
    assert!(ask().contains("\"state\":\"ending\""));
}
