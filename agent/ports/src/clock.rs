//! What time it is, for stamps, for people, and for what ends at some hour.

use mesh_coordinator::time::WallTime;

/// The wall clock of one agent, and what the mesh makes of it.
pub trait WallClock: Send + Sync + 'static {
    /// What this host's clock says. It may be arbitrarily wrong.
    fn own(&self) -> WallTime;
    /// The time of the mesh: what most nodes' clocks say.
    fn mesh(&self) -> WallTime;
    /// How far the clock that stamps what containers print is ahead of the mesh's, in milliseconds; behind when negative. Changes
    /// only when the mesh has found another difference, so that what follows a log neither loses lines nor repeats them.
    fn logs_off_ms(&self) -> i64;
}
