//! How much one author may write: the catalogue is held in the memory and on the disk of every node.
//!
//! Two bounds, as for generations:
//!
//! * What an author's records may cost at most, asked by everybody whenever sets are merged: of each author those records stay that
//!   come first in the order of their keys. What stays of a union depends on the union alone, so it does not matter who heard of
//!   what first. And only the author's own records can be pushed out, by whoever holds the author's key and could as well
//!   replace each of them.
//! * Half of that, asked only of what somebody hands in, by the agent that takes it, which says so. Two sides of a split may each
//!   fill it before anything is lost.

use super::record::{Body, Entry};

/// What keeping a record costs beyond its bytes: its decoded form and its places in the indexes.
const OVERHEAD: usize = 512;
/// What a record costs that says who is an operator: each of them makes the chain of authority longer, which everybody walks at
/// every change of it. At this price an author can write two thousand.
const AUTHORITY_OVERHEAD: usize = 16 << 10;

/// What the records of one author may cost: a few thousand apps, or ten times as many small records.
pub(super) const AUTHOR_COST_MAX: usize = 32 << 20;
/// Up to which cost records of an author are taken when they are handed in.
pub(super) const AUTHOR_SUBMIT_MAX: usize = AUTHOR_COST_MAX / 2;
/// Up to which cost of all records more are taken.
pub(super) const TOTAL_SUBMIT_MAX: usize = 128 << 20;

/// What it costs everybody to keep `entry`.
pub(super) const fn cost(entry: &Entry) -> usize {
    let overhead = match entry.record.body {
        Body::Genesis(_) => 0,
        Body::Recovery(_) | Body::Operator(_) | Body::OperatorRemoval(_) => AUTHORITY_OVERHEAD,
        Body::Settings(_)
        | Body::Invitation(_)
        | Body::Member(_)
        | Body::MemberRemoval { .. }
        | Body::Address(_)
        | Body::Labels(_)
        | Body::Drain(_)
        | Body::App(_)
        | Body::AppRemoval { .. }
        | Body::Scale(_)
        | Body::SlotReset(_)
        | Body::Restart(_)
        | Body::Run(_)
        | Body::Image { .. } => OVERHEAD,
    };
    overhead.saturating_add(entry.signed.bytes.len())
}

#[cfg(test)]
mod tests;
