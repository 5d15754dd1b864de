//! The configuration file: where it is, what is wrong with it in words, and the lines that one operator sends to another.

use std::path::PathBuf;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{MeshId, PublicKey};
use mesh_coordinator::name::{MeshName, OperatorName};
use mesh_identity::operator::{self, ContextError, KnownAgent};
use mesh_identity::pin::Pin;

use crate::cli::Global;
use crate::failure::Failure;
use crate::target;

/// Where it is.
pub(crate) fn path(global: &Global) -> Result<PathBuf, Failure> {
    global.config.clone().or_else(operator::default_path).ok_or_else(|| {
        Failure::usage(
            "there is no home directory to look for the configuration file in",
            "agentctl --config FILE …",
        )
    })
}

/// The address of an agent, as it is typed.
pub(crate) fn address(text: &str) -> Result<String, String> {
    operator::parse_address(text).map_err(|fault| fault.reason)
}

/// Why it cannot be used, and what to type next.
pub(crate) fn unusable(error: ContextError) -> Failure {
    let cause =
        std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
    let text = format!("{error}{cause}");
    match error {
        ContextError::Unknown { asked, known } => {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let text = format!("{text}: {}", target::hint(&asked, &names));
            Failure::usage(text, "agentctl context ls")
        }
        ContextError::NoneCurrent => {
            Failure::usage(text, "agentctl context use NAME; agentctl context ls shows them")
        }
        ContextError::Missing { .. } | ContextError::Empty => {
            Failure::usage(text, "agentctl login --help")
        }
        ContextError::Taken(_) => Failure::usage(text, "agentctl context ls"),
        ContextError::File(_) | ContextError::Syntax { .. } | ContextError::Value { .. } => {
            Failure::usage(text, "mend this, or name another file")
        }
    }
}

/// Where a pin comes from.
pub(crate) const WHOLE_LINE: &str =
    "ask an admin for the whole line: agentctl operator add and agentctl context show print it";

/// A pin, as it is typed.
pub(crate) fn pin(text: &str) -> Result<Pin, Failure> {
    Pin::parse(text).map_err(|error| Failure::usage(format!("--pin: {error}"), WHOLE_LINE))
}

/// What an admin types to let an operator in.
pub(crate) fn admission(name: &OperatorName, role: Role, key: &PublicKey) -> String {
    format!("agentctl operator add {name} --role {role} --key {key}")
}

/// What an operator types to find a mesh, beginning at one of its agents. It holds no secret.
pub(crate) fn way(mesh: MeshId, mesh_name: &MeshName, agent: &KnownAgent) -> String {
    let pin = Pin { mesh, mesh_name: mesh_name.clone(), agent: agent.key };
    format!("agentctl login {} --pin {}", agent.address, pin.to_text())
}
