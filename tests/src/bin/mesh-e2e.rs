//! The end to end tests: real agents and containers on hosts that are network namespaces. `tests/e2e` runs it.

fn main() -> std::process::ExitCode {
    mesh_tests::e2e::main()
}
