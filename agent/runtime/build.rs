//! Makes the program in which shims wait, from one file with its modules and the standard library; see `src/shim/keeper.rs`.
//!
//! Not at an address of the loader's choice: relocating a program costs each process of it memory of its own. The program reads
//! two pipes and nothing else, and the agent, which the world can reach, stays as it is.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::hash::Hasher as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "src/shim/keeper.rs";

/// What belongs to it.
const MODULES: &str = "src/shim/keeper";

fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("{name} is not set"));
    let program = PathBuf::from(variable("OUT_DIR")?).join("keeper");
    let mut rustc = Command::new(variable("RUSTC")?);
    // What is set for the whole build, such as a linker, and then what this program needs.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    rustc.args(["--edition=2024", "--crate-type=bin", "--crate-name=keeper", "--cap-lints=allow"]);
    rustc.args(["--cfg=keeper", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols"]);
    rustc.args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"]);
    rustc.arg("--target").arg(variable("TARGET")?).arg("-o").arg(&program).arg(SOURCE);
    let status = rustc.status()?;
    if !status.success() {
        return Err(format!("{rustc:?}: {status}").into());
    }
    let mut digest = DefaultHasher::new();
    digest.write(&std::fs::read(&program)?);
    let mut cargo = io::stdout().lock();
    writeln!(cargo, "cargo::rustc-env=KEEPER_DIGEST={:016x}", digest.finish())?;
    writeln!(cargo, "cargo::rustc-check-cfg=cfg(keeper)")?;
    writeln!(cargo, "cargo::rerun-if-changed={SOURCE}")?;
    writeln!(cargo, "cargo::rerun-if-changed={MODULES}")?;
    writeln!(cargo, "cargo::rerun-if-changed=build.rs")?;
    writeln!(cargo, "cargo::rerun-if-env-changed=RUSTC_LINKER")?;
    Ok(())
}
