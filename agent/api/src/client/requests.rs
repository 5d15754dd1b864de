//! Signing what an operator asks of one replica.

use mesh_coordinator::id::{Hash, NodeId, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_ports::request::Request;
use mesh_proto::v1;

use super::{Access, Error};
use crate::convert::request;

/// How long a signed request may be redeemed. Long, because the target compares it with its own clock, and clocks differ; not
/// longer than the target is ready to remember nonces.
const LIFETIME_MS: u64 = 5 * 60 * 1000;

/// A signed request to `node` about `slot`; `what` is the action and the hash of its arguments.
pub(super) fn order(
    access: &Access,
    node: NodeId,
    slot: &SlotId,
    what: (&str, Hash),
) -> Result<v1::SignedRequest, Error> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Error::Server {
        reason: format!("this host gives no random numbers: {error}"),
    })?;
    let (action, arguments) = what;
    let order = Request {
        mesh: access.mesh,
        operator: access.signer.key(),
        target: node,
        action: action.to_owned(),
        slot: Some(slot.clone()),
        arguments,
        nonce,
        expires: WallTime((access.clock)().0.saturating_add(LIFETIME_MS)),
    };
    Ok(request::to_wire(access.signer.seal(&order)))
}
