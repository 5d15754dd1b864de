//! An invitation's consent to one member: what the holder of a join token signs, and what any agent can check later.

use mesh_coordinator::catalogue::Member;
use mesh_coordinator::id::{MeshId, PublicKey, Signature};
use mesh_coordinator::name::NodeName;

use crate::context;
use crate::keys::{self, KeyPair};

/// Who is invited, and where: what an invitation signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitee {
    /// The mesh.
    pub mesh: MeshId,
    /// The key of the node that joins.
    pub key: PublicKey,
    /// The name of the node that joins.
    pub name: NodeName,
}

impl Invitee {
    /// The invitee that `member` says it was in `mesh`.
    #[must_use]
    pub fn of(mesh: MeshId, member: &Member) -> Self {
        Self { mesh, key: member.key, name: member.name.clone() }
    }

    /// Two parts of fixed length before the name, so the bytes have one reading only.
    fn bytes(&self) -> Vec<u8> {
        [self.mesh.0.0.as_slice(), &self.key.0, self.name.as_str().as_bytes()].concat()
    }
}

/// The signature of the invitation whose private half is `invitation`.
#[must_use]
pub fn sign(invitation: &KeyPair, invitee: &Invitee) -> Signature {
    invitation.sign(context::INVITATION, &invitee.bytes())
}

/// Whether the invitation with this public key invited `invitee`.
#[must_use]
pub fn verifies(invitation: &PublicKey, invitee: &Invitee, invited: &Signature) -> bool {
    keys::verifies(invitation, context::INVITATION, &invitee.bytes(), invited)
}
