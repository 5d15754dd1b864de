//! Exclusive slots: what their leases cost at rest, and how long a slot is down when its holder dies.

use std::io::{Result, Write};
use std::time::{Duration, Instant};

use mesh_tests::sim::scenario::leases;

use super::{Wish, complaint, gauge, millis};

/// Nodes, slots, and losses of power.
const SIZES: [(usize, u32, usize); 6] =
    [(3, 30, 4), (10, 100, 4), (30, 300, 4), (100, 1_000, 3), (300, 1_000, 3), (1_000, 1_000, 3)];
/// How long a lease lasts, in seconds.
const TTLS: [u64; 3] = [6, 12, 30];

/// The table for people.
pub(super) fn table(wish: &Wish, out: &mut impl Write) -> Result<()> {
    writeln!(out, "leases: exclusive slots, a holder without power; ms")?;
    writeln!(
        out,
        "nodes  slots   held  ttl s  ready elsewhere: median, max  \
         lease messages, bytes/s/node at rest  all bytes/s/node  computed: s"
    )?;
    for (n_hosts, n_slots, n_losses) in SIZES.into_iter().filter(|size| wish.size(size.0)) {
        for ttl in TTLS {
            let begun = Instant::now();
            let slots = (n_slots, Duration::from_secs(ttl));
            let result = leases(0, n_hosts, slots, n_losses, Some(gauge));
            writeln!(
                out,
                "{n_hosts:>5} {n_slots:>6} {:>6} {ttl:>6}  {:>23} {:>5}  {:>21.2} {:>13.0}  {:>16.0}  {:>11.1}",
                result.n_held,
                millis(&result.times, 500),
                millis(&result.times, 1_000),
                result.at_rest.messages,
                result.at_rest.bytes,
                result.all_at_rest.bytes,
                begun.elapsed().as_secs_f64(),
            )?;
            if let Some(complaint) = complaint(0, result.violation) {
                writeln!(out, "       {complaint}")?;
            }
            out.flush()?;
        }
    }
    Ok(())
}
