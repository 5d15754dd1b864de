//! Ranks are the same everywhere and move little.
