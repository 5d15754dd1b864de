//! What this host lacks, before anything starts.

use std::process::ExitCode;

use anyhow::bail;
use mesh_runtime::doctor::{self, Need};

use crate::assembly;
use crate::config::Config;

/// `agent check`.
#[expect(clippy::print_stdout, reason = "the answer to the person who asked")]
pub(crate) fn report(config: &Config) -> ExitCode {
    let needs = needs(config);
    let name = mesh_coordinator::id::NodeId::from_bytes([0; 10]);
    println!("leases: {}", doctor::fence(&assembly::driver_config(config, name)));
    if needs.is_empty() {
        println!("This host has all that containers need.");
        return ExitCode::SUCCESS;
    }
    for need in needs {
        println!("missing: {}\n  without it: {}\n  remedy: {}", need.what, need.why, need.remedy);
    }
    ExitCode::FAILURE
}

/// Refuses to start where containers cannot run.
pub(crate) fn demand(config: &Config) -> anyhow::Result<()> {
    let needs = needs(config);
    if needs.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = needs
        .iter()
        .map(|need| format!("  {} ({}): {}", need.what, need.why, need.remedy))
        .collect();
    bail!("this host cannot run containers; it lacks\n{}", lines.join("\n"))
}

fn needs(config: &Config) -> Vec<Need> {
    let name = mesh_coordinator::id::NodeId::from_bytes([0; 10]);
    let mut needs = doctor::examine(&assembly::driver_config(config, name));
    let taken = std::net::TcpListener::bind(config.listen).err();
    if let Some(error) = taken {
        needs.push(Need {
            what: format!("the address {} ({error})", config.listen),
            why: "the other agents and agentctl reach this one there",
            remedy: "stop what listens there, or change the setting `listen`",
        });
    }
    // Certificates have no dates here; the clock only orders concurrent edits and is shown. A year before this program cannot be.
    let clock = mesh_engine::Clock::new(config.wall_clock_offset_ms);
    if clock.wall().0 < 1_700_000_000_000 {
        needs.push(Need {
            what: "a wall clock that is set".to_owned(),
            why: "tokens expire by it, and logs name its time",
            remedy: "start a time service such as systemd-timesyncd or chrony",
        });
    }
    needs
}
