//! The roots of the mesh, one after the other: the first is named by the genesis record, each next one by a recovery key.
//!
//! A recovery key writes one record, which names the next recovery key; so the rotations are a chain, and each has its place in it
//! as its generation. A second record of one recovery key competes with the first for that one place. The earlier one wins there,
//! so a recovery key that was found after its use is worth nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::Refusal;
use crate::catalogue::record::{Body, Entry, Genesis, Operator, RecordKey, Recovery, Role};
use crate::catalogue::set::Records;
use crate::catalogue::succession;
use crate::id::{Hash, PublicKey};

/// The chain as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    root: Operator,
    /// Former roots, and which of their records stay: those that every rotation since lists.
    former: BTreeMap<PublicKey, BTreeSet<Hash>>,
    /// All roots in their order, the one that counts now last.
    roots: Vec<PublicKey>,
    /// All recovery keys in their order, the one that counts now last.
    recoveries: Vec<PublicKey>,
    /// The rotations in their order.
    links: Vec<Hash>,
}

impl Chain {
    /// Follows the rotations from the genesis record.
    pub(super) fn follow(genesis: &Genesis, records: &Records) -> Self {
        let mut chain = Self {
            root: admin(genesis.root, &genesis.root_name),
            former: BTreeMap::new(),
            roots: vec![genesis.root],
            recoveries: vec![genesis.recovery],
            links: Vec::new(),
        };
        while let Some(entry) = records.of_author(&RecordKey::Recovery, &chain.recovery()) {
            let Body::Recovery(recovery) = &entry.record.body else { break };
            if chain.judge(entry, recovery).is_err() {
                break;
            }
            chain.extend(entry.hash, recovery);
        }
        chain
    }

    fn extend(&mut self, hash: Hash, recovery: &Recovery) {
        if recovery.root != self.root.key {
            let keep: BTreeSet<Hash> = recovery.keep.iter().map(|kept| kept.hash).collect();
            for kept in self.former.values_mut() {
                kept.retain(|hash| keep.contains(hash));
            }
            self.former.insert(self.root.key, keep);
        }
        self.root = admin(recovery.root, &recovery.root_name);
        self.roots.push(recovery.root);
        self.recoveries.push(recovery.recovery);
        self.links.push(hash);
    }

    /// Whether `entry` is a link of this chain, or fits at the place of its author.
    pub(super) fn judge(&self, entry: &Entry, recovery: &Recovery) -> Result<(), Refusal> {
        let place = self.recoveries.iter().position(|key| *key == entry.record.author);
        let place = place.ok_or(Refusal::UnknownAuthor(entry.record.author))?;
        succession::check_ceiling(entry, None)?;
        let generation = u64::try_from(place).map_or(u64::MAX, |place| place.saturating_add(1));
        // Neither a key that was used comes back, nor a root that was replaced.
        let is_spent = self.recoveries.iter().take(place.saturating_add(1));
        let is_spent = is_spent.copied().any(|key| key == recovery.recovery);
        let stays = self.roots.get(place) == Some(&recovery.root);
        let is_former = !stays && self.roots.iter().take(place).any(|key| *key == recovery.root);
        if entry.record.stamp.generation == generation && !is_spent && !is_former {
            Ok(())
        } else {
            Err(Refusal::Recovery)
        }
    }

    /// Whether this rotation is part of the chain.
    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.links.contains(hash)
    }

    pub(super) const fn root(&self) -> &Operator {
        &self.root
    }

    pub(super) const fn former(&self) -> &BTreeMap<PublicKey, BTreeSet<Hash>> {
        &self.former
    }

    /// The recovery key that counts now.
    pub(super) fn recovery(&self) -> PublicKey {
        self.recoveries.last().copied().unwrap_or(PublicKey([0; 32]))
    }
}

fn admin(key: PublicKey, name: &crate::name::OperatorName) -> Operator {
    Operator { key, name: name.clone(), role: Role::Admin, keep: Vec::new() }
}

#[cfg(test)]
mod tests;
