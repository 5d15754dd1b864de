//! Logs, counters and named tasks.
//!
//! [`Tasks`] is the only way to spawn in this project: every task has a name, is waited for at the end, and its early end can
//! stop its group (invariant I7). [`logs`] sets up what the binaries print. [`Refusals`] counts what was asked for and refused.

pub mod logs;
mod refusals;
mod tasks;

pub use self::refusals::{Reason, Refusals};
pub use self::tasks::{Chain, Tasks};
