//! Every refusal counts, and the log stays readable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::{PAUSE, Reason, Refusals};

/// A log in memory.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

struct Page<'a>(MutexGuard<'a, Vec<u8>>);

impl io::Write for Page<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Page<'a>;

    fn make_writer(&'a self) -> Page<'a> {
        Page(self.0.lock().unwrap())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Writes into this log as long as the guard lives.
    fn open(&self) -> tracing::subscriber::DefaultGuard {
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(self.clone());
        tracing::subscriber::set_default(lines.finish())
    }
}

#[test]
fn names_are_unique_and_of_one_form() {
    let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for name in names {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
    }
}

#[test]
fn the_runbook_explains_every_reason() {
    let runbook = include_str!("../../../../deploy/RUNBOOK.md");
    for reason in Reason::ALL {
        let name = format!("`{}`", reason.name());
        let rows = runbook.lines().filter(|line| line.starts_with('|') && line.contains(&name));
        assert_eq!(rows.count(), 1, "{name}");
    }
}

#[test]
fn each_reason_has_a_count_of_its_own_and_clones_count_together() {
    let refusals = Refusals::new();
    assert_eq!(refusals.counts(), BTreeMap::new());
    for (place, reason) in Reason::ALL.iter().enumerate() {
        for _ in 0..=place {
            refusals.clone().refuse(*reason, "nobody", "a test");
        }
    }
    for (place, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(refusals.count(*reason), u64::try_from(place).unwrap() + 1, "{reason:?}");
    }
    assert_eq!(refusals.counts().len(), Reason::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn the_first_refusal_is_told_at_once_and_the_others_once_a_minute() {
    let (refusals, log) = (Refusals::new(), Log::default());
    let _open = log.open();
    for _ in 0..1000 {
        refusals.refuse(Reason::Stranger, "192.0.2.1:5", "only members may ask this");
    }
    assert_eq!(log.lines().len(), 1);
    let first = &log.lines()[0];
    for part in
        ["WARN", "refused", "reason=\"stranger\"", "from=192.0.2.1:5", "only members", "count=1"]
    {
        assert!(first.contains(part), "{part}: {first}");
    }
    let last = Duration::from_millis(1);
    tokio::time::advance(PAUSE.saturating_sub(last)).await;
    refusals.refuse(Reason::Stranger, "192.0.2.1:5", "again");
    assert_eq!(log.lines().len(), 1);
    tokio::time::advance(last).await;
    refusals.refuse(Reason::Stranger, "192.0.2.1:5", "again");
    assert_eq!(log.lines().len(), 2);
    assert!(log.lines()[1].contains("count=1001"), "{}", log.lines()[1]);
    // Another reason does not wait for this one.
    refusals.refuse(Reason::Role, "192.0.2.1:5", "again");
    assert_eq!(log.lines().len(), 3);
    assert_eq!(refusals.count(Reason::Stranger), 1002);
}

#[tokio::test(start_paused = true)]
async fn nobody_writes_lines_of_their_own_into_the_log() {
    let (refusals, log) = (Refusals::new(), Log::default());
    let _open = log.open();
    let detail = format!("a\nINFO all is well\u{1b}[2J{}", "x".repeat(100_000));
    refusals.refuse(Reason::MessageMalformed, "somebody", detail);
    assert_eq!(log.lines().len(), 1);
    assert!(log.lines()[0].len() < 600 && !log.lines()[0].contains('\u{1b}'));
}
