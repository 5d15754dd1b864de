//! What agents say to each other: [`Message`] to and from an `Envelope`.

use mesh_coordinator::fact::{Claim, DETAIL_LEN_MAX, Suspicion, Vote};
use mesh_coordinator::id::Incarnation;
use mesh_coordinator::message::{Message, Rejected};
use mesh_ports::directory::RecordCodec;
use mesh_proto::v1;
use mesh_proto::v1::envelope::Message as Wire;

use super::value::{
    entries_to_wire, hashes, hashes_to_wire, node, node_to_wire, phase, phase_to_wire, revision,
    revision_to_wire, signed, slot, slot_to_wire, unknown,
};
use super::{MESSAGE_LEN_MAX, Malformed, lease, required};

/// How many bytes of records go into one envelope at most, unless one record alone is longer: a quarter of what is read, so that
/// what protobuf adds never matters.
const RECORDS_LEN_MAX: usize = MESSAGE_LEN_MAX / 4;

/// The envelopes that carry `message`: one, or several when it has more records than fit into one.
pub(crate) fn to_wire(message: &Message) -> Vec<v1::Envelope> {
    let wire = match message {
        Message::Announce(claim) => Wire::Announce(claim_to_wire(claim)),
        Message::Vote(vote) => Wire::Vote(vote_to_wire(vote)),
        Message::Unvote(vote) => Wire::Unvote(vote_to_wire(vote)),
        Message::Probe { nonce } => Wire::Probe(v1::Probe { nonce: *nonce }),
        Message::Alive { nonce, incarnation } => {
            Wire::Alive(v1::Alive { nonce: *nonce, incarnation: incarnation.0 })
        }
        Message::Yield { slot, revision, nonce } => Wire::Yield(v1::Yield {
            slot: Some(slot_to_wire(slot)),
            revision: Some(revision_to_wire(*revision)),
            nonce: *nonce,
        }),
        Message::Keep { slot, nonce } => {
            Wire::Keep(v1::Keep { slot: Some(slot_to_wire(slot)), nonce: *nonce })
        }
        Message::Records(entries) => return records_to_wire(entries_to_wire(entries)),
        Message::Stored(hashes) => Wire::Stored(v1::Hashes { hashes: hashes_to_wire(hashes) }),
        Message::Digest(buckets) => Wire::Digest(v1::Digest { buckets: buckets.clone() }),
        Message::Have { buckets, hashes } => {
            Wire::Have(v1::Have { buckets: buckets.clone(), hashes: hashes_to_wire(hashes) })
        }
        Message::Want(hashes) => Wire::Want(v1::Hashes { hashes: hashes_to_wire(hashes) }),
        Message::Free { slot, token } => {
            Wire::Free(v1::Free { slot: Some(slot_to_wire(slot)), token: token.0 })
        }
        Message::Twin { node, boot } => {
            Wire::Twin(v1::Twin { node: node_to_wire(*node), boot: lease::boot_to_wire(*boot) })
        }
        Message::Ask(requests) => Wire::Ask(lease::ask_to_wire(requests)),
        Message::Word { store, answers } => Wire::Word(lease::word_to_wire(*store, answers)),
    };
    vec![v1::Envelope { message: Some(wire) }]
}

fn records_to_wire(records: Vec<v1::SignedRecord>) -> Vec<v1::Envelope> {
    batches(records)
        .into_iter()
        .map(|records| v1::Envelope { message: Some(Wire::Records(v1::Records { records })) })
        .collect()
}

/// The records in groups of which each fits into one message; at least one group.
pub(crate) fn batches(records: Vec<v1::SignedRecord>) -> Vec<Vec<v1::SignedRecord>> {
    let mut batches = Vec::new();
    let (mut batch, mut length) = (Vec::new(), 0_usize);
    for record in records {
        let added = record.bytes.len().saturating_add(record.signature.len());
        if !batch.is_empty() && length.saturating_add(added) > RECORDS_LEN_MAX {
            batches.push(std::mem::take(&mut batch));
            length = 0;
        }
        length = length.saturating_add(added);
        batch.push(record);
    }
    if !batch.is_empty() || batches.is_empty() {
        batches.push(batch);
    }
    batches
}

