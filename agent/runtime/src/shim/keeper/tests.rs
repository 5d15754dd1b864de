//! Lines, pieces, files and times.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::{LINE_LEN_MAX, Limits, Log, dropped, path, stamp};

const ROOM: Limits = Limits { bytes_max: 1 << 20, files_max: 3 };

fn texts(dir: &Path, number: u32) -> Vec<String> {
    let text = fs::read_to_string(path(dir, number)).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
}

#[test]
fn streams_do_not_mix_within_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::open(dir.path(), ROOM);
    log.write(0, b"one\ntw");
    log.write(1, b"bad\n");
    log.write(0, b"o\n\nthree");
    log.finish();
    let lines = ["stdout F one", "stderr F bad", "stdout F two", "stdout F ", "stdout F three"];
    assert_eq!(texts(dir.path(), 0), lines);
}

#[test]
fn a_long_line_comes_in_pieces() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::open(dir.path(), ROOM);
    let long = vec![b'x'; LINE_LEN_MAX * 2 + 5];
    log.write(0, &long);
    log.write(0, b"y\n");
    log.flush();
    let lines = texts(dir.path(), 0);
    let marks: Vec<&str> = lines.iter().filter_map(|line| line.get(..8)).collect();
    assert_eq!(marks, ["stdout P", "stdout P", "stdout F"]);
    assert_eq!(lines[2], "stdout F xxxxxy");
    assert_eq!(lines[0].len(), LINE_LEN_MAX + 9);
}

#[test]
fn files_are_never_larger_nor_more_than_allowed_and_what_is_dropped_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::open(dir.path(), Limits { bytes_max: 4096, files_max: 3 });
    let mut written = 0;
    for number in 0..1000_u32 {
        let line = format!("line {number}\n");
        log.write(0, line.as_bytes());
        log.flush();
        // With the time, the stream and the mark.
        written += u64::try_from(line.len()).expect("a length") + 40;
    }
    let files: Vec<u64> = (0..4_u32)
        .filter_map(|number| fs::metadata(path(dir.path(), number)).ok())
        .map(|file| file.len())
        .collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|len| *len <= 4096));
    assert_eq!(dropped(dir.path()) + files.iter().sum::<u64>(), written);
    let newest = texts(dir.path(), 0);
    assert_eq!(newest.last().map(String::as_str), Some("stdout F line 999"));
    let (before, after) = (texts(dir.path(), 1), newest);
    let number = |line: &String| line.rsplit(' ').next().and_then(|n| n.parse::<u32>().ok());
    assert_eq!(before.last().and_then(number).map(|n| n + 1), after.first().and_then(number));
}

#[test]
fn what_a_full_disk_did_not_take_is_told_when_it_takes_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::open(dir.path(), ROOM);
    // A device that is always full, in the place of the file.
    log.file = Some(File::options().write(true).open("/dev/full").expect("opened"));
    log.write(0, b"lost\n");
    log.flush();
    log.file = None;
    log.write(0, b"kept\n");
    log.finish();
    let told = "stderr F mesh: 45 bytes of output before this were lost: disk full?";
    assert_eq!(texts(dir.path(), 0), [told, "stdout F kept"]);
}

#[test]
fn a_log_that_cannot_begin_begins_later() {
    let dir = tempfile::tempdir().expect("a directory");
    // Nobody can make a directory below a file.
    let place = dir.path().join("place");
    fs::write(&place, "").expect("written");
    let mut log = Log::open(&place.join("log"), ROOM);
    log.write(0, b"lost\n");
    log.flush();
    fs::remove_file(&place).expect("removed");
    log.write(0, b"kept\n");
    log.finish();
    let told = "stderr F mesh: 45 bytes of output before this were lost: disk full?";
    assert_eq!(texts(&place.join("log"), 0), [told, "stdout F kept"]);
}

/// A page of room, and then no more: what a disk does that fills up within a batch.
#[test]
fn what_fitted_is_not_counted_as_lost_and_nothing_is_glued_to_a_torn_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::open(dir.path(), ROOM);
    let (reader, writer) = pipe2(OFlag::O_NONBLOCK).expect("a pipe");
    let room = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("set");
    let room = usize::try_from(room).expect("a size");
    log.file = Some(File::from(writer));
    let mut reader = File::from(reader);
    let mut drain = || {
        let mut all = vec![0; room];
        let count = reader.read(&mut all).expect("read");
        String::from_utf8_lossy(&all[..count]).into_owned()
    };
    log.write(0, b"whole\n");
    log.write(0, &vec![b'x'; room]);
    log.write(0, b"\n");
    log.flush();
    let first = drain();
    assert_eq!(first.len(), room);
    // Two lines with their times and marks, less what fitted.
    let lost = 46 + 40 + room + 1 - room;
    log.write(0, b"next\n");
    log.flush();
    let second = drain();
    let texts: Vec<&str> =
        second.lines().map(|line| line.split_once(' ').map_or("", |(_, text)| text)).collect();
    let told = format!("stderr F mesh: {lost} bytes of output before this were lost: disk full?");
    assert_eq!(texts, ["", &told, "stdout F next"], "{second:?}");
    assert_eq!(log.lost, 0);
}

#[test]
fn a_line_that_a_power_cut_tore_stays_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(path(dir.path(), 0), "2026-11-22T23:20:51.123456789Z stdout F the li")
        .expect("written");
    let mut log = Log::open(dir.path(), ROOM);
    log.write(0, b"next\n");
    log.finish();
    assert_eq!(texts(dir.path(), 0), ["stdout F the li", "stdout F next"]);
}

#[test]
fn times_are_those_of_the_calendar() {
    let moments =
        [0, 951_782_399, 951_782_400, 951_868_800, 1_709_251_199, 1_795_389_651, 4_107_542_400];
    for seconds in moments {
        let own = stamp(Duration::new(seconds, 123_000_000));
        let second = i64::try_from(seconds).expect("small");
        let known = jiff::Timestamp::new(second, 123_000_000).expect("a moment");
        assert_eq!(own.parse::<jiff::Timestamp>().expect("a time"), known, "{own}");
    }
    assert_eq!(stamp(Duration::from_secs(951_782_400)), "2000-02-29T00:00:00.000000000Z");
}
