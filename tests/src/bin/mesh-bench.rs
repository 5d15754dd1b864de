//! The benchmarks: what the mesh takes of a machine, and how quick it is, beside its peers. `tests/bench` runs it.

fn main() -> std::process::ExitCode {
    mesh_tests::bench::main()
}
