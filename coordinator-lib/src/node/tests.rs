//! The parts of a node play together.
