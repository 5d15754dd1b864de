//! One host after the other loses power: who notices when, when its slots are ready elsewhere, and what is sent.

use std::io::{Result, Write};
use std::time::{Duration, Instant};

use mesh_tests::sim::scenario::{Failovers, failovers};
use serde_json::json;

use super::{Wish, beat_len, complaint, gauge, millis, speed};

/// Nodes, meshes of this size, and losses of power in each.
const SIZES: [(usize, u64, usize); 6] =
    [(3, 20, 4), (10, 20, 4), (30, 10, 4), (100, 2, 6), (300, 1, 6), (1_000, 1, 6)];

/// What came of one size.
#[derive(Debug, Clone, Default)]
struct Row {
    times: Vec<Duration>,
    noticed: Vec<Duration>,
    noticed_by_all: Vec<Duration>,
    messages_at_rest: f64,
    messages_in_trouble: f64,
    /// Without heartbeats.
    bytes_at_rest: f64,
    bytes_in_trouble: f64,
    beats: f64,
    seconds: f64,
    inputs_per_second: f64,
    violations: Vec<String>,
}

impl Row {
    fn of((n_hosts, n_meshes, n_losses): (usize, u64, usize)) -> Self {
        let begun = Instant::now();
        let (mut row, mut inputs) = (Self::default(), 0);
        for seed in 0..n_meshes {
            let result = failovers(seed, n_hosts, n_losses, Some(gauge));
            inputs += result.inputs;
            row.add(seed, result);
        }
        for sample in [&mut row.times, &mut row.noticed, &mut row.noticed_by_all] {
            sample.sort_unstable();
        }
        let meshes = f64::from(u32::try_from(n_meshes).unwrap_or(1));
        for sum in [
            &mut row.messages_at_rest,
            &mut row.messages_in_trouble,
            &mut row.bytes_at_rest,
            &mut row.bytes_in_trouble,
            &mut row.beats,
        ] {
            *sum /= meshes;
        }
        (row.seconds, row.inputs_per_second) = speed(begun, inputs);
        row
    }

    fn add(&mut self, seed: u64, result: Failovers) {
        self.times.extend(result.times);
        self.noticed.extend(result.noticed);
        self.noticed_by_all.extend(result.noticed_by_all);
        self.messages_at_rest += result.at_rest.messages;
        self.messages_in_trouble += result.in_trouble.messages;
        self.bytes_at_rest += result.at_rest.bytes;
        self.bytes_in_trouble += result.in_trouble.bytes;
        self.beats += result.beats;
        self.violations.extend(complaint(seed, result.violation));
    }
}

/// A line of JSON for each size.
pub(super) fn json(wish: &Wish, out: &mut impl Write) -> Result<()> {
    let micros = |times: &[Duration]| times.iter().map(Duration::as_micros).collect::<Vec<_>>();
    for size in SIZES.into_iter().filter(|size| wish.size(size.0)) {
        let row = Row::of(size);
        let shown = json!({
            "nodes": size.0,
            "times_us": micros(&row.times),
            "noticed_us": micros(&row.noticed),
            "noticed_by_all_us": micros(&row.noticed_by_all),
            "messages_at_rest": row.messages_at_rest,
            "messages_in_trouble": row.messages_in_trouble,
            "bytes_at_rest": row.bytes_at_rest,
            "bytes_in_trouble": row.bytes_in_trouble,
            "beat_bytes": row.beats * beat_len(),
            "seconds": row.seconds,
            "inputs_per_second": row.inputs_per_second,
            "violations": row.violations,
        });
        writeln!(out, "{shown}")?;
        out.flush()?;
    }
    Ok(())
}

/// The table for people.
pub(super) fn table(wish: &Wish, out: &mut impl Write) -> Result<()> {
    writeln!(out, "losses: a host without power, six slots; ms; bytes without gossip")?;
    writeln!(
        out,
        "nodes  first notices  all notice: median, max  ready elsewhere: median, p99, max  \
         messages/s/node: rest, trouble  bytes/s/node: heartbeats, rest, trouble  computed: s, inputs/s"
    )?;
    for size in SIZES.into_iter().filter(|size| wish.size(size.0)) {
        let row = Row::of(size);
        writeln!(
            out,
            "{:>5}  {:>13}  {:>11} {:>11}  {:>23} {:>4} {:>5}  {:>23.2} {:>7.2}  {:>24.0} {:>5.0} {:>8.0}  {:>11.1} {:>9.0}",
            size.0,
            millis(&row.noticed, 500),
            millis(&row.noticed_by_all, 500),
            millis(&row.noticed_by_all, 1_000),
            millis(&row.times, 500),
            millis(&row.times, 990),
            millis(&row.times, 1_000),
            row.messages_at_rest,
            row.messages_in_trouble,
            row.beats * beat_len(),
            row.bytes_at_rest,
            row.bytes_in_trouble,
            row.seconds,
            row.inputs_per_second,
        )?;
        for violation in &row.violations {
            writeln!(out, "       {violation}")?;
        }
        out.flush()?;
    }
    Ok(())
}
