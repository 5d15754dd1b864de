//! What survives being killed, in words: nobody can end it but whoever finds out what it waits for.
//!
//! Only what can be read without waiting for the process itself: not its command line, for one, which is in its memory.

use std::fs;
use std::path::{Path, PathBuf};

/// The state of a thread that no signal reaches before its wait is over.
const DEEP: char = 'D';

/// A process that is left.
#[derive(Debug)]
struct Left {
    pid: i32,
    name: String,
    state: char,
    /// The function of the kernel in which it waits; empty when the kernel does not say.
    place: String,
}

/// The processes with these numbers: the first of those that hang, and how many others there are; `None` when there are none.
pub(crate) fn words(pids: &[i32]) -> Option<String> {
    let mut left: Vec<Left> = pids.iter().filter_map(|pid| look(*pid)).collect();
    left.sort_by_key(|it| (it.state != DEEP, it.pid));
    let (first, others) = left.split_first()?;
    let others = match others.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Some(format!("{}{others}", first.words()))
}

/// Each of them.
pub(crate) fn each(pids: &[i32]) -> Vec<String> {
    pids.iter().filter_map(|pid| look(*pid)).map(|left| left.words()).collect()
}

impl Left {
    fn words(&self) -> String {
        let Self { pid, name, state, place } = self;
        let place = if place.is_empty() { String::new() } else { format!(" in {place}") };
        format!("process {pid} ({name}) in state {state}{place}")
    }
}

/// A process by that of its threads that hangs, or else by its first one. `None` when it is gone.
fn look(pid: i32) -> Option<Left> {
    let own = PathBuf::from(format!("/proc/{pid}"));
    let tasks = fs::read_dir(own.join("task")).into_iter().flatten().flatten();
    let tasks = tasks.map(|task| task.path()).filter_map(|path| Some((read(&path)?, path)));
    let mut tasks: Vec<((String, char), PathBuf)> = tasks.collect();
    tasks.sort_by_key(|((_, state), path)| (*state != DEEP, !path.ends_with(pid.to_string())));
    let ((name, state), path) = tasks.into_iter().next()?;
    let place = fs::read_to_string(path.join("wchan")).unwrap_or_default();
    let place = place.trim();
    let place = if place == "0" { String::new() } else { place.to_owned() };
    Some(Left { pid, name, state, place })
}

/// The name and the state of a thread.
fn read(task: &Path) -> Option<(String, char)> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    parse(&stat)
}

/// The name may be anything, brackets and spaces too.
fn parse(stat: &str) -> Option<(String, char)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    Some((name.to_owned(), rest.chars().next()?))
}

#[cfg(test)]
mod tests {
    //! On this process.

    use super::{each, parse, words};

    #[test]
    fn a_process_is_told_by_its_name_and_state() {
        assert_eq!(parse("5 (a) b (c) D 1 2"), Some(("a) b (c".to_owned(), 'D')));
        assert_eq!(parse("5 (a"), None);
        let own = i32::try_from(std::process::id()).expect("small");
        let said = words(&[own]).expect("it is there");
        assert!(said.starts_with(&format!("process {own} (")), "{said}");
        let said = words(&[own, 1]).expect("they are there");
        assert!(said.ends_with(", and 1 more"), "{said}");
        assert_eq!(each(&[own, 1]).len(), 2);
        assert_eq!(words(&[]), None);
    }
}
