//! Who may write what: the chain from the genesis record to every operator and node.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Body, Entry, Genesis, Invitation, Member, Operator, RecordKey, Role};
use super::set::Records;
use super::succession;
use crate::id::{Hash, NodeId, PublicKey};

/// Why a record is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was written for another mesh.
    #[error("it belongs to another mesh")]
    OtherMesh,
    /// Its author is nobody known here. The record may become good when more of the catalogue has arrived.
    #[error("its author {0} is neither an operator nor a member")]
    UnknownAuthor(PublicKey),
    /// Its author was removed and the removal does not list it among the records that stay.
    #[error("its author was removed, and the record is not among those that stay")]
    RemovedAuthor,
    /// Its author's role does not suffice.
    #[error("this needs the role {needed}, and its author has the role {found}")]
    Role {
        /// What it takes.
        needed: Role,
        /// What the author is.
        found: Role,
    },
    /// Only the node itself may write this.
    #[error("only node {0} may write it")]
    OtherNode(NodeId),
    /// The invitation is unknown, was for another redeemer, or did not sign the member.
    #[error("its invitation is not valid")]
    Invitation,
    /// Its generation is so high that what comes after it would soon have nowhere to go.
    #[error("its generation is {found}, and {max} is the highest that it may have")]
    Generation {
        /// What the record says.
        found: u64,
        /// What it may say.
        max: u64,
    },
}

/// Operators and members as the records establish them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) operators: BTreeMap<PublicKey, Operator>,
    pub(crate) removed_operators: BTreeMap<PublicKey, BTreeSet<Hash>>,
    pub(crate) invitations: BTreeMap<PublicKey, Invitation>,
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// With the members that each of them admitted and that stay.
    pub(crate) removed_members: BTreeMap<NodeId, BTreeSet<Hash>>,
}

impl Authority {
    /// Establishes who is who, from the genesis record outwards.
    pub(crate) fn establish(records: &Records) -> Self {
        let mut authority = Self::default();
        let genesis = records.best(&RecordKey::Genesis, |_| true);
        let Some(Body::Genesis(genesis)) = genesis.map(|entry| &entry.record.body) else {
            return authority;
        };
        authority.establish_operators(genesis, records);
        authority.establish_invitations(records);
        // Before the members: whom a removed node admitted depends on what its removal says.
        authority.establish_removals(records);
        authority.establish_members(records);
        authority
    }

    /// Whether `entry` may be applied.
    pub(crate) fn judge(&self, entry: &Entry) -> Result<(), Refusal> {
        let author = entry.record.author;
        match &entry.record.body {
            Body::Genesis(_) => Ok(()),
            Body::Address(address) if NodeId::of(&author) == address.node => {
                succession::check_ceiling(entry, None)?;
                if self.members.contains_key(&address.node) {
                    Ok(())
                } else {
                    Err(Refusal::UnknownAuthor(author))
                }
            }
            Body::Address(address) => Err(Refusal::OtherNode(address.node)),
            Body::Member(member) if member.invitation.is_some() => {
                self.judge_invited(entry, member)
            }
            Body::Settings(_)
            | Body::Operator(_)
            | Body::OperatorRemoval(_)
            | Body::Invitation(_)
            | Body::Member(_)
            | Body::MemberRemoval { .. } => self.judge_operator(entry, Role::Admin),
            Body::Labels(_)
            | Body::Drain(_)
            | Body::App(_)
            | Body::AppRemoval { .. }
            | Body::Scale(_)
            | Body::Restart(_)
            | Body::Run(_)
            | Body::Image { .. } => self.judge_operator(entry, Role::Deployer),
        }
    }

    fn judge_operator(&self, entry: &Entry, needed: Role) -> Result<(), Refusal> {
        let author = entry.record.author;
        if let Some(kept) = self.removed_operators.get(&author) {
            return if kept.contains(&entry.hash) {
                succession::check_ceiling(entry, Some(Role::Admin))
            } else {
                Err(Refusal::RemovedAuthor)
            };
        }
        let operator = self.operators.get(&author).ok_or(Refusal::UnknownAuthor(author))?;
        if operator.role >= needed {
            succession::check_ceiling(entry, Some(operator.role))
        } else {
            Err(Refusal::Role { needed, found: operator.role })
        }
    }

    fn judge_invited(&self, entry: &Entry, member: &Member) -> Result<(), Refusal> {
        let redeemer = NodeId::of(&entry.record.author);
        succession::check_ceiling(entry, None)?;
        // A node that was removed, because it was stolen perhaps, countersigns no more; nobody can tell when it signed.
        if self.removed_members.get(&redeemer).is_some_and(|kept| !kept.contains(&entry.hash)) {
            return Err(Refusal::RemovedAuthor);
        }
        if !self.members.contains_key(&redeemer) {
            return Err(Refusal::UnknownAuthor(entry.record.author));
        }
        let invitation = member.invitation.and_then(|key| self.invitations.get(&key));
        let good = invitation.is_some_and(|invitation| invitation.redeemer == redeemer)
            && entry.invitation_verified;
        if good { Ok(()) } else { Err(Refusal::Invitation) }
    }

