//! What an exclusive service gets. What is wrong with one is in the broken manifests.

use std::time::Duration;

use mesh_coordinator::spec::{Guarantee, Mode};

use super::guarantee;
use crate::report::Report;
use crate::walk::At;
use crate::{deploy, tree};

/// What the text under `x-mesh` promises; `None` also when something is wrong with it.
fn read(text: &str) -> Option<Guarantee> {
    let mut report = Report::new("compose.yaml", text);
    let root = tree::build(text, &|_| None, &mut report)?;
    let mut table = At::root(&root).table(&mut report)?;
    let mut deploy = deploy::default();
    deploy.mode = Mode::Replicated(1);
    let found = guarantee(&mut table, &deploy, &mut report);
    table.finish(&[], &mut report);
    let clean = report.finish(Some(())).is_ok();
    found.filter(|_| clean).map(|(guarantee, _)| guarantee)
}

#[test]
fn a_lease_has_the_time_that_is_written_or_that_its_profile_has() {
    let cases = [
        ("guarantee: exclusive", 12_000),
        ("{guarantee: exclusive, lease: {ttl: 6s}}", 6_000),
        ("{guarantee: exclusive, lease: {ttl: 7500ms}}", 7_500),
        ("{guarantee: exclusive, lease: {ttl: 5m}}", 300_000),
        ("{guarantee: exclusive, lease: {profile: lan-fast}}", 6_000),
        ("{guarantee: exclusive, lease: {profile: default}}", 12_000),
        ("{guarantee: exclusive, lease: {profile: wan}}", 30_000),
    ];
    for (text, ms) in cases {
        let ttl = Duration::from_millis(ms);
        assert_eq!(read(text), Some(Guarantee::Exclusive { ttl }), "{text}");
    }
    assert_eq!(read("guarantee: available"), Some(Guarantee::Available));
    assert_eq!(read("{}"), None);
}
