//! What the gRPC code of each error is: one table for each family, so that a new error must be looked at here.

use std::fmt;
use std::sync::Arc;

use mesh_coordinator::id::NodeId;
use mesh_coordinator::time::WallTime;
use mesh_ports::control::{JoinError, SubmitError};
use mesh_ports::runtime::{ContainerError, ImageError};
use mesh_telemetry::{Chain, Reason};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tracing::error;

use crate::client::CallError;
use crate::convert::Malformed;

/// The metadata key that names the node that could not be reached.
const NODE: &str = "mesh-node";
/// The metadata key under which an agent tells the time of the mesh, in milliseconds since the Unix epoch.
const TIME: &str = "mesh-time";

/// What a removed key is told as long as its connection is open.
pub(crate) const REMOVED: &str = "this key was removed from the mesh";

/// Travels with a status on this host, and says what it counts as; `None` for what is no refusal of this agent.
#[derive(Debug)]
struct Mark(Option<Reason>);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.map_or("not refused here", Reason::name))
    }
}

impl std::error::Error for Mark {}

/// `status`, which refuses somebody for `reason`: whoever sends it counts it.
pub(crate) fn refused(reason: Reason, mut status: Status) -> Status {
    status.set_source(Arc::new(Mark(Some(reason))));
    status
}

/// `status`, which came from another agent or tells of a fault of this one: nobody was refused here.
pub(crate) fn no_refusal(mut status: Status) -> Status {
    status.set_source(Arc::new(Mark(None)));
    status
}

/// What `status` counts as; `None` when nobody was refused.
pub(crate) fn refusal(status: &Status) -> Option<Reason> {
    let source = std::error::Error::source(status);
    if let Some(Mark(reason)) = source.and_then(|source| source.downcast_ref()) {
        return *reason;
    }
    // What carries no mark was made by the library. It says these two of messages that it does not let through; a connection that
    // broke has a source.
    let made_here = source.is_none();
    let said = |code, reason| (status.code() == code && made_here).then_some(reason);
    said(Code::OutOfRange, Reason::MessageTooLong)
        .or_else(|| said(Code::Internal, Reason::MessageMalformed))
}

pub(crate) fn malformed(error: Malformed) -> Status {
    refused(Reason::MessageMalformed, Status::invalid_argument(error.to_string()))
}

pub(crate) fn submit(error: &SubmitError) -> Status {
    match error {
        SubmitError::Store(cause) if cause.is_transient() => {
            Status::resource_exhausted(Chain(error).to_string())
        }
        SubmitError::Store(_) => bug(error),
        SubmitError::Busy => Status::resource_exhausted(error.to_string()),
        SubmitError::Stopping => Status::unavailable(error.to_string()),
    }
}

pub(crate) fn join(error: &JoinError) -> Status {
    let code = match error {
        JoinError::Unknown | JoinError::OtherNode(_) | JoinError::Forged | JoinError::Removed => {
            Code::PermissionDenied
        }
        JoinError::Expired { .. } | JoinError::UsedUp(_) => Code::FailedPrecondition,
        JoinError::NameTaken(_) => Code::InvalidArgument,
        JoinError::Store(_) => Code::ResourceExhausted,
    };
    Status::new(code, error.to_string())
}

pub(crate) fn container(error: &ContainerError) -> Status {
    match error {
        ContainerError::Unknown(_) => Status::not_found(error.to_string()),
        ContainerError::NotRunning(_) | ContainerError::Fence { .. } => {
            Status::failed_precondition(error.to_string())
        }
        ContainerError::Host { .. } | ContainerError::Stuck { .. } => host(error),
    }
}

pub(crate) fn image(error: &ImageError) -> Status {
    match error {
        ImageError::Invalid { .. } | ImageError::Digest { .. } => {
            Status::invalid_argument(error.to_string())
        }
        ImageError::Missing(_) => Status::not_found(error.to_string()),
        ImageError::Host { .. } => host(error),
    }
}

/// The node that would have to answer cannot be called.
pub(crate) fn call(error: &CallError) -> Status {
    let mut status = Status::unavailable(error.to_string());
    name(&mut status, error.node);
    status
}

/// Says which node a status is about.
pub(crate) fn name(status: &mut Status, node: NodeId) {
    if let Ok(text) = node.to_string().parse() {
        status.metadata_mut().insert(NODE, text);
    }
}

/// Which node a status is about; `None` for the one that was called.
pub(crate) fn named(status: &Status) -> Option<&str> {
    status.metadata().get(NODE)?.to_str().ok()
}

/// Says what time it is.
pub(crate) fn tell_time(metadata: &mut MetadataMap, time: WallTime) {
    metadata.insert(TIME, MetadataValue::from(time.0));
}

/// What time it is where the answer came from; `None` when it does not say.
pub(crate) fn time(metadata: &MetadataMap) -> Option<WallTime> {
    metadata.get(TIME)?.to_str().ok()?.parse().ok().map(WallTime)
}

/// What this host could not do: without room on its disk the caller can do something about it, and reads why.
fn host(cause: &(dyn std::error::Error + 'static)) -> Status {
    let mut causes = std::iter::successors(Some(cause), |error| error.source());
    let is_full = causes.any(|error| {
        let error = error.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
    });
    if !is_full {
        return bug(cause);
    }
    error!(error = %Chain(cause), "the disk is full");
    no_refusal(Status::resource_exhausted(format!(
        "{cause}: no space left on the disk of this agent"
    )))
}

/// A fault of this host or of the agent: the caller gets a number to ask the operator of this node about.
fn bug(cause: &(dyn std::error::Error + 'static)) -> Status {
    // Without random numbers the log's time still tells which one it was.
    let id = getrandom::u32().unwrap_or_default();
    error!(id = format_args!("{id:08x}"), error = %Chain(cause), "a request ended in an internal error");
    no_refusal(Status::internal(format!("{cause} (see the log of this agent for {id:08x})")))
}
