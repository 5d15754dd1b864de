//! Operators' signed requests: what the signature says of the arguments.

use mesh_coordinator::catalogue::SignedBytes;
use mesh_coordinator::id::Hash;
use mesh_ports::runtime::{Exec, LogQuery};
use mesh_proto::v1;

use super::value::signature;
use super::{Malformed, required};

/// What a request for logs is signed as.
pub(crate) const LOGS: &str = "mesh.v1.Operator/Logs";
/// What a request to run a command is signed as.
pub(crate) const EXEC: &str = "mesh.v1.Operator/Exec";

pub(crate) fn to_wire(signed: SignedBytes) -> v1::SignedRequest {
    v1::SignedRequest { bytes: signed.bytes, signature: signed.signature.0.to_vec() }
}

pub(crate) fn from_wire(request: Option<v1::SignedRequest>) -> Result<SignedBytes, Malformed> {
    let request = required("request", request)?;
    let signature = signature("request.signature", &request.signature)?;
    Ok(SignedBytes { bytes: request.bytes, signature })
}

/// The hash of the arguments of a request for logs.
pub(crate) fn logs_arguments(query: &LogQuery) -> Hash {
    let tail = query.tail.map(|tail| u64::try_from(tail).unwrap_or(u64::MAX).to_be_bytes());
    let since = query.since.map(|since| since.0.to_be_bytes());
    Hash::of(&[
        b"logs",
        tail.as_ref().map_or(&[], |bytes| bytes.as_slice()),
        since.as_ref().map_or(&[], |bytes| bytes.as_slice()),
        &[u8::from(query.follow)],
    ])
}

/// The hash of the arguments of a request to run a command. The size of a terminal may be any, so only that there is one counts;
/// without one the hash is as it was before there were terminals.
pub(crate) fn exec_arguments(exec: &Exec) -> Hash {
    let args = list(exec.args.iter().map(String::as_bytes));
    let environment =
        list(exec.environment.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]));
    let user = list(exec.user.iter().map(String::as_bytes));
    let working_dir = list(exec.working_dir.iter().map(String::as_bytes));
    let mut parts: Vec<&[u8]> = vec![b"exec", &args.0, &environment.0, &user.0, &working_dir.0];
    parts.extend(exec.terminal.map(|_size| b"terminal".as_slice()));
    Hash::of(&parts)
}

fn list<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Hash {
    let parts: Vec<&'a [u8]> = parts.collect();
    Hash::of(&parts)
}
