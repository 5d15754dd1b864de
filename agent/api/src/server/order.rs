//! Operators' signed requests about one replica: is it theirs, is it for us, is it new, may they.
//!
//! The request may have come through another agent. So nothing is believed but what the operator signed, and a request is
//! redeemed once: its nonce is remembered until it has expired.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{Hash, NodeId, PublicKey, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_ports::request::{Request, RequestCodec};
use mesh_proto::v1;
use tonic::Status;

use super::gate::Gate;
use crate::{convert, status};

/// The longest time ahead that a request may expire: bounds how long nonces are remembered. Twice what our client signs, since
/// clocks differ.
const LIFETIME_MS_MAX: u64 = 10 * 60 * 1000;

/// Nonces that are remembered at most. When so many requests are alive, more are refused: forgetting one early would let it be
/// used twice.
const NONCES_MAX: usize = 8192;

/// The requests that were redeemed and have not expired.
#[derive(Debug, Default)]
pub(super) struct Nonces(BTreeMap<(PublicKey, [u8; 16]), WallTime>);

/// Who brought a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    /// The operator, over an own connection.
    Operator(PublicKey),
    /// Another agent.
    Member,
}

/// Where a request is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Here, about this replica.
    Here(SlotId),
    /// On another node.
    There(NodeId),
}

impl Nonces {
    /// Remembers a request; false when it was redeemed before.
    fn redeem(&mut self, request: &Request, now: WallTime) -> Result<bool, Status> {
        if self.0.len() >= NONCES_MAX {
            self.0.retain(|_, expires| *expires >= now);
        }
        if self.0.len() >= NONCES_MAX {
            return Err(Status::resource_exhausted("too many requests at once; try again"));
        }
        Ok(self.0.insert((request.operator, request.nonce), request.expires).is_none())
    }
}

/// Checks operators' signed requests.
pub(super) struct Orders {
    node: NodeId,
    codec: Arc<dyn RequestCodec>,
    clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    nonces: Mutex<Nonces>,
}

impl Orders {
    pub(super) fn new(
        node: NodeId,
        codec: Arc<dyn RequestCodec>,
        clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    ) -> Self {
        Self { node, codec, clock, nonces: Mutex::new(Nonces::default()) }
    }

    /// Checks a request to do something (`what`: an action and the hash of its arguments). One that is meant for another node is
    /// redeemed there.
    pub(super) fn admit(
        &self,
        gate: &Gate,
        signed: Option<v1::SignedRequest>,
        bearer: Bearer,
        what: (&str, Hash),
    ) -> Result<Place, Status> {
        let signed = convert::request::from_wire(signed).map_err(status::malformed)?;
        let request = self.codec.open(&signed).map_err(Status::permission_denied)?;
        let refuse = |reason: &str| Err(Status::permission_denied(reason.to_owned()));
        if request.mesh != gate.mesh() {
            return refuse("the request was signed for another mesh");
        }
        if (request.action.as_str(), request.arguments) != what {
            return refuse("the request is not the one that was signed");
        }
        if let Bearer::Operator(key) = bearer
            && key != request.operator
        {
            return refuse("the request was signed by another operator");
        }
        gate.role(&request.operator, Role::Deployer)?;
        if request.target != self.node {
            return match bearer {
                Bearer::Operator(_) => Ok(Place::There(request.target)),
                Bearer::Member => refuse("the request was signed for another node"),
            };
        }
        let now = (self.clock)();
        if request.expires < now {
            let expired = request.expires.0;
            return Err(Status::permission_denied(format!(
                "the request expired at {expired} (Unix milliseconds), and it is {} here: compare the clocks",
                now.0
            )));
        }
        if request.expires.0.saturating_sub(now.0) > LIFETIME_MS_MAX {
            return refuse("the request expires too far ahead: compare the clocks");
        }
        let slot = request.slot.clone();
        let slot = slot.ok_or_else(|| Status::invalid_argument("slot: is missing"))?;
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.redeem(&request, now)? {
            Ok(Place::Here(slot))
        } else {
            refuse("the request was used before")
        }
    }
}
