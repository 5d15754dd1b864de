//! What gossip costs and how quick it is, and how failover fares in large meshes of the simulator: examples print both.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mesh_coordinator::catalogue::gossip_interval;
use serde_json::Value;

use super::example;
use super::load::Watch;
use super::report::{Report, Table, say};
use super::sample::{Sample, millis};

/// How many nodes.
const SIZES: [usize; 3] = [3, 30, 100];
/// Claims of each node.
const FACTS: u32 = 10;
/// How long bytes are counted.
const SECONDS: u32 = 20;
/// How many changes are followed.
const CHANGES: u32 = 20;
/// The target, which the mesh's pauses are chosen for.
const BYTES_MAX: f64 = 50_000.0;

/// The heads of the table.
const HEADS: [&str; 8] = [
    "nodes",
    "round ms",
    "bytes/s/node",
    "packets/s/node",
    "change everywhere ms: median",
    "max",
    "newcomer knows all ms",
    "all know it ms",
];

/// Measures gossip.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    report.heading(&format!(
        "gossip: {FACTS} claims on each node, one process, sealed packets on the loopback interface"
    ));
    let watch = Watch::start();
    let mut table = Table::new(&HEADS);
    let mut verdicts = Vec::new();
    let measured = SIZES.iter().try_for_each(|nodes| {
        let (cells, bytes) = size(*nodes)?;
        table.row(cells);
        verdicts.push((nodes, bytes));
        Ok(())
    });
    table.print();
    for (nodes, bytes) in verdicts {
        let what = format!("bytes per second and node, {nodes} nodes");
        report.target(&what, &format!("{bytes:.0}"), "<= 50000", bytes <= BYTES_MAX);
    }
    say(&format!("   {}", watch.told()));
    measured
}

/// The cells of one size, and the bytes that each node sends in a second.
fn size(nodes: usize) -> Result<([String; 8], f64)> {
    let interval = millis(gossip_interval(nodes));
    let [facts, seconds, changes] = [FACTS, SECONDS, CHANGES].map(|number| number.to_string());
    let args = [nodes.to_string(), facts, interval.clone(), seconds, changes];
    let printed: Value = serde_json::from_str(&example::run("gossip", &args)?)?;
    let number = |key: &str| printed.get(key).and_then(Value::as_f64).context("no figure");
    let time = |key: &str| number(key).map(|us| millis(Duration::from_secs_f64(us / 1e6)));
    let changes = printed.get("changes_us").and_then(Value::as_array).context("no changes")?;
    let changes: Sample =
        changes.iter().filter_map(Value::as_u64).map(Duration::from_micros).collect();
    let bytes = number("bytes_per_second")?;
    let cells = [
        nodes.to_string(),
        interval,
        format!("{bytes:.0}"),
        format!("{:.1}", number("packets_per_second")?),
        millis(changes.median()),
        millis(changes.max()),
        time("newcomer_knows_us")?,
        time("newcomer_is_known_us")?,
    ];
    Ok((cells, bytes))
}
