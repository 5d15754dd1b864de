//! A mesh in memory.
