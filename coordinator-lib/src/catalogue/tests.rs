//! Records merge in any order, and only what an author had the right to write counts.
