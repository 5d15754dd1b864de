//! A large part of a mesh dies at once.

use std::io::{Result, Write};
use std::time::Instant;

use mesh_tests::sim::scenario::{Blow, mass};

use super::{Wish, complaint, gauge, millis, speed};

/// What is struck: the target first, then a tenth of meshes that grow.
const BLOWS: [Blow; 5] = [
    Blow { n_hosts: 100, n_slots: 600, n_lost: 30 },
    Blow { n_hosts: 30, n_slots: 300, n_lost: 3 },
    Blow { n_hosts: 100, n_slots: 1_000, n_lost: 10 },
    Blow { n_hosts: 300, n_slots: 3_000, n_lost: 30 },
    Blow { n_hosts: 1_000, n_slots: 10_000, n_lost: 100 },
];

/// The table for people.
pub(super) fn table(wish: &Wish, out: &mut impl Write) -> Result<()> {
    writeln!(out, "mass: many hosts without power at one moment; the image is everywhere; ms")?;
    writeln!(
        out,
        "nodes  slots  lost nodes, slots  ready: median, p99, all  not ready  starts per node: mean, max, max/mean  \
         at once: node, mesh  held twice  bytes/s/node: rest, trouble  computed: s, inputs/s"
    )?;
    for blow in BLOWS.into_iter().filter(|blow| wish.size(blow.n_hosts)) {
        let begun = Instant::now();
        let result = mass(0, blow, Some(gauge));
        let (seconds, inputs_per_second) = speed(begun, result.inputs);
        let sum = u32::try_from(result.starts.iter().sum::<u64>()).map_or(0.0, f64::from);
        let mean = sum / u32::try_from(result.starts.len()).map_or(1.0, f64::from);
        let max = result.starts.last().copied().unwrap_or(0);
        let ratio = u32::try_from(max).map_or(0.0, f64::from) / mean;
        writeln!(
            out,
            "{:>5} {:>6}  {:>10} {:>6}  {:>13} {:>4} {:>5}  {:>9}  {:>21.2} {:>4} {:>9.2}  {:>13} {:>5}  {:>10}  {:>18.0} {:>8.0}  {:>11.1} {:>9.0}",
            blow.n_hosts,
            blow.n_slots,
            blow.n_lost,
            result.n_lost_slots,
            millis(&result.times, 500),
            millis(&result.times, 990),
            millis(&result.times, 1_000),
            result.n_left,
            mean,
            max,
            ratio,
            result.starting_max_node,
            result.starting_max_mesh,
            result.n_doubled,
            result.at_rest.bytes,
            result.in_trouble.bytes,
            seconds,
            inputs_per_second,
        )?;
        if let Some(complaint) = complaint(0, result.violation) {
            writeln!(out, "       {complaint}")?;
        }
        out.flush()?;
    }
    Ok(())
}
