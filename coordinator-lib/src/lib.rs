//! Decides what runs where: pure functions and state machines, no clock, no sockets, no files.
//!
//! Everything that the mesh decides is decided here, from values: the wall between this crate and the world is what lets the
//! simulator run thousands of nodes through years of bad days in seconds. A run is a function of its inputs (invariant I1).
//!
//! Start reading at [`spec`] (what an app is), [`catalogue`] (what operators want) and [`fact`] (what nodes say); then the
//! machines that put them together.

pub mod catalogue;
pub mod clocks;
pub mod event;
pub mod fact;
pub mod id;
pub mod lease;
pub mod membership;
pub mod message;
pub mod name;
pub mod node;
pub mod placement;
pub mod prng;
pub mod rules;
pub mod spec;
pub mod time;
pub mod view;
pub mod workload;
