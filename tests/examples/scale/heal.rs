//! A mesh falls into two halves for a minute and comes together again.

use std::io::{Result, Write};
use std::time::{Duration, Instant};

use mesh_tests::sim::scenario::heal;

use super::{Wish, complaint, gauge, millis};

/// Nodes, and meshes of this size.
const SIZES: [(usize, u64); 6] = [(3, 20), (10, 20), (30, 10), (100, 4), (300, 2), (1_000, 1)];

/// The table for people.
pub(super) fn table(wish: &Wish, out: &mut impl Write) -> Result<()> {
    writeln!(out, "heal: two halves for a minute, six slots; ms from when the ways are open")?;
    writeln!(
        out,
        "nodes  slots held twice  one claim each: median, max  all agree: median, max  \
         messages, bytes/s/node meanwhile  computed: s"
    )?;
    for (n_hosts, n_meshes) in SIZES.into_iter().filter(|size| wish.size(size.0)) {
        let begun = Instant::now();
        let (mut n_doubled, mut messages, mut bytes) = (0, 0.0_f64, 0.0_f64);
        let (mut one, mut agree, mut complaints) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..n_meshes {
            let healed = heal(seed, n_hosts, Some(gauge));
            n_doubled += healed.n_doubled;
            messages = messages.max(healed.sent.messages);
            bytes = bytes.max(healed.sent.bytes);
            one.push(healed.one_claim.unwrap_or(Duration::MAX));
            agree.push(healed.all_agree.unwrap_or(Duration::MAX));
            complaints.extend(complaint(seed, healed.violation));
        }
        one.sort_unstable();
        agree.sort_unstable();
        writeln!(
            out,
            "{n_hosts:>5}  {n_doubled:>16}  {:>22} {:>5}  {:>17} {:>5}  {messages:>14.2} {bytes:>17.0}  {:>11.1}",
            millis(&one, 500),
            millis(&one, 1_000),
            millis(&agree, 500),
            millis(&agree, 1_000),
            begun.elapsed().as_secs_f64(),
        )?;
        for complaint in complaints {
            writeln!(out, "       {complaint}")?;
        }
        out.flush()?;
    }
    Ok(())
}
