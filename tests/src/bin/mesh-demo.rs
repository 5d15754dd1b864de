//! The demonstration of a mesh on one machine. `deploy/demo` runs it.

fn main() -> std::process::ExitCode {
    mesh_tests::demo::main()
}
