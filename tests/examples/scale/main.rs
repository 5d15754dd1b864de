//! Prints how meshes of many sizes take losses, and what it costs in messages and bytes. All times are virtual.
//!
//! `cargo run --release -p mesh-tests --example scale` prints all tables; with the names of tables (`losses`, `heal`, `mass`, `leases`),
//! those; with numbers, meshes of those sizes. With `--json`, a line of JSON for each size of `losses` and nothing else.
//!
//! Bytes are those of the protobuf that agents send each other, with what carries it; gossip is not among them, since the simulator has
//! none that could be weighed: `tests/bench gossip` does that with real sockets.

mod heal;
mod leases;
mod losses;
mod mass;

use std::time::{Duration, Instant};

use mesh_coordinator::message::Message;
use mesh_tests::sim::Violation;

/// What gRPC, HTTP/2 and TLS add to a message that leaves by itself: 5, 9 and 22 bytes.
const FRAME: u64 = 36;

/// How many bytes a message has on the wire.
fn gauge(message: &Message) -> u64 {
    u64::try_from(mesh_api::message_len(message)).unwrap_or(u64::MAX).saturating_add(FRAME)
}

/// How many bytes a heartbeat has on the wire.
fn beat_len() -> f64 {
    let length = u64::try_from(mesh_api::beat_len(env!("CARGO_PKG_VERSION"))).unwrap_or(0);
    u32::try_from(length.saturating_add(FRAME)).map_or(0.0, f64::from)
}

/// The value below which so many thousandths of a sorted sample are, in milliseconds.
fn millis(times: &[Duration], permille: usize) -> u128 {
    let last = times.len().saturating_sub(1);
    let at = (times.len() * permille / 1_000).min(last);
    times.get(at).map_or(0, Duration::as_millis)
}

/// How quickly something was computed: seconds, and inputs of nodes per second.
fn speed(begun: Instant, inputs: u64) -> (f64, f64) {
    let seconds = begun.elapsed().as_secs_f64();
    let inputs = u32::try_from(inputs).map_or(f64::INFINITY, f64::from);
    (seconds, inputs / seconds)
}

/// What people have to know of a run in which a check failed.
fn complaint(seed: u64, violation: Option<Violation>) -> Option<String> {
    violation.map(|it| format!("seed {seed}: {it:?}"))
}

/// A table that was asked for, of the sizes that were asked for.
#[derive(Debug)]
struct Wish {
    tables: Vec<String>,
    sizes: Vec<usize>,
}

impl Wish {
    fn read() -> Self {
        let words = || std::env::args().skip(1).filter(|word| !word.starts_with('-'));
        let sizes = words().filter_map(|word| word.parse().ok()).collect();
        let tables = words().filter(|word| word.parse::<usize>().is_err()).collect();
        Self { tables, sizes }
    }

    fn wants(&self, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|it| it == table)
    }

    fn size(&self, n_hosts: usize) -> bool {
        self.sizes.is_empty() || self.sizes.contains(&n_hosts)
    }
}

fn main() -> std::io::Result<()> {
    let wish = Wish::read();
    let mut out = std::io::stdout().lock();
    if std::env::args().any(|word| word == "--json") {
        return losses::json(&wish, &mut out);
    }
    if wish.wants("losses") {
        losses::table(&wish, &mut out)?;
    }
    if wish.wants("heal") {
        heal::table(&wish, &mut out)?;
    }
    if wish.wants("mass") {
        mass::table(&wish, &mut out)?;
    }
    if wish.wants("leases") {
        leases::table(&wish, &mut out)?;
    }
    Ok(())
}
