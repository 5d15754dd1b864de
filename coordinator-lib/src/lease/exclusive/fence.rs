//! What a guard is told of a lease.

use super::register::Token;
use crate::time::Reading;

/// When whatever runs by a lease ends, if nobody says better: the guard goes by it, with the agent dead or alive (H6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Of which lease.
    pub token: Token,
    /// SIGTERM when either clock is past it.
    pub stop: Reading,
    /// SIGKILL likewise.
    pub kill: Reading,
}
