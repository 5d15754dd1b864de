//! What one start of the program wrote, line by line.
//!
//! Nothing here or in [`check`](super::check) knows of the mesh: a judge that used its words for leases and tokens could share its
//! mistakes.

use std::time::Duration;

/// One start of the program in a container, by the lines of its file. Moments are of `CLOCK_MONOTONIC_RAW`, which all hosts of a lab share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) slot: String,
    pub(crate) host: usize,
    /// The container, and the start in it.
    pub(crate) container: String,
    pub(crate) start: String,
    /// `None` before the first line.
    pub(crate) said: Option<Said>,
    pub(crate) n_lines: u64,
    /// Whether it heard SIGTERM.
    pub(crate) was_asked: bool,
    /// The first thing that no program of ours writes; `None` when there is none.
    pub(crate) wrong: Option<String>,
    /// A line without its end.
    partial: Vec<u8>,
}

/// What the lines say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) token: u64,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Run {
    pub(crate) fn new(slot: &str, host: usize, container: &str, start: &str) -> Self {
        Self {
            slot: slot.to_owned(),
            host,
            container: container.to_owned(),
            start: start.to_owned(),
            ..Self::default()
        }
    }

    /// Takes the next bytes of the file. What has no line end yet waits for it: a program that is killed may leave such an end.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.partial);
        rest.extend_from_slice(bytes);
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            match line.split_last() {
                Some((b'\n', text)) => self.line(&String::from_utf8_lossy(text)),
                Some(_) | None => self.partial = line.to_vec(),
            }
        }
    }

    fn line(&mut self, text: &str) {
        self.n_lines += 1;
        let Some((token, at, event)) = parse(text) else {
            let number = self.n_lines;
            self.wrong.get_or_insert_with(|| {
                format!(
                    "line {number} is {text:?} and not `TOKEN NANOSECONDS started|tick|term|bye`"
                )
            });
            return;
        };
        self.was_asked |= event == "term";
        // Several processes may write, and each looks at the clock before it does: lines need not be in order.
        let said = self.said.get_or_insert(Said { token, first: at, last: at });
        said.first = said.first.min(at);
        said.last = said.last.max(at);
        if said.token != token {
            let before = said.token;
            self.wrong.get_or_insert_with(|| format!("token {token} after {before} in one start"));
        }
    }

    /// Who wrote it.
    pub(crate) fn name(&self) -> String {
        let Self { slot, host, container, start, .. } = self;
        format!("{slot} on host {host} ({container}, start {start})")
    }
}

fn parse(text: &str) -> Option<(u64, Duration, &str)> {
    let mut words = text.split(' ');
    let (token, at, event) = (words.next()?, words.next()?, words.next()?);
    let is_known = matches!(event, "started" | "tick" | "term" | "bye") && words.next().is_none();
    let at = Duration::from_nanos(at.parse().ok()?);
    is_known.then_some((token.parse().ok()?, at, event))
}

#[cfg(test)]
mod tests {
    //! Lines are taken as they come, in pieces too, and what is no line is noticed.

    use std::time::Duration;

    use super::{Run, Said};

    fn run(text: &str) -> Run {
        let mut run = Run::new("a/0", 1, "c", "1");
        run.take(text.as_bytes());
        run
    }

    #[test]
    fn lines_in_pieces_are_the_same_lines() {
        let text = "7 1000 started\n7 2000 tick\n7 3000 term\n7 3500 bye\n";
        let whole = run(text);
        let (first, last) = (Duration::from_nanos(1_000), Duration::from_nanos(3_500));
        assert_eq!(whole.said, Some(Said { token: 7, first, last }));
        assert_eq!((whole.n_lines, whole.was_asked, &whole.wrong), (4, true, &None));
        for at in 0..text.len() {
            let (before, after) = text.split_at(at);
            let mut pieces = run(before);
            pieces.take(after.as_bytes());
            assert_eq!(pieces, whole, "{at}");
        }
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!((run("").said, run("").wrong), (None, None));
    }

    #[test]
    fn a_last_line_without_its_end_is_not_heard_and_not_wrong() {
        for cut in ["7 20", "7 2000 tick", "7", "8 2000 ti"] {
            let run = run(&format!("7 1000 started\n{cut}"));
            assert_eq!(run.said.map(|said| said.last), Some(Duration::from_nanos(1_000)), "{cut}");
            assert_eq!(run.wrong, None, "{cut}");
        }
    }

    #[test]
    fn what_nobody_writes_is_wrong() {
        for line in ["", "7 1000", "x 1000 tick", "7 -1 tick", "7 1000 tack", "7 1000 tick more"] {
            let wrong = run(&format!("7 500 started\n{line}\n7 2000 tick\n")).wrong;
            assert!(wrong.is_some_and(|wrong| wrong.starts_with("line 2 is ")), "{line}");
        }
        let wrong = run("7 500 started\n8 1000 tick\n").wrong;
        assert_eq!(wrong.as_deref(), Some("token 8 after 7 in one start"));
    }

    #[test]
    fn lines_of_several_processes_need_not_be_in_order() {
        let said = run("7 1000 started\n7 3000 tick\n7 2000 tick\n").said.unwrap();
        assert_eq!(said.last, Duration::from_nanos(3_000));
    }
}
