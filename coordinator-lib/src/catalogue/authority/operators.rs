//! Who is an operator: what remains of all grants when removals and demotions have taken away what they may.
//!
//! Every admin may remove and demote every other one, the root too, since the one whose key was stolen may be the nearest to the
//! root. So admins can contradict each other, above all on two sides of a split, and nobody can tell which of two records
//! was written first. The rule that decides, from the set of records alone:
//!
//! 1. Operators have a *rank*: how many grants lie between them and the root, then their key. It follows from all grants
//!    by whoever was ever named an admin, whatever became of them, so that nothing that is decided here changes it.
//! 2. Removals and demotions are looked at in the order of their authors' ranks. One counts if its author is an admin after all
//!    that counted before it (or it is among the records that an earlier one lets stay), and if afterwards somebody is an
//!    admin, its own author still is one, and everything that counted before still does.
//!
//! So of two admins who remove each other the one nearer to the root stays, or the one with the lower key; nobody can take
//! away the ground that he stands on himself; nobody farther from the root brings back whom somebody nearer has
//! removed; and there always is an admin. When it is the wrong one, the recovery key is the way out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chain, Refusal};
use crate::catalogue::record::{Body, Entry, KeptRecord, Operator, Role};
use crate::catalogue::set::Records;
use crate::id::{Hash, PublicKey};

/// What the records about operators come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Operators {
    standing: Standing,
    /// Everybody whom anybody ever named, the roots too.
    named: BTreeSet<PublicKey>,
    /// Acts that do not count although their authors are admins.
    futile: BTreeMap<Hash, Refusal>,
}

/// Operators, and whom the acts that counted so far have removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Standing {
    operators: BTreeMap<PublicKey, Operator>,
    /// With the records that stay.
    removed: BTreeMap<PublicKey, BTreeSet<Hash>>,
}

/// The operators' place in the order in which they are heard.
type Rank = (usize, PublicKey);

impl Operators {
    pub(super) fn establish(chain: &Chain, records: &Records) -> Self {
        let field = Field::of(chain, records);
        let ranks = field.ranks();
        let mut acts: Vec<&Entry> = field.acts.clone();
        let rank = |key: PublicKey| ranks.get(&key).copied().unwrap_or((usize::MAX, key));
        acts.sort_by_key(|act| (rank(act.record.author), act.order()));
        let mut counted: Vec<&Entry> = Vec::new();
        let mut futile = BTreeMap::new();
        let mut standing = field.standing(&counted);
        for act in acts {
            if !standing.lets(act) || !field.may_change(act, &standing) {
                continue;
            }
            counted.push(act);
            let after = field.standing(&counted);
            let refusal = after.contradicts(&counted);
            if let Some(refusal) = refusal {
                counted.pop();
                futile.insert(act.hash, refusal);
            } else {
                standing = after;
            }
        }
        let named = field.named();
        Self { standing, named, futile }
    }

    pub(super) const fn standing(&self) -> &BTreeMap<PublicKey, Operator> {
        &self.standing.operators
    }

    pub(super) fn removed(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.standing.removed.keys().copied()
    }

    /// Whether anybody ever named `key` an operator.
    pub(super) fn was_named(&self, key: &PublicKey) -> bool {
        self.named.contains(key)
    }

    /// Whether the author of `entry` has the role `needed`, or may at least say this; and the role that counts for it.
    pub(super) fn judge(&self, entry: &Entry, needed: Role) -> Result<Role, Refusal> {
        let author = entry.record.author;
        if let Some(kept) = self.standing.removed.get(&author) {
            // Whoever let it stay is an admin.
            return if kept.contains(&entry.hash) {
                Ok(Role::Admin)
            } else {
                Err(Refusal::RemovedAuthor)
            };
        }
        let operator = self.standing.operators.get(&author);
        let operator = operator.ok_or(Refusal::UnknownAuthor(author))?;
        if operator.role >= needed {
            Ok(operator.role)
        } else if keeps(&operator.keep, entry) {
            Ok(Role::Admin)
        } else {
            Err(Refusal::Role { needed, found: operator.role })
        }
    }

    /// Whether a record about an operator, whose author may write such, may count.
    pub(super) fn judge_act(&self, entry: &Entry) -> Result<(), Refusal> {
        self.futile.get(&entry.hash).map_or(Ok(()), |refusal| Err(refusal.clone()))
    }
}

impl Standing {
    /// Whether the author of `entry` is an admin, or `entry` stays all the same.
    fn lets(&self, entry: &Entry) -> bool {
        let author = &entry.record.author;
        if let Some(kept) = self.removed.get(author) {
            return kept.contains(&entry.hash);
        }
        self.is_admin(author)
            || self.operators.get(author).is_some_and(|operator| keeps(&operator.keep, entry))
    }

    fn is_admin(&self, key: &PublicKey) -> bool {
        self.operators.get(key).is_some_and(|operator| operator.role == Role::Admin)
    }

    /// Why the last of `counted` must not count, this being what it leads to.
    fn contradicts(&self, counted: &[&Entry]) -> Option<Refusal> {
        let (last, before) = counted.split_last()?;
        let nobody = !self.operators.values().any(|operator| operator.role == Role::Admin);
        if nobody || !self.lets(last) {
            Some(Refusal::OwnGround)
        } else if before.iter().all(|act| self.lets(act)) {
            None
        } else {
            Some(Refusal::Senior)
        }
    }
}

