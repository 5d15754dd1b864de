//! Who answers for a service.

use std::collections::BTreeMap;

use super::Node;
use crate::fact::{Claim, Phase};
use crate::id::{NodeId, SlotId};
use crate::lease::exclusive::Token;
use crate::rules::Rule;
use crate::view::NodeStatus;

impl Node {
    /// The claims that new connections may be sent to, with their holders: the ready ones of nodes that are alive, this node's first.
    ///
    /// L-later: of an exclusive slot only that with the latest token, and none while its holder is not ready: whoever claims it by an
    /// earlier one has not heard that its lease is over.
    pub fn serving(&self) -> impl Iterator<Item = (NodeId, &Claim)> {
        let mut latest: BTreeMap<&SlotId, Token> = BTreeMap::new();
        for (_, claim) in self.held_by_living() {
            if let Some(token) = claim.token {
                let last = latest.entry(&claim.slot).or_insert(token);
                *last = token.max(*last);
            }
        }
        let goes_by_tokens = self.rules.hold(Rule::YieldToLater);
        self.held_by_living().filter(move |(_, claim)| {
            let is_latest = claim.token == latest.get(&claim.slot).copied();
            claim.phase == Phase::Ready && (is_latest || !goes_by_tokens)
        })
    }

    /// What is held by nodes that are alive.
    fn held_by_living(&self) -> impl Iterator<Item = (NodeId, &Claim)> {
        let own = self.claims().map(|claim| (self.id(), claim));
        let others = self.known_claims();
        let others = others.filter(|(node, _)| self.status(*node) == Some(NodeStatus::Alive));
        own.chain(others).filter(|(_, claim)| claim.phase.holds())
    }
}
