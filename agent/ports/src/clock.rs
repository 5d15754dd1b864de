//! What time it is: for stamps, for people and for what ends at some hour; and for leases.

use mesh_coordinator::lease::exclusive::BootId;
use mesh_coordinator::time::{Reading, WallTime};

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

/// The two steady clocks of this host, by which leases end. Nobody sets them, and they begin anew with each boot.
pub trait LeaseClock: Send + Sync + 'static {
    /// What they show now.
    fn reading(&self) -> Reading;
    /// Of which boot their time is.
    fn boot(&self) -> BootId;
}