/// All that was ever said about operators.
struct Field<'a> {
    chain: &'a Chain,
    acts: Vec<&'a Entry>,
    grants: Vec<(&'a Entry, &'a Operator)>,
}

impl<'a> Field<'a> {
    fn of(chain: &'a Chain, records: &'a Records) -> Self {
        let acts: Vec<&Entry> = records.about_operators().collect();
        let grant = |entry: &&'a Entry| {
            if let Body::Operator(operator) = &entry.record.body {
                Some((*entry, operator))
            } else {
                None
            }
        };
        let grants = acts.iter().filter_map(grant).collect();
        Self { chain, acts, grants }
    }

    fn roots(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.chain.former().keys().copied().chain([self.chain.root().key])
    }

    /// Everybody who was ever named by somebody who was. It only grows: a grant is replaced by grants for the same key only.
    fn named(&self) -> BTreeSet<PublicKey> {
        self.closure(|_| true).into_keys().collect()
    }

    fn ranks(&self) -> BTreeMap<PublicKey, Rank> {
        let admins = self.closure(|operator| operator.role == Role::Admin);
        let mut steps: BTreeMap<PublicKey, usize> = self.roots().map(|key| (key, 0)).collect();
        let mut ring: BTreeSet<PublicKey> = steps.keys().copied().collect();
        let mut n_steps = 0_usize;
        while !ring.is_empty() {
            n_steps = n_steps.saturating_add(1);
            let granted = self.grants.iter().filter(|(entry, _)| {
                ring.contains(&entry.record.author) && admins.contains_key(&entry.record.author)
            });
            let granted: BTreeSet<PublicKey> = granted
                .map(|(_, operator)| operator.key)
                .filter(|key| !steps.contains_key(key))
                .collect();
            steps.extend(granted.iter().map(|key| (*key, n_steps)));
            ring = granted;
        }
        steps.into_iter().map(|(key, n)| (key, (n, key))).collect()
    }

    /// The roots, and whoever is reached from them by the grants that `counts` accepts.
    fn closure(&self, counts: impl Fn(&Operator) -> bool) -> BTreeMap<PublicKey, ()> {
        let mut reached: BTreeMap<PublicKey, ()> = self.roots().map(|key| (key, ())).collect();
        loop {
            let more = self.grants.iter().filter(|(entry, operator)| {
                reached.contains_key(&entry.record.author)
                    && !reached.contains_key(&operator.key)
                    && counts(operator)
            });
            let more: Vec<_> = more.map(|(_, operator)| (operator.key, ())).collect();
            if more.is_empty() {
                return reached;
            }
            reached.extend(more);
        }
    }

    /// Whether `act` takes anything away from what stands. Most records about operators do not.
    fn may_change(&self, act: &Entry, standing: &Standing) -> bool {
        if let Body::OperatorRemoval(removal) = &act.record.body {
            return !standing.removed.contains_key(&removal.key);
        }
        let Body::Operator(operator) = &act.record.body else { return false };
        !standing.removed.contains_key(&operator.key)
            && operator.key != self.chain.root().key
            && self.grants.iter().any(|(other, granted)| {
                granted.key == operator.key
                    && granted.role > operator.role
                    && other.order() < act.order()
            })
    }

    /// Who is an operator when exactly `counted` take something away.
    fn standing(&self, counted: &[&Entry]) -> Standing {
        let root = self.chain.root();
        let mut standing =
            Standing { operators: BTreeMap::new(), removed: self.chain.former().clone() };
        let mut demotions: BTreeMap<PublicKey, (&Entry, &Operator)> = BTreeMap::new();
        for act in counted {
            if let Body::OperatorRemoval(removal) = &act.record.body {
                let keep = || removal.keep.iter().map(|kept| kept.hash).collect();
                standing.removed.entry(removal.key).or_insert_with(keep);
            } else if let Body::Operator(operator) = &act.record.body {
                let last = demotions.entry(operator.key).or_insert((act, operator));
                if last.0.order() < act.order() {
                    *last = (act, operator);
                }
            }
        }
        // What they say holds from the beginning, and whether they rest on that alone is asked afterwards.
        let named = demotions.values().map(|(_, operator)| *operator).chain([root]);
        let named = named.filter(|operator| !standing.removed.contains_key(&operator.key));
        let named: Vec<_> = named.map(|operator| (operator.key, operator.clone())).collect();
        standing.operators.extend(named);
        // An admin makes others admins, so operators are found in rounds until nobody rises any more.
        let places = demotions.iter();
        let mut places: BTreeMap<_, _> = places
            .map(|(key, (demotion, operator))| (*key, (operator.role, demotion.order())))
            .collect();
        loop {
            let mut rose = false;
            for (entry, operator) in &self.grants {
                let key = operator.key;
                if key == root.key || standing.removed.contains_key(&key) || !standing.lets(entry) {
                    continue;
                }
                let demotion = demotions.get(&key);
                if demotion.is_some_and(|(demotion, _)| entry.order() < demotion.order()) {
                    continue;
                }
                let place = (operator.role, entry.order());
                if places.get(&key).is_none_or(|other| *other < place) {
                    places.insert(key, place);
                    standing.operators.insert(key, (*operator).clone());
                    rose = true;
                }
            }
            if !rose {
                return standing;
            }
        }
    }
}

fn keeps(keep: &[KeptRecord], entry: &Entry) -> bool {
    keep.iter().any(|kept| kept.hash == entry.hash)
}

#[cfg(test)]
mod tests;
