//! What an operator asks of one agent, signed, so that an agent on the way can neither change it nor ask for more.

use mesh_coordinator::catalogue::SignedBytes;
use mesh_coordinator::id::{Hash, MeshId, NodeId, PublicKey, SlotId};
use mesh_coordinator::time::WallTime;

/// All that the signature of a request covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In which mesh.
    pub mesh: MeshId,
    /// Who asks.
    pub operator: PublicKey,
    /// Which node is asked.
    pub target: NodeId,
    /// What is asked for: the full name of the gRPC method.
    pub action: String,
    /// The replica that it is about; `None` when it is about none.
    pub slot: Option<SlotId>,
    /// The hash of the arguments.
    pub arguments: Hash,
    /// Random, and never used again.
    pub nonce: [u8; 16],
    /// After this moment of the target's wall clock the request is refused.
    pub expires: WallTime,
}

/// Signs requests in an operator's name.
pub trait RequestSigner: Send + Sync + 'static {
    /// The operator's key.
    fn key(&self) -> PublicKey;
    /// The encoded request and the operator's signature over it.
    fn seal(&self, request: &Request) -> SignedBytes;
}

/// Checks the signatures of requests.
pub trait RequestCodec: Send + Sync + 'static {
    /// The request, if [`Request::operator`] signed it. Whether it is meant for this node, is new and is allowed is judged by
    /// the caller.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    fn open(&self, signed: &SignedBytes) -> Result<Request, String>;
}