    /// Operators in the order of their distance from the root, then of their keys: of two that remove each other, the earlier
    /// wins. An operator that a later one removes takes its own removals along, so the walk begins anew with that fixed.
    fn establish_operators(&mut self, genesis: &Genesis, records: &Records) {
        let mut fixed: BTreeMap<PublicKey, BTreeSet<Hash>> = BTreeMap::new();
        loop {
            let walk = Walk::run(genesis, records, &fixed);
            let n_fixed = fixed.len();
            fixed.extend(walk.removed_backwards);
            if fixed.len() == n_fixed {
                self.operators = walk.operators;
                self.removed_operators = walk.removed;
                return;
            }
        }
    }

    fn establish_invitations(&mut self, records: &Records) {
        for key in records.keys() {
            if !matches!(key, RecordKey::Invitation(_)) {
                continue;
            }
            let best = records.best(key, |entry| self.judge(entry).is_ok());
            if let Some(Body::Invitation(invitation)) = best.map(|entry| &entry.record.body) {
                self.invitations.insert(invitation.key, invitation.clone());
            }
        }
    }

    /// A redeemer is a member itself, so members are found in rounds until nobody new is.
    fn establish_members(&mut self, records: &Records) {
        loop {
            let n_before = self.members.len();
            for key in records.keys() {
                let RecordKey::Member(node) = key else { continue };
                if self.members.contains_key(node) {
                    continue;
                }
                let best = records.best(key, |entry| self.judge(entry).is_ok());
                if let Some(Body::Member(member)) = best.map(|entry| &entry.record.body) {
                    self.members.insert(*node, member.clone());
                }
            }
            if self.members.len() == n_before {
                return;
            }
        }
    }

    fn establish_removals(&mut self, records: &Records) {
        for key in records.keys() {
            let RecordKey::MemberRemoval(node) = key else { continue };
            let best = records.best(key, |entry| self.judge(entry).is_ok());
            if let Some(Body::MemberRemoval { keep, .. }) = best.map(|entry| &entry.record.body) {
                let keep = keep.iter().map(|kept| kept.hash).collect();
                self.removed_members.insert(*node, keep);
            }
        }
    }
}

/// Operators at one distance from the root, each with the best grant that made it one.
type Ring = BTreeMap<PublicKey, ((u64, u64, u32, Hash), Operator)>;

/// One walk over the operators, the nearest to the root first.
struct Walk {
    operators: BTreeMap<PublicKey, Operator>,
    removed: BTreeMap<PublicKey, BTreeSet<Hash>>,
    /// Operators that were already walked when a later one removed them.
    removed_backwards: BTreeMap<PublicKey, BTreeSet<Hash>>,
}

impl Walk {
    fn run(
        genesis: &Genesis,
        records: &Records,
        fixed: &BTreeMap<PublicKey, BTreeSet<Hash>>,
    ) -> Self {
        let root =
            Operator { key: genesis.root, name: genesis.root_name.clone(), role: Role::Admin };
        let mut walk = Self {
            operators: BTreeMap::new(),
            removed: fixed.clone(),
            removed_backwards: BTreeMap::new(),
        };
        let mut walked = BTreeSet::new();
        let mut ring = Ring::from([(root.key, ((0, 0, 0, Hash([0; 32])), root))]);
        while !ring.is_empty() {
            let mut next_ring = Ring::new();
            for (key, (_, operator)) in ring {
                walked.insert(key);
                walk.apply(&operator, records, &walked, &mut next_ring);
                if !walk.removed.contains_key(&key) {
                    walk.operators.insert(key, operator);
                }
            }
            next_ring.retain(|key, _| !walked.contains(key));
            ring = next_ring;
        }
        let gone: Vec<PublicKey> = walk.removed.keys().copied().collect();
        walk.operators.retain(|key, _| !gone.contains(key));
        walk
    }

    /// Applies what `author` wrote about operators: all of it, or what was kept when the author was removed.
    fn apply(
        &mut self,
        author: &Operator,
        records: &Records,
        walked: &BTreeSet<PublicKey>,
        next_ring: &mut Ring,
    ) {
        if author.role < Role::Admin {
            return;
        }
        let kept = self.removed.get(&author.key).cloned();
        let stands = |entry: &Entry| kept.as_ref().is_none_or(|kept| kept.contains(&entry.hash));
        for entry in records.by_author(&author.key).filter(|entry| stands(entry)) {
            match &entry.record.body {
                Body::Operator(operator) => {
                    let order = entry.order();
                    if next_ring.get(&operator.key).is_none_or(|(other, _)| *other < order) {
                        next_ring.insert(operator.key, (order, operator.clone()));
                    }
                }
                Body::OperatorRemoval(removal) if removal.key != author.key => {
                    let keep: BTreeSet<Hash> = removal.keep.iter().map(|kept| kept.hash).collect();
                    if walked.contains(&removal.key) && !self.removed.contains_key(&removal.key) {
                        self.removed_backwards.insert(removal.key, keep.clone());
                    }
                    self.removed.entry(removal.key).or_insert(keep);
                }
                Body::Genesis(_)
                | Body::Settings(_)
                | Body::OperatorRemoval(_)
                | Body::Invitation(_)
                | Body::Member(_)
                | Body::MemberRemoval { .. }
                | Body::Address(_)
                | Body::Labels(_)
                | Body::Drain(_)
                | Body::App(_)
                | Body::AppRemoval { .. }
                | Body::Scale(_)
                | Body::Restart(_)
                | Body::Run(_)
                | Body::Image { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
