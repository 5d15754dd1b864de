//! Simulator, end to end tests on real hosts, benchmarks, and tests of the source itself.

pub mod bench;
pub mod demo;
pub mod e2e;
pub mod lab;
pub mod nemesis;
pub mod sim;
pub mod walk;