/// What arrived, and the records in it that `codec` did not open.
pub(crate) fn from_wire(
    envelope: v1::Envelope,
    codec: &dyn RecordCodec,
) -> Result<(Message, Vec<Rejected>), Malformed> {
    let mut rejected = Vec::new();
    let message = match required("message", envelope.message)? {
        Wire::Announce(claim) => Message::Announce(claim_from_wire(claim)?),
        Wire::Vote(vote) => Message::Vote(vote_from_wire(&vote)?),
        Wire::Unvote(vote) => Message::Unvote(vote_from_wire(&vote)?),
        Wire::Probe(probe) => Message::Probe { nonce: probe.nonce },
        Wire::Alive(alive) => {
            Message::Alive { nonce: alive.nonce, incarnation: Incarnation(alive.incarnation) }
        }
        Wire::Yield(wish) => Message::Yield {
            slot: slot("yield.slot", wish.slot)?,
            revision: revision("yield.revision", wish.revision)?,
            nonce: wish.nonce,
        },
        Wire::Keep(keep) => {
            Message::Keep { slot: slot("keep.slot", keep.slot)?, nonce: keep.nonce }
        }
        Wire::Records(records) => Message::Records(open(records.records, codec, &mut rejected)?),
        Wire::Stored(stored) => Message::Stored(hashes("stored", &stored.hashes)?),
        Wire::Digest(digest) => Message::Digest(digest.buckets),
        Wire::Have(have) => {
            Message::Have { buckets: have.buckets, hashes: hashes("have", &have.hashes)? }
        }
        Wire::Want(want) => Message::Want(hashes("want", &want.hashes)?),
        Wire::Free(free) => Message::Free {
            slot: slot("free.slot", free.slot)?,
            token: lease::token("free.token", free.token)?,
        },
        Wire::Twin(twin) => Message::Twin {
            node: node("twin.node", &twin.node)?,
            boot: lease::boot("twin.boot", &twin.boot)?,
        },
        Wire::Ask(ask) => lease::ask(ask)?,
        Wire::Word(word) => lease::word(word)?,
    };
    Ok((message, rejected))
}

/// Opens each record; one that does not open leaves the others as they are.
pub(crate) fn open(
    records: Vec<v1::SignedRecord>,
    codec: &dyn RecordCodec,
    rejected: &mut Vec<Rejected>,
) -> Result<Vec<mesh_coordinator::catalogue::Entry>, Malformed> {
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        let signed = signed(record)?;
        match codec.open(signed.clone()) {
            Ok(entry) => entries.push(entry),
            Err(reason) => rejected.push(Rejected { signed, reason }),
        }
    }
    Ok(entries)
}

fn claim_to_wire(claim: &Claim) -> v1::Claim {
    v1::Claim {
        slot: Some(slot_to_wire(&claim.slot)),
        revision: Some(revision_to_wire(claim.revision)),
        phase: phase_to_wire(claim.phase),
        yielding: claim.yielding,
        crowding: claim.crowding,
        failover_ms: claim.failover_ms,
        restarts: claim.restarts,
        detail: claim.detail.clone(),
        seq: claim.seq,
        token: claim.token.map(|token| token.0),
    }
}

fn claim_from_wire(claim: v1::Claim) -> Result<Claim, Malformed> {
    if claim.detail.len() > DETAIL_LEN_MAX {
        let reason = format!("has more than {DETAIL_LEN_MAX} bytes");
        return Err(Malformed::new("claim.detail", reason));
    }
    Ok(Claim {
        slot: slot("claim.slot", claim.slot)?,
        revision: revision("claim.revision", claim.revision)?,
        phase: phase("claim.phase", claim.phase)?,
        yielding: claim.yielding,
        crowding: claim.crowding,
        failover_ms: claim.failover_ms,
        restarts: claim.restarts,
        token: claim.token.map(|number| lease::token("claim.token", number)).transpose()?,
        detail: claim.detail,
        seq: claim.seq,
    })
}

fn vote_to_wire(vote: &Vote) -> v1::Vote {
    let suspicion = match vote.suspicion {
        Suspicion::Silent => v1::vote::Suspicion::Silent,
        Suspicion::Refused => v1::vote::Suspicion::Refused,
    };
    v1::Vote {
        node: node_to_wire(vote.node),
        incarnation: vote.incarnation.0,
        suspicion: suspicion.into(),
    }
}

fn vote_from_wire(vote: &v1::Vote) -> Result<Vote, Malformed> {
    let suspicion = match v1::vote::Suspicion::try_from(vote.suspicion) {
        Ok(v1::vote::Suspicion::Silent) => Suspicion::Silent,
        Ok(v1::vote::Suspicion::Refused) => Suspicion::Refused,
        Ok(v1::vote::Suspicion::Unspecified) | Err(_) => {
            return Err(unknown("vote.suspicion", vote.suspicion));
        }
    };
    Ok(Vote {
        node: node("vote.node", &vote.node)?,
        incarnation: Incarnation(vote.incarnation),
        suspicion,
    })
}
