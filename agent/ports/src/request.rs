//! What an operator asks of one agent, signed, so that an agent on the way can neither change it nor ask for more.

use mesh_coordinator::catalogue::SignedBytes;
use mesh_coordinator::id::{Hash, MeshId, NodeId, PublicKey, SlotId};

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
    /// What the target gave out a moment before the request was signed.
    pub challenge: Challenge,
}

/// What an agent gives out to whoever wants to sign a request to it: the agent alone can tell that it is its own, and how old it is.
///
/// So no request depends on a wall clock, and none outlives the agent for which it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Challenge(pub [u8; 24]);

impl Challenge {
    /// That of a request without one, which an `agentctl` from before there were challenges made. No agent gives it out.
    pub const NONE: Self = Self([0; 24]);
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
