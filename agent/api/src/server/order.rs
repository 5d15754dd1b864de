//! Operators' signed requests about one replica: is it theirs, is it for us, is it new, may they.
//!
//! The request may have come through another agent. So nothing is believed but what the operator signed, and a request is
//! redeemed once: its nonce is remembered as long as its challenge is good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{Hash, NodeId, PublicKey, SlotId};
use mesh_ports::request::{Challenge, Request, RequestCodec};
use mesh_proto::v1;
use mesh_telemetry::Reason;
use tonic::Status;

use super::challenge::Challenges;
use super::gate::Gate;
use crate::convert::Malformed;
use crate::{convert, status};

/// What is said of a request that came too late.
const EXPIRED: &str = "the request expired: it was under way for more than a minute, or this agent was restarted meanwhile; \
                       try again";

/// What is said of a request that was signed for no challenge at all.
const OLDER: &str = "the request was made by an older agentctl than this agent: upgrade agentctl (agentctl version compares them)";

/// Nonces that are remembered at most. When so many requests are alive, more are refused: forgetting one early would let it be
/// used twice.
const NONCES_MAX: usize = 8192;

/// Of those, the most of one operator: a script that asks too often must not keep the others out.
const NONCES_OF_ONE_MAX: usize = 1024;

/// The requests that were redeemed and have not expired, and when they will.
#[derive(Debug, Default)]
pub(super) struct Nonces(BTreeMap<(PublicKey, [u8; 16]), Duration>);

/// Who brought a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    /// The operator, over an own connection.
    Operator(PublicKey),
    /// Another agent.
    Member,
}

/// What a request asks for, as it arrived beside the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct What {
    /// The action.
    pub(super) action: &'static str,
    /// The hash of its arguments.
    pub(super) arguments: Hash,
    /// The role that it takes.
    pub(super) least: Role,
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
    fn redeem(
        &mut self,
        request: &Request,
        (now, until): (Duration, Duration),
    ) -> Result<bool, Status> {
        if self.is_full_for(&request.operator) {
            self.0.retain(|_, until| *until >= now);
        }
        if self.is_full_for(&request.operator) {
            let busy = Status::resource_exhausted("too many requests at once; try again");
            return Err(status::refused(Reason::TooManyRequests, busy));
        }
        Ok(self.0.insert((request.operator, request.nonce), until).is_none())
    }

    fn is_full_for(&self, operator: &PublicKey) -> bool {
        let own = self.0.range((*operator, [0; 16])..=(*operator, [u8::MAX; 16]));
        self.0.len() >= NONCES_MAX || own.count() >= NONCES_OF_ONE_MAX
    }
}

/// Checks operators' signed requests.
pub(super) struct Orders {
    node: NodeId,
    codec: Arc<dyn RequestCodec>,
    challenges: Challenges,
    nonces: Mutex<Nonces>,
}

impl Orders {
    pub(super) fn new(node: NodeId, codec: Arc<dyn RequestCodec>, challenges: Challenges) -> Self {
        Self { node, codec, challenges, nonces: Mutex::new(Nonces::default()) }
    }

    /// A challenge for a request to this node.
    pub(super) fn challenge(&self) -> Challenge {
        self.challenges.issue(self.challenges.now())
    }

    /// Checks a request to do something. One that is meant for another node is redeemed there.
    pub(super) fn admit(
        &self,
        gate: &Gate,
        signed: Option<v1::SignedRequest>,
        bearer: Bearer,
        what: What,
    ) -> Result<Place, Status> {
        let request = self.open(signed)?;
        if request.mesh != gate.mesh() {
            return Err(denied(Reason::WrongMesh, "the request was signed for another mesh"));
        }
        let unsigned = |words: &str| denied(Reason::RequestSignature, words);
        if (request.action.as_str(), request.arguments) != (what.action, what.arguments) {
            return Err(unsigned("the request is not the one that was signed"));
        }
        if let Bearer::Operator(key) = bearer
            && key != request.operator
        {
            return Err(unsigned("the request was signed by another operator"));
        }
        gate.role(&request.operator, what.least)?;
        if request.target != self.node {
            return match bearer {
                Bearer::Operator(_) => Ok(Place::There(request.target)),
                Bearer::Member => Err(unsigned("the request was signed for another node")),
            };
        }
        let slot = request.slot.clone();
        let slot = slot.ok_or_else(|| status::malformed(Malformed::new("slot", "is missing")))?;
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        // Behind the lock: nobody forgets the nonce between this look at the clock and the next at the nonces.
        let now = self.challenges.now();
        let until = self.challenges.until(&request.challenge, now);
        let until = until.ok_or_else(|| {
            let words = if request.challenge == Challenge::NONE { OLDER } else { EXPIRED };
            denied(Reason::RequestExpired, words)
        })?;
        if nonces.redeem(&request, (now, until))? {
            Ok(Place::Here(slot))
        } else {
            Err(denied(Reason::RequestReplayed, "the request was used before"))
        }
    }

    /// The request, when an operator signed it. One without a signature counts as one with a wrong signature.
    fn open(&self, signed: Option<v1::SignedRequest>) -> Result<Request, Status> {
        let unsigned =
            |error: Malformed| status::refused(Reason::RequestSignature, status::malformed(error));
        let signed = convert::request::from_wire(signed).map_err(unsigned)?;
        self.codec.open(&signed).map_err(|words| denied(Reason::RequestSignature, words))
    }
}

fn denied(reason: Reason, words: impl Into<String>) -> Status {
    status::refused(reason, Status::permission_denied(words))
}

#[cfg(test)]
mod tests {
    //! Nobody uses up what others need.

    use std::time::Duration;

    use mesh_coordinator::id::{Hash, MeshId, NodeId, PublicKey};
    use mesh_ports::request::{Challenge, Request};

    use super::{NONCES_OF_ONE_MAX, Nonces};

    fn request(operator: u8, number: usize) -> Request {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        Request {
            mesh: MeshId(Hash([0; 32])),
            operator: PublicKey([operator; 32]),
            target: NodeId::from_bytes([0; 10]),
            action: String::new(),
            slot: None,
            arguments: Hash([0; 32]),
            nonce,
            challenge: Challenge([0; 24]),
        }
    }

    #[test]
    fn an_operator_that_asks_without_end_is_stopped_and_others_are_not() {
        let mut nonces = Nonces::default();
        let [early, until, later] = [5, 10, 11].map(Duration::from_secs);
        for number in 0..NONCES_OF_ONE_MAX {
            assert!(nonces.redeem(&request(1, number), (early, until)).unwrap());
        }
        assert!(nonces.redeem(&request(1, NONCES_OF_ONE_MAX), (early, until)).is_err());
        assert!(nonces.redeem(&request(2, 0), (early, until)).unwrap());
        assert!(!nonces.redeem(&request(2, 0), (early, until)).unwrap(), "each is used once");
        let more = request(1, NONCES_OF_ONE_MAX);
        assert!(nonces.redeem(&more, (later, later * 2)).unwrap(), "room again");
    }
}
