//! Who is who: kept up to date by the engine from the catalogue, read by every adapter that must know a key or an address.

use std::sync::Arc;

use mesh_coordinator::catalogue::{Entry, Role, SignedBytes};
use mesh_coordinator::id::{MeshId, NodeId, PublicKey, Signature};
use mesh_coordinator::name::NodeName;

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub node: NodeId,
    /// Its key.
    pub key: PublicKey,
    /// Its name.
    pub name: NodeName,
    /// `host:port` of its gRPC API, best first; empty while unknown.
    pub api: Vec<String>,
    /// `host:port` of its gossip; empty while unknown.
    pub gossip: String,
}

/// Whose key somebody presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A member.
    Member(NodeId),
    /// An operator, with the role.
    Operator(Role),
    /// A member that was removed: it is told so and nothing else.
    Parted(NodeId),
    /// The recovery key that counts now: may read the catalogue, and hand in the record that replaces the root.
    Recovery,
    /// An operator that was removed: refused at once.
    Removed,
    /// Nobody known: may only redeem an invitation.
    Unknown,
}

/// Looks up members and operators. Reads are cheap and never block.
pub trait Directory: Send + Sync + 'static {
    /// The mesh.
    fn mesh(&self) -> MeshId;
    /// All members but this node.
    fn peers(&self) -> Arc<Vec<Peer>>;
    /// One member, this node included.
    fn peer(&self, node: NodeId) -> Option<Peer>;
    /// Whose key this is.
    fn standing(&self, key: &PublicKey) -> Standing;
}

/// Opens records that arrive.
pub trait RecordCodec: Send + Sync + 'static {
    /// The record in `signed`, when its author signed it and its form is right.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    fn open(&self, signed: SignedBytes) -> Result<Entry, String>;
}

/// Signs in this node's name.
pub trait Signer: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;
    /// This node's key.
    fn key(&self) -> PublicKey;
    /// A signature over `bytes`. `context` separates uses, so that a signature for one cannot serve another.
    fn sign(&self, context: &str, bytes: &[u8]) -> Signature;
    /// Whether `signature` over `bytes` in `context` was made with the private half of `key`.
    fn verifies(&self, key: &PublicKey, context: &str, bytes: &[u8], signature: &Signature)
    -> bool;
}

/// Seals datagrams between this node and other members.
pub trait Sealer: Send + Sync + 'static {
    /// `plain` sealed so that only the holder of `to` can open it, and knows that this node sealed it.
    fn seal(&self, to: &PublicKey, plain: &[u8]) -> Vec<u8>;
    /// What the holder of `from` sealed for this node; `None` when it was not sealed by that key for this node, or was altered.
    fn open(&self, from: &PublicKey, sealed: &[u8]) -> Option<Vec<u8>>;
}
