//! Signing what an operator asks of one replica.

use mesh_coordinator::id::{Hash, NodeId, SlotId};
use mesh_ports::request::{Challenge, Request};
use mesh_proto::v1;

use super::{Access, Error};
use crate::convert::request;

/// A signed request to `node`, which gave out `challenge`, about `slot`; `what` is the action and the hash of its arguments.
pub(super) fn order(
    access: &Access,
    (node, challenge): (NodeId, Challenge),
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
        challenge,
    };
    Ok(request::to_wire(access.signer.seal(&order)))
}
