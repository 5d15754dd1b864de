//! Failover in meshes of 3 to 300 nodes, in the simulator: it must not grow with the mesh.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::example;
use super::report::{Report, Table};
use super::sample::{HEADS, Sample, millis, ratio};

/// The target: the median of the largest mesh beside that of the smallest.
const FLAT: f64 = 1.25;

/// Measures it.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    report.heading("scale: power off in the simulator, virtual ms until ready elsewhere");
    let printed = example::run("scale", &["--json".to_owned()])?;
    let mut table = Table::new(
        &[
            &["nodes"],
            HEADS.as_slice(),
            &["messages/s/node at rest", "in trouble", "computed in s"],
        ]
        .concat(),
    );
    let (mut medians, mut violations) = (Vec::new(), Vec::new());
    for line in printed.lines() {
        let row: Value = serde_json::from_str(line)?;
        let number = |key: &str| row.get(key).and_then(Value::as_f64).context("no figure");
        let times = row.get("times_us").and_then(Value::as_array).context("no times")?;
        let times: Sample =
            times.iter().filter_map(Value::as_u64).map(Duration::from_micros).collect();
        let mut cells = vec![format!("{:.0}", number("nodes")?)];
        cells.extend(times.cells(millis));
        for key in ["messages_at_rest", "messages_in_trouble", "seconds"] {
            cells.push(format!("{:.2}", number(key)?));
        }
        table.row(cells);
        medians.push(times);
        let nodes = number("nodes")?;
        let found = row.get("violations").and_then(Value::as_array).into_iter().flatten();
        violations.extend(found.map(|one| format!("{nodes:.0} nodes: {one}")));
    }
    table.print();
    ensure!(!medians.is_empty(), "the simulator told nothing");
    if let (Some(small), Some(large)) = (medians.first(), medians.last())
        && let Some(ratio) = ratio(large, small)
    {
        let what = "largest / smallest mesh, medians";
        report.target(what, &format!("{ratio:.2}"), "<= 1.25", ratio <= FLAT);
    }
    ensure!(violations.is_empty(), "a check of the simulator failed: {}", violations.join("; "));
    Ok(())
}
