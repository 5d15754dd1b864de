//! Simulator, end to end tests on real hosts, benchmarks, and tests of the source itself.
