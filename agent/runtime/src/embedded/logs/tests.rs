//! Tails, rotations and damage.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::{Reader, log_path, parse};

fn write(dir: &Path, number: u32, texts: &[&str]) {
    let path = log_path(dir, number);
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
    for text in texts {
        writeln!(file, "2026-11-22T23:20:51.123Z stdout F {text}").expect("written");
    }
}

fn read_all(reader: &mut Reader) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(lines) = reader.read().expect("read") {
        texts
            .extend(lines.into_iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()));
    }
    texts
}

fn rotate(dir: &Path) {
    for number in (0..2).rev() {
        if log_path(dir, number).exists() {
            fs::rename(log_path(dir, number), log_path(dir, number + 1)).expect("renamed");
        }
    }
}

#[test]
fn a_tail_reaches_over_files() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 2, &["a", "b"]);
    write(dir.path(), 1, &["c", "d"]);
    write(dir.path(), 0, &["e"]);
    let all = ["a", "b", "c", "d", "e"];
    for tail in 0..=6 {
        let mut reader = Reader::open(dir.path().to_path_buf(), Some(tail)).expect("opened");
        let expected = &all[all.len().saturating_sub(tail)..];
        assert_eq!(read_all(&mut reader), expected, "tail {tail}");
    }
    let mut reader = Reader::open(dir.path().to_path_buf(), None).expect("opened");
    assert_eq!(read_all(&mut reader), all);
}

#[test]
fn a_tail_of_a_long_file_is_read_from_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let texts: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    write(dir.path(), 0, &texts);
    let mut reader = Reader::open(dir.path().to_path_buf(), Some(5000)).expect("opened");
    assert_eq!(read_all(&mut reader), &texts[15_000..]);
}

#[test]
fn rotations_under_a_reader_neither_lose_nor_repeat() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut reader = Reader::open(dir.path().to_path_buf(), None).expect("no file yet");
    assert!(read_all(&mut reader).is_empty());
    write(dir.path(), 0, &["a"]);
    assert_eq!(read_all(&mut reader), ["a"]);
    write(dir.path(), 0, &["b"]);
    rotate(dir.path());
    assert_eq!(read_all(&mut reader), ["b"], "between two files");
    write(dir.path(), 0, &["c"]);
    rotate(dir.path());
    write(dir.path(), 0, &["d"]);
    assert_eq!(read_all(&mut reader), ["c", "d"]);
    for text in ["e", "f", "g"] {
        rotate(dir.path());
        write(dir.path(), 0, &[text]);
    }
    assert_eq!(read_all(&mut reader), ["e", "f", "g"], "its file is gone, the oldest comes next");
}

#[test]
fn a_line_is_read_when_it_is_whole_and_damage_is_skipped() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), 0, &["a"]);
    let mut file = OpenOptions::new().append(true).open(log_path(dir.path(), 0)).expect("opened");
    write!(file, "damage\n\n2026-11-22T23:20:51.5Z stderr F ha").expect("written");
    let mut reader = Reader::open(dir.path().to_path_buf(), None).expect("opened");
    assert_eq!(read_all(&mut reader), ["a"]);
    writeln!(file, "lf").expect("written");
    assert_eq!(read_all(&mut reader), ["half"]);
    assert!(parse(b"2026-11-22T23:20:51.5Z stdout F ").expect("empty").text.is_empty());
}
