//! Who may call what: the standing of the key that the connection proved, asked anew at every call.

use std::sync::Arc;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{MeshId, NodeId, PublicKey};
use mesh_ports::directory::{Directory, Standing};
use mesh_telemetry::Reason;
use tonic::{Request, Status};

use super::connection::Caller;
use crate::status::{REMOVED, refused};

/// Whether connections of such a key are closed and refused.
pub(super) const fn is_removed(standing: &Standing) -> bool {
    match standing {
        Standing::Removed => true,
        Standing::Member(_)
        | Standing::Operator(_)
        | Standing::Parted(_)
        | Standing::Recovery
        | Standing::Unknown => false,
    }
}

/// Whether such a key counts as a stranger's: it must not take a member's place, nor stay for long.
pub(super) const fn is_stranger(standing: &Standing) -> bool {
    match standing {
        Standing::Parted(_) | Standing::Unknown => true,
        Standing::Member(_) | Standing::Operator(_) | Standing::Recovery | Standing::Removed => {
            false
        }
    }
}

/// Whether a key that stands `now` like this may do less than one that stood like `before`.
pub(super) fn is_less(now: &Standing, before: &Standing) -> bool {
    match (before, now) {
        (_, Standing::Removed) => true,
        (before, Standing::Parted(_)) => now != before,
        (Standing::Member(_), now) => now != before,
        (Standing::Operator(before), Standing::Operator(now)) => now < before,
        (Standing::Operator(_), Standing::Member(_) | Standing::Recovery | Standing::Unknown) => {
            true
        }
        // A recovery key is spent by what it asks for, and its holder waits for the answer; it can ask nothing more.
        (Standing::Recovery, _) => false,
        (Standing::Parted(_) | Standing::Removed | Standing::Unknown, _) => false,
    }
}

/// The key that the connection of a request proved.
pub(super) fn caller<T>(request: &Request<T>) -> Result<PublicKey, Status> {
    let caller = request.extensions().get::<Caller>();
    let nobody = || refused(Reason::NoKey, Status::unauthenticated("no key was proved"));
    caller.map(|caller| caller.key).ok_or_else(nobody)
}

/// What it counts as when a key that stands like this asks for what it may not.
const fn reason(standing: &Standing) -> Reason {
    match standing {
        Standing::Member(_) | Standing::Operator(_) | Standing::Recovery => Reason::Role,
        Standing::Parted(_) => Reason::RemovedMember,
        Standing::Removed => Reason::RemovedOperator,
        Standing::Unknown => Reason::Stranger,
    }
}

fn denied(standing: &Standing, words: impl Into<String>) -> Status {
    refused(reason(standing), Status::permission_denied(words))
}

/// Decides who may call what.
pub(super) struct Gate {
    directory: Arc<dyn Directory>,
}

impl Gate {
    pub(super) const fn new(directory: Arc<dyn Directory>) -> Self {
        Self { directory }
    }

    /// The mesh whose keys these are.
    pub(super) fn mesh(&self) -> MeshId {
        self.directory.mesh()
    }

    fn standing(&self, key: &PublicKey) -> Result<Standing, Status> {
        let standing = self.directory.standing(key);
        if is_removed(&standing) || matches!(standing, Standing::Parted(_)) {
            return Err(denied(&standing, REMOVED));
        }
        Ok(standing)
    }

    /// The member that calls.
    pub(super) fn member<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        match self.standing(&caller(request)?)? {
            Standing::Member(node) => Ok(node),
            standing @ (Standing::Operator(_)
            | Standing::Parted(_)
            | Standing::Recovery
            | Standing::Removed
            | Standing::Unknown) => Err(denied(&standing, "only members of the mesh may ask this")),
        }
    }

    /// The member that was removed and calls.
    pub(super) fn parted<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        match self.directory.standing(&caller(request)?) {
            Standing::Parted(node) => Ok(node),
            standing @ (Standing::Member(_)
            | Standing::Operator(_)
            | Standing::Recovery
            | Standing::Removed
            | Standing::Unknown) => {
                Err(denied(&standing, "this key is of no member that was removed"))
            }
        }
    }

    /// The operator that calls, who must have at least the role `least`.
    pub(super) fn operator<T>(&self, request: &Request<T>, least: Role) -> Result<Role, Status> {
        self.role(&caller(request)?, least)
    }

    /// Whether the caller may hand in records: an operator who may write some, or whoever has the recovery key. What may be
    /// written is the catalogue's question.
    pub(super) fn author<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.recovery_or(request, Role::Deployer).map(drop)
    }

    /// The role of a caller who reads the catalogue: whoever may replace the root may see all that changes hands.
    pub(super) fn reader<T>(&self, request: &Request<T>, least: Role) -> Result<Role, Status> {
        self.recovery_or(request, least)
    }

    fn recovery_or<T>(&self, request: &Request<T>, least: Role) -> Result<Role, Status> {
        let key = caller(request)?;
        match self.standing(&key)? {
            Standing::Recovery => Ok(Role::Admin),
            Standing::Operator(_)
            | Standing::Member(_)
            | Standing::Parted(_)
            | Standing::Removed
            | Standing::Unknown => self.role(&key, least),
        }
    }

    /// The role of an operator, which must be at least `least`.
    pub(super) fn role(&self, key: &PublicKey, least: Role) -> Result<Role, Status> {
        match self.standing(key)? {
            Standing::Operator(role) if role >= least => Ok(role),
            standing @ Standing::Operator(role) => {
                let words =
                    format!("this needs the role {least}, and this key has the role {role}");
                Err(denied(&standing, words))
            }
            Standing::Recovery => {
                let words = "the recovery key does one thing only: it replaces the root";
                Err(denied(&Standing::Recovery, words))
            }
            standing @ (Standing::Member(_)
            | Standing::Parted(_)
            | Standing::Removed
            | Standing::Unknown) => {
                let words = "this key is not an operator of the mesh";
                Err(refused(reason(&standing), Status::unauthenticated(words)))
            }
        }
    }

    /// The key of a node that may ask to be admitted: nobody knows it, or it asks again because the answer was lost.
    pub(super) fn candidate<T>(&self, request: &Request<T>) -> Result<PublicKey, Status> {
        let key = caller(request)?;
        match self.standing(&key)? {
            Standing::Member(_) | Standing::Unknown => Ok(key),
            standing @ (Standing::Operator(_)
            | Standing::Parted(_)
            | Standing::Recovery
            | Standing::Removed) => {
                Err(denied(&standing, "an operator's key cannot be a node's as well"))
            }
        }
    }
}
