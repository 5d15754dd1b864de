//! Faults without end against services that must never run twice. `tests/nemesis` runs it.

fn main() -> std::process::ExitCode {
    mesh_tests::nemesis::main()
}
