//! agentctl.
fn main() {}
