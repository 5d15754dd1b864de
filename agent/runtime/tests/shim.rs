//! The shim by itself: what the daemon does for `agent shim <dir>`, for the tests of the driver.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(dir) => mesh_runtime::shim_main(Path::new(&dir)),
        None => ExitCode::from(64),
    }
}
