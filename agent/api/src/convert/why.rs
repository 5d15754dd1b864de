//! Why a slot is where it is.

use std::time::Duration;

use mesh_coordinator::view::{Candidate, Decision, Why};
use mesh_proto::v1;

use super::overview::{slot_view, slot_view_to_wire};
use super::value::{nanos, node, node_to_wire, text};
use super::{Malformed, required};

pub(crate) fn to_wire(why: &Why) -> v1::WhyAnswer {
    v1::WhyAnswer {
        slot: Some(slot_view_to_wire(&why.slot)),
        candidates: why.candidates.iter().map(candidate_to_wire).collect(),
        decisions: why
            .decisions
            .iter()
            .map(|decision| v1::DecisionItem {
                ago_ns: nanos(decision.ago),
                text: decision.text.clone(),
            })
            .collect(),
    }
}

pub(crate) fn from_wire(answer: v1::WhyAnswer) -> Result<Why, Malformed> {
    Ok(Why {
        slot: slot_view(required("slot", answer.slot)?)?,
        candidates: answer.candidates.into_iter().map(candidate).collect::<Result<_, _>>()?,
        decisions: answer
            .decisions
            .into_iter()
            .map(|item| Decision { ago: Duration::from_nanos(item.ago_ns), text: item.text })
            .collect(),
    })
}

fn candidate_to_wire(candidate: &Candidate) -> v1::CandidateItem {
    v1::CandidateItem {
        node: node_to_wire(candidate.node),
        node_name: candidate.node_name.to_string(),
        rank: candidate.rank,
        crowding: candidate.crowding,
        score: candidate.score,
        refusals: candidate.refusals.clone(),
    }
}

fn candidate(item: v1::CandidateItem) -> Result<Candidate, Malformed> {
    Ok(Candidate {
        node: node("candidate.node", &item.node)?,
        node_name: text("candidate.node_name", &item.node_name)?,
        rank: item.rank,
        crowding: item.crowding,
        score: item.score,
        refusals: item.refusals,
    })
}
