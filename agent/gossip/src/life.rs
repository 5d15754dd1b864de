//! The number of an agent's life.

use mesh_coordinator::id::Incarnation;

/// The incarnation for the next life: above the last one on disk, and above every one that a lost disk could have held.
///
/// The clock alone would repeat a number when it is set back; the disk alone would begin again when it is lost. The daemon writes
/// the result to disk, synced, before gossip may use it: a life that peers have seen and this node has forgotten would make it
/// adopt its own old claims from them.
#[must_use]
pub fn next_incarnation(persisted: Option<Incarnation>, unix_ms: u64) -> Incarnation {
    let after = persisted.map_or(0, |last| last.0.saturating_add(1));
    Incarnation(after.max(unix_ms))
}

#[cfg(test)]
mod tests {
    //! Lives only rise.

    use mesh_coordinator::id::Incarnation;

    use super::next_incarnation;

    #[test]
    fn a_clock_set_back_does_not_lower_the_incarnation() {
        assert_eq!(next_incarnation(Some(Incarnation(5_000)), 4_000), Incarnation(5_001));
    }

    #[test]
    fn a_lost_disk_is_covered_by_the_clock() {
        assert_eq!(next_incarnation(None, 4_000), Incarnation(4_000));
        assert_eq!(next_incarnation(Some(Incarnation(3_000)), 4_000), Incarnation(4_000));
    }
}
