//! Where the time of a failover goes.

use std::time::Duration;

use crate::bench::report::Table;
use crate::bench::sample::{HEADS, Sample, millis};

/// The steps of one failover, each as the time since the host was lost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Steps {
    /// The new holder believes the node down and claims.
    pub(super) claimed: Duration,
    /// Nobody objected.
    pub(super) agreed: Duration,
    /// The replacement's process began.
    pub(super) started: Duration,
    /// A client that asks all the time has its first answer.
    pub(super) answered: Duration,
    /// The replacement was ready.
    pub(super) ready: Duration,
}

impl Steps {
    /// Takes what the new holder decided.
    pub(super) fn decided(&mut self, decisions: &[(Duration, String)]) {
        let at = |text: &str| {
            let found = decisions.iter().find(|(_, decided)| decided.starts_with(text));
            found.map(|(at, _)| *at).unwrap_or_default()
        };
        self.claimed = at("claims");
        self.agreed = at("starts");
        self.ready = at("ready");
    }
}

/// Prints how long each step took.
pub(super) fn show(all: &[Steps]) {
    let step = |from: fn(&Steps) -> Duration, to: fn(&Steps) -> Duration| -> Sample {
        all.iter().map(|steps| to(steps).saturating_sub(from(steps))).collect()
    };
    let mut table = Table::new(&[&["ms of"], HEADS.as_slice()].concat());
    for (what, sample) in [
        ("detection: lost -> believed down, claimed", step(|_| Duration::ZERO, |one| one.claimed)),
        ("agreement: claimed -> nobody objects", step(|one| one.claimed, |one| one.agreed)),
        ("container: nobody objects -> its process", step(|one| one.agreed, |one| one.started)),
        ("app: process -> ready", step(|one| one.started, |one| one.ready)),
        ("client: ready -> its answer", step(|one| one.ready, |one| one.answered)),
        ("all: lost -> a client has its answer", step(|_| Duration::ZERO, |one| one.answered)),
    ] {
        table.row([vec![what.to_owned()], sample.cells(millis)].concat());
    }
    table.print();
}
