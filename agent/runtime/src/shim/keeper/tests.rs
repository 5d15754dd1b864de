//! Lines, pieces, files and times.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use super::{LINE_LEN_MAX, Limits, Log, dropped, path, stamp};

const ROOM: Limits = Limits { bytes_max: 1 << 20, files_max: 3 };

fn texts(dir: &Path, number: u32) -> Vec<String> {
    let text = fs::read_to_string(path(dir, number)).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
}

#[test]
fn streams_do_not_mix_within_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::open(dir.path(), ROOM).expect("opened");
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
    let mut log = Log::open(dir.path(), ROOM).expect("opened");
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
    let mut log = Log::open(dir.path(), Limits { bytes_max: 4096, files_max: 3 }).expect("opened");
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
    let mut log = Log::open(dir.path(), ROOM).expect("opened");
    // A device that is always full, in the place of the file.
    log.file = Some(File::options().write(true).open("/dev/full").expect("opened"));
    log.write(0, b"lost\n");
    log.flush();
    log.file = None;
    log.write(0, b"kept\n");
    log.finish();
    let told = "stderr F mesh: 45 bytes of output before this were lost: disk full?";
    assert_eq!(texts(dir.path(), 0), ["stdout F kept", told]);
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
