//! Prints how long a failover takes, and what it costs in messages, for meshes of several sizes. All times are virtual.
//!
//! `cargo run --release -p mesh-tests --example scale`

use std::io::Write as _;
use std::time::Duration;

use mesh_tests::sim::scenario::failovers;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "host without power -> ready elsewhere (image there, start of 50 to 150 ms)")?;
    writeln!(
        out,
        "nodes  slots     min  median     p99     max  messages/s/node at rest, in trouble"
    )?;
    for (n_hosts, n_meshes) in [(3, 20), (10, 20), (30, 10), (100, 2), (300, 1)] {
        let (mut times, mut at_rest, mut in_trouble) = (Vec::new(), 0.0, 0.0);
        for seed in 0..n_meshes {
            let result = failovers(seed, n_hosts, 4);
            times.extend(result.times);
            at_rest += result.messages_at_rest;
            in_trouble += result.messages_in_trouble;
        }
        times.sort_unstable();
        let share =
            |permille: usize| times.get((times.len() * permille / 1_000).min(times.len() - 1));
        let millis = |permille| share(permille).map_or(0, Duration::as_millis);
        let meshes = f64::from(u32::try_from(n_meshes).unwrap_or(1));
        writeln!(
            out,
            "{n_hosts:>5}  {:>5}  {:>6}  {:>6}  {:>6}  {:>6}  {:.2}, {:.2}",
            times.len(),
            millis(0),
            millis(500),
            millis(990),
            millis(1_000),
            at_rest / meshes,
            in_trouble / meshes
        )?;
    }
    Ok(())
}
