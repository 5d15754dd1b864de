//! Who may write what: the chain from the genesis record to every operator and node.
//!
//! Two questions about a record: whether it *stands*, that is, whether what it says holds; and whether it is *admitted*, that is,
//! whether it is kept and passed on. For most records they are one. Records about operators are admitted from everybody who ever
//! was named an operator, since whether one stands may depend on another that has not arrived: two sides of a split on which two
//! admins remove each other must each take the other's removal, or they would never agree on one.

mod chain;
mod operators;

use std::collections::{BTreeMap, BTreeSet};

use self::chain::Chain;
use self::operators::Operators;
use super::record::{Body, Entry, Invitation, Member, Operator, RecordKey, Role};
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
    /// Another of its numbers is so high that what comes after it would soon have nowhere to go.
    #[error("its {what} is {found}, and {max} is the highest that it may have")]
    Number {
        /// Which number.
        what: &'static str,
        /// What the record says.
        found: u64,
        /// What it may say.
        max: u64,
    },
    /// Its author has written as much as one author may.
    #[error("its author's records would cost {cost} bytes, and {max} is the most for one author")]
    AuthorQuota {
        /// What they would cost.
        cost: usize,
        /// What they may cost.
        max: usize,
    },
    /// The catalogue is full.
    #[error("all records together would cost {cost} bytes, and {max} is the most")]
    TotalQuota {
        /// What they would cost.
        cost: usize,
        /// What they may cost.
        max: usize,
    },
    /// It is not by the recovery key that counts, or does not follow the last rotation.
    #[error("it is not written with the recovery key that counts now")]
    Recovery,
    /// It would take away the role on which it rests itself, or leave the mesh without an admin.
    #[error(
        "it would take the role admin from its own author or from everybody: another admin has to write it, or list the author's \
         operator record among those that stay"
    )]
    OwnGround,
    /// It would undo what somebody nearer to the root said about operators.
    #[error(
        "it would undo what an operator nearer to the root said of others: list those records among those that stay"
    )]
    Senior,
    /// It says what another record says otherwise, and the other one wins.
    #[error("another record about the same operator wins over it")]
    Outranked,
    /// It lets a record stay that is not known here, so that nobody might have it in the end.
    #[error(
        "it keeps the record {0}, which is not known here: hand that in as well, or ask for what stands again"
    )]
    UnknownKept(Hash),
}

/// Operators and members as the records establish them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    chain: Option<Chain>,
    operators: Operators,
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
        let chain = Chain::follow(genesis, records);
        authority.operators = Operators::establish(&chain, records);
        authority.chain = Some(chain);
        authority.establish_invitations(records);
        // Before the members: whom a removed node admitted depends on what its removal says.
        authority.establish_removals(records);
        authority.establish_members(records);
        authority
    }

    /// The recovery key that counts now.
    pub(crate) fn recovery(&self) -> Option<PublicKey> {
        self.chain.as_ref().map(Chain::recovery)
    }

    /// Whether what `entry`, which stands, says of the root or of an operator is so in the end.
    pub(crate) fn check_effect(&self, entry: &Entry) -> Result<(), Refusal> {
        if let Body::Operator(operator) = &entry.record.body {
            let held = self.operators().get(&operator.key).map(|held| held.role);
            return if held == Some(operator.role) { Ok(()) } else { Err(Refusal::Outranked) };
        }
        let is_link = || self.chain.as_ref().is_some_and(|chain| chain.has(&entry.hash));
        if matches!(entry.record.body, Body::Recovery(_)) && !is_link() {
            return Err(Refusal::Recovery);
        }
        Ok(())
    }

    /// The root that counts now.
    pub(crate) fn root(&self) -> Option<PublicKey> {
        self.chain.as_ref().map(|chain| chain.root().key)
    }

    /// The roots that were replaced.
    pub(crate) fn former_roots(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.chain.iter().flat_map(|chain| chain.former().keys().copied())
    }

    /// Operators that are not removed.
    pub(crate) const fn operators(&self) -> &BTreeMap<PublicKey, Operator> {
        self.operators.standing()
    }

    /// Operators that were removed.
    pub(crate) fn removed_operators(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.operators.removed()
    }

    /// Whether `entry` may be kept and passed on, whether it has an effect or not.
    pub(crate) fn admit(&self, entry: &Entry) -> Result<(), Refusal> {
        match &entry.record.body {
            Body::Operator(_) | Body::OperatorRemoval(_) => {
                succession::check_ceiling(entry, Some(Role::Admin))?;
                let author = entry.record.author;
                if self.operators.was_named(&author) {
                    Ok(())
                } else {
                    Err(Refusal::UnknownAuthor(author))
                }
            }
            Body::Genesis(_)
            | Body::Recovery(_)
            | Body::Settings(_)
            | Body::Invitation(_)
            | Body::Member(_)
            | Body::MemberRemoval { .. }
            | Body::Address(_)
            | Body::Labels(_)
            | Body::Drain(_)
            | Body::App(_)
            | Body::AppRemoval { .. }
            | Body::Scale(_)
            | Body::SlotReset(_)
            | Body::Restart(_)
            | Body::Run(_)
            | Body::Image { .. } => self.judge(entry),
        }
    }

    /// Whether `entry` stands.
    pub(crate) fn judge(&self, entry: &Entry) -> Result<(), Refusal> {
        let author = entry.record.author;
        match &entry.record.body {
            Body::Genesis(_) => Ok(()),
            Body::Recovery(recovery) => {
                let chain = self.chain.as_ref().ok_or(Refusal::UnknownAuthor(author))?;
                chain.judge(entry, recovery)
            }
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
            Body::Operator(_) | Body::OperatorRemoval(_) => {
                succession::check_ceiling(entry, Some(Role::Admin))?;
                self.operators.judge(entry, Role::Admin)?;
                self.operators.judge_act(entry)
            }
            Body::Settings(_)
            | Body::Invitation(_)
            | Body::Member(_)
            | Body::MemberRemoval { .. }
            | Body::SlotReset(_) => self.judge_operator(entry, Role::Admin),
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
        let role = self.operators.judge(entry, needed)?;
        succession::check_ceiling(entry, Some(role))
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

#[cfg(test)]
mod tests;
