//! Prints how long a failover takes, and what it costs in messages, for meshes of several sizes. All times are virtual.
//!
//! `cargo run --release -p mesh-tests --example scale`; with `--json`, a line of JSON for each size; with numbers, those sizes.

use std::io::Write as _;
use std::time::{Duration, Instant};

use mesh_tests::sim::scenario::failovers;
use serde_json::json;

/// Nodes, meshes of this size, and losses of power in each.
const SIZES: [(usize, u64, usize); 5] =
    [(3, 20, 4), (10, 20, 4), (30, 10, 4), (100, 2, 6), (300, 1, 6)];

/// What came of one size.
#[derive(Debug, Clone, Default)]
struct Row {
    times: Vec<Duration>,
    messages_at_rest: f64,
    messages_in_trouble: f64,
    computed: Duration,
    violations: Vec<String>,
}

impl Row {
    fn of(n_hosts: usize, n_meshes: u64, n_losses: usize) -> Self {
        let begun = Instant::now();
        let mut row = Self::default();
        for seed in 0..n_meshes {
            let result = failovers(seed, n_hosts, n_losses);
            row.times.extend(result.times);
            row.messages_at_rest += result.messages_at_rest;
            row.messages_in_trouble += result.messages_in_trouble;
            let told = |one| format!("seed {seed}: {one:?}");
            row.violations.extend(result.violation.map(told));
        }
        row.times.sort_unstable();
        let meshes = f64::from(u32::try_from(n_meshes).unwrap_or(1));
        row.messages_at_rest /= meshes;
        row.messages_in_trouble /= meshes;
        row.computed = begun.elapsed();
        row
    }

    fn millis(&self, permille: usize) -> u128 {
        let last = self.times.len().saturating_sub(1);
        let at = (self.times.len() * permille / 1_000).min(last);
        self.times.get(at).map_or(0, Duration::as_millis)
    }
}

fn main() -> std::io::Result<()> {
    let as_json = std::env::args().any(|word| word == "--json");
    let mut out = std::io::stdout().lock();
    if !as_json {
        writeln!(
            out,
            "host without power -> ready elsewhere (image there, start of 50 to 150 ms)"
        )?;
        writeln!(
            out,
            "nodes  slots     min  median     p99     max  messages/s/node at rest, in trouble"
        )?;
    }
    let wanted: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let is_wanted = |size: &(usize, u64, usize)| wanted.is_empty() || wanted.contains(&size.0);
    for (n_hosts, n_meshes, n_losses) in SIZES.into_iter().filter(is_wanted) {
        let row = Row::of(n_hosts, n_meshes, n_losses);
        if as_json {
            let times: Vec<u128> = row.times.iter().map(Duration::as_micros).collect();
            let shown = json!({
                "nodes": n_hosts,
                "times_us": times,
                "messages_at_rest": row.messages_at_rest,
                "messages_in_trouble": row.messages_in_trouble,
                "seconds": row.computed.as_secs_f64(),
                "violations": row.violations,
            });
            writeln!(out, "{shown}")?;
        } else {
            writeln!(
                out,
                "{n_hosts:>5}  {:>5}  {:>6}  {:>6}  {:>6}  {:>6}  {:.2}, {:.2}",
                row.times.len(),
                row.millis(0),
                row.millis(500),
                row.millis(990),
                row.millis(1_000),
                row.messages_at_rest,
                row.messages_in_trouble,
            )?;
            for violation in &row.violations {
                writeln!(out, "       {violation}")?;
            }
        }
        out.flush()?;
    }
    Ok(())
}
