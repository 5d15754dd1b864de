//! What nodes say of themselves and of each other, and the names of slots.

use mesh_coordinator::fact::{Claim, DETAIL_LEN_MAX, Fact, NodeFacts, Phase, Suspicion, Vote};
use mesh_coordinator::id::{Incarnation, SlotId, SlotIndex};
use mesh_coordinator::lease::exclusive::StoreId;
use mesh_proto::v1;

use super::{
    Fault, Within as _, app, lease, maybe_array, node, parsed, plain, read_reservation,
    read_revision, required, write_reservation, write_revision,
};

/// The longest text that an agent may call its version.
const VERSION_LEN_MAX: usize = 64;

pub(crate) fn write(fact: &Fact) -> v1::Fact {
    use v1::fact::Kind;
    v1::Fact {
        kind: Some(match fact {
            Fact::Claim(claim) => Kind::Claim(write_claim(claim)),
            Fact::Root(root) => Kind::Root(*root),
            Fact::Node(facts) => Kind::Node(write_node(facts)),
            Fact::Vote(vote) => Kind::Vote(write_vote(*vote)),
        }),
    }
}

pub(crate) fn read(fact: v1::Fact) -> Result<Fact, Fault> {
    use v1::fact::Kind;
    match required("kind", fact.kind)? {
        Kind::Claim(claim) => read_claim(claim).within("claim").map(Fact::Claim),
        Kind::Root(root) => Ok(Fact::Root(root)),
        Kind::Node(facts) => read_node(facts).within("node").map(Fact::Node),
        Kind::Vote(vote) => read_vote(&vote).within("vote").map(Fact::Vote),
    }
}

pub(crate) fn write_slot(slot: &SlotId) -> v1::SlotId {
    use v1::slot_id::Index;
    v1::SlotId {
        app: slot.app.0.to_vec(),
        service: slot.service.to_string(),
        index: Some(match slot.index {
            SlotIndex::Number(number) => Index::Number(number),
            SlotIndex::Node(node) => Index::Node(node.as_bytes().to_vec()),
        }),
    }
}

pub(crate) fn read_slot(slot: v1::SlotId) -> Result<SlotId, Fault> {
    use v1::slot_id::Index;
    let index = match required("index", slot.index)? {
        Index::Number(number) => SlotIndex::Number(number),
        Index::Node(bytes) => SlotIndex::Node(node("index", &bytes)?),
    };
    Ok(SlotId { app: app(&slot.app)?, service: parsed("service", &slot.service)?, index })
}

fn write_claim(claim: &Claim) -> v1::Claim {
    use v1::claim::Phase as Wire;
    let phase = match claim.phase {
        Phase::Intent => Wire::Intent,
        Phase::Starting => Wire::Starting,
        Phase::Ready => Wire::Ready,
        Phase::Unhealthy => Wire::Unhealthy,
        Phase::Failed => Wire::Failed,
        Phase::Released => Wire::Released,
        Phase::Ended => Wire::Ended,
    };
    v1::Claim {
        slot: Some(write_slot(&claim.slot)),
        revision: Some(write_revision(claim.revision)),
        phase: phase.into(),
        yielding: claim.yielding,
        crowding: claim.crowding,
        failover_ms: claim.failover_ms,
        restarts: claim.restarts,
        detail: claim.detail.clone(),
        seq: claim.seq,
        token: claim.token.map(|token| token.0),
    }
}

fn read_claim(claim: v1::Claim) -> Result<Claim, Fault> {
    use v1::claim::Phase as Wire;
    let phase = match claim.phase() {
        Wire::Intent => Phase::Intent,
        Wire::Starting => Phase::Starting,
        Wire::Ready => Phase::Ready,
        Wire::Unhealthy => Phase::Unhealthy,
        Wire::Failed => Phase::Failed,
        Wire::Released => Phase::Released,
        Wire::Ended => Phase::Ended,
        Wire::Unspecified => return Err(Fault::new("phase", "is none that is known here")),
    };
    if claim.detail.len() > DETAIL_LEN_MAX {
        return Err(Fault::new("detail", format!("is longer than {DETAIL_LEN_MAX} bytes")));
    }
    Ok(Claim {
        slot: read_slot(required("slot", claim.slot)?).within("slot")?,
        revision: read_revision(claim.revision)?,
        phase,
        yielding: claim.yielding,
        crowding: claim.crowding,
        failover_ms: claim.failover_ms,
        restarts: claim.restarts,
        token: claim.token.map(|number| lease::token("token", number)).transpose()?,
        detail: plain("detail", claim.detail)?,
        seq: claim.seq,
    })
}

fn write_vote(vote: Vote) -> v1::Vote {
    let suspicion = match vote.suspicion {
        Suspicion::Silent => v1::vote::Suspicion::Silent,
        Suspicion::Refused => v1::vote::Suspicion::Refused,
    };
    v1::Vote {
        node: vote.node.as_bytes().to_vec(),
        incarnation: vote.incarnation.0,
        suspicion: suspicion.into(),
    }
}

fn read_vote(vote: &v1::Vote) -> Result<Vote, Fault> {
    let suspicion = match vote.suspicion() {
        v1::vote::Suspicion::Silent => Suspicion::Silent,
        v1::vote::Suspicion::Refused => Suspicion::Refused,
        v1::vote::Suspicion::Unspecified => {
            return Err(Fault::new("suspicion", "is none that is known here"));
        }
    };
    let node = node("node", &vote.node)?;
    Ok(Vote { node, incarnation: Incarnation(vote.incarnation), suspicion })
}

fn write_node(facts: &NodeFacts) -> v1::NodeFacts {
    v1::NodeFacts {
        name: facts.name.to_string(),
        capacity: Some(write_reservation(facts.capacity)),
        version: facts.version.clone(),
        restarting: facts.restarting,
        clock_off_ms: facts.clock_off_ms,
        store: facts.store.map(lease::write_store).unwrap_or_default(),
        witness_only: facts.witness_only,
        has_twin: facts.has_twin,
    }
}

fn read_node(facts: v1::NodeFacts) -> Result<NodeFacts, Fault> {
    if facts.version.len() > VERSION_LEN_MAX {
        return Err(Fault::new("version", format!("is longer than {VERSION_LEN_MAX} bytes")));
    }
    Ok(NodeFacts {
        name: parsed("name", &facts.name)?,
        capacity: read_reservation("capacity", facts.capacity)?,
        version: plain("version", facts.version)?,
        restarting: facts.restarting,
        clock_off_ms: facts.clock_off_ms,
        store: maybe_array("store", &facts.store)?.map(u128::from_be_bytes).map(StoreId),
        witness_only: facts.witness_only,
        has_twin: facts.has_twin,
    })
}
