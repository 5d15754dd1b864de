//! Compose files to app specifications, with the place of every fault.
