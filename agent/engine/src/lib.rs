//! Drives the coordinator: one task that owns its state, with clocks and channels around it.
