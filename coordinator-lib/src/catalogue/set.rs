//! The set of records: what is kept, in which order, and how two sets are compared.

use std::collections::BTreeMap;

use super::authority::{Authority, Refusal};
use super::quota;
use super::record::{Body, Entry, RecordKey};
use super::state::State;
use crate::id::{Hash, MeshId, PublicKey};
use crate::rules::{Rule, Rules};

/// Into how many buckets a set is divided for comparison. 256 keeps a digest at 2 KiB, and the records that share a bucket with
/// a changed one few.
pub const BUCKETS: usize = 256;

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is new here, or better than what its author wrote before under this key.
    Applied,
    /// It, or a better one of the same author, was here already.
    Known,
    /// It is not applied. The set is as it was.
    Refused(Refusal),
}

/// For each key, of every author, the best record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    rules: Rules,
    by_key: BTreeMap<RecordKey, BTreeMap<PublicKey, Entry>>,
}

impl Records {
    fn order(&self, entry: &Entry) -> (u64, u64, u32, Hash) {
        let (generation, written, tie, hash) = entry.order();
        (if self.rules.hold(Rule::Generation) { generation } else { 0 }, written, tie, hash)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.by_key.keys()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.by_key.values().flat_map(BTreeMap::values)
    }

    /// The record of `author` under `key`.
    pub(crate) fn of_author(&self, key: &RecordKey, author: &PublicKey) -> Option<&Entry> {
        self.by_key.get(key)?.get(author)
    }

    /// The records that make, change and remove operators.
    pub(crate) fn about_operators(&self) -> impl Iterator<Item = &Entry> {
        let first = RecordKey::Operator(PublicKey([0; 32]));
        let entries = self.by_key.range(first..).flat_map(|(_, authors)| authors.values());
        entries.take_while(|entry| {
            matches!(entry.record.body, Body::Operator(_) | Body::OperatorRemoval(_))
        })
    }

    /// The last record of `author` in the order of keys.
    fn last_of(&self, author: &PublicKey) -> Option<&Entry> {
        self.by_key.values().rev().find_map(|authors| authors.get(author))
    }

    /// The best record under `key` among those that `stands` accepts.
    pub(crate) fn best(&self, key: &RecordKey, stands: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let authors = self.by_key.get(key)?;
        authors.values().filter(|entry| stands(entry)).max_by_key(|entry| self.order(entry))
    }
}

/// What this node knows of what operators want.
#[derive(Debug, Clone)]
pub struct Catalogue {
    mesh: MeshId,
    records: Records,
    by_hash: BTreeMap<Hash, (RecordKey, PublicKey)>,
    buckets: Vec<u64>,
    /// Of all buckets together, kept because it is asked for after every input.
    root: u64,
    /// What the records of each author cost.
    costs: BTreeMap<PublicKey, usize>,
    /// Records that had to make room for others of their authors since [`Catalogue::purge`] was asked last.
    evicted: Vec<Hash>,
    authority: Authority,
    state: State,
}

impl Catalogue {
    /// An empty catalogue of `mesh`.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self {
            mesh,
            records: Records::default(),
            by_hash: BTreeMap::new(),
            buckets: vec![0; BUCKETS],
            root: 0,
            costs: BTreeMap::new(),
            evicted: Vec::new(),
            authority: Authority::default(),
            state: State::default(),
        }
    }

    pub(crate) const fn set_rules(&mut self, rules: Rules) {
        self.records.rules = rules;
    }

    /// The mesh.
    #[must_use]
    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// What holds.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The record that holds under `key`.
    #[must_use]
    pub fn record(&self, key: &RecordKey) -> Option<&Entry> {
        self.records.best(key, |entry| self.authority.judge(entry).is_ok())
    }

    /// The record of `author` under `key`.
    pub(crate) fn of_author(&self, key: &RecordKey, author: &PublicKey) -> Option<&Entry> {
        self.records.of_author(key, author)
    }

    /// All records, the genesis record first.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.records.all()
    }

    /// The record of this hash.
    #[must_use]
    pub fn by_hash(&self, hash: &Hash) -> Option<&Entry> {
        let (key, author) = self.by_hash.get(hash)?;
        self.records.by_key.get(key)?.get(author)
    }

    /// A hash of the whole set.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.root
    }

    /// The hash of each bucket.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// The hashes of the records in bucket `index`.
    pub fn in_bucket(&self, index: u32) -> impl Iterator<Item = Hash> + '_ {
        self.by_hash.keys().filter(move |hash| u32::from(bucket_of(hash)) == index).copied()
    }

    /// The records of `author` that stand, and that somebody who removes the author would let stay.
    pub fn standing_of(&self, author: PublicKey) -> impl Iterator<Item = &Entry> {
        self.all().filter(move |entry| {
            entry.record.author == author
                && !matches!(entry.record.body, Body::Genesis(_))
                && self.authority.judge(entry).is_ok()
        })
    }

    /// Whether `entry` may be kept and passed on by what is known now.
    fn admit(&self, entry: &Entry) -> Result<(), Refusal> {
        self.check_mesh(entry)?;
        self.authority.admit(entry)
    }

    /// Whether `entry` stands by what is known now.
    ///
    /// # Errors
    /// When it does not.
    pub fn judge(&self, entry: &Entry) -> Result<(), Refusal> {
        self.check_mesh(entry)?;
        self.authority.judge(entry)
    }

    fn check_mesh(&self, entry: &Entry) -> Result<(), Refusal> {
        let is_genesis = matches!(entry.record.body, Body::Genesis(_));
        let ours =
            if is_genesis { entry.hash == self.mesh.0 } else { entry.record.mesh == self.mesh };
        if ours { Ok(()) } else { Err(Refusal::OtherMesh) }
    }

    /// Whether each of `entries`, which somebody hands in here together, may be taken: it has to have an effect, to follow what is
    /// known, to stay within what its author may write, and to let nothing stay that is not here. Returns why not, and with what
    /// else they have to be stored: the records that they let stay, so that nobody replaces those meanwhile.
    #[must_use]
    pub fn check(&self, entries: &[Entry]) -> (Vec<(Hash, Refusal)>, Vec<Entry>) {
        let mut trial = self.clone();
        let outcomes = trial.extend(entries.to_vec());
        let mut refused = Vec::new();
        let mut kept = BTreeMap::new();
        for (entry, outcome) in outcomes {
            let refusal = match outcome {
                Inserted::Refused(refusal) => Some(refusal),
                Inserted::Applied | Inserted::Known => {
                    self.check_step(&entry).and_then(|()| trial.check_effect(&entry, self)).err()
                }
            };
            refused.extend(refusal.map(|refusal| (entry.hash, refusal)));
            for hash in entry.record.body.keep().iter().map(|kept| kept.hash) {
                match trial.by_hash(&hash).or_else(|| entries.iter().find(|it| it.hash == hash)) {
                    Some(entry) => drop(kept.insert(hash, entry.clone())),
                    None => refused.push((entry.hash, Refusal::UnknownKept(hash))),
                }
            }
        }
        kept.retain(|hash, _| entries.iter().all(|entry| entry.hash != *hash));
        (refused, kept.into_values().collect())
    }

    /// Whether `entry`, which is part of this set, does something here, and its author has room for it.
    fn check_effect(&self, entry: &Entry, before: &Self) -> Result<(), Refusal> {
        self.authority.judge(entry)?;
        self.authority.check_effect(entry)?;
        if entry.record.body.is_removal() || before.by_hash(&entry.hash).is_some() {
            return Ok(());
        }
        let cost = self.costs.get(&entry.record.author).copied().unwrap_or(0);
        if cost > quota::AUTHOR_SUBMIT_MAX {
            return Err(Refusal::AuthorQuota { cost, max: quota::AUTHOR_SUBMIT_MAX });
        }
        let cost = self.costs.values().sum();
        if cost > quota::TOTAL_SUBMIT_MAX {
            return Err(Refusal::TotalQuota { cost, max: quota::TOTAL_SUBMIT_MAX });
        }
        Ok(())
    }

    /// Applies one record; see [`Catalogue::extend`] for several that may depend on each other.
    pub fn insert(&mut self, entry: Entry) -> Inserted {
        self.extend(vec![entry]).pop().map_or(Inserted::Known, |(_, outcome)| outcome)
    }

    /// Applies records in whatever order their authority demands, and says what became of each.
    pub fn extend(&mut self, entries: Vec<Entry>) -> Vec<(Entry, Inserted)> {
        let mut outcomes = Vec::new();
        let mut waiting = entries;
        // An author's own record can come behind what the author wrote: go round until nothing more becomes good.
        loop {
            let mut refused = Vec::new();
            let mut applied = false;
            for entry in std::mem::take(&mut waiting) {
                match self.admit(&entry) {
                    Ok(()) => {
                        let n_evicted = self.evicted.len();
                        let outcome = self.keep(&entry);
                        let establishes = self.evicted.len() != n_evicted
                            || outcome == Inserted::Applied
                                && establishes_authority(&entry.record.body);
                        if establishes {
                            self.authority = Authority::establish(&self.records);
                        }
                        applied |= establishes;
                        outcomes.push((entry, outcome));
                    }
                    Err(refusal) => refused.push((entry, refusal)),
                }
            }
            if !applied || refused.is_empty() {
                outcomes.extend(
                    refused.into_iter().map(|(entry, refusal)| (entry, Inserted::Refused(refusal))),
                );
                break;
            }
            waiting = refused.into_iter().map(|(entry, _)| entry).collect();
        }
        if outcomes.iter().any(|(_, outcome)| *outcome == Inserted::Applied) {
            self.state =
                State::resolve(self.mesh, &self.records, &self.authority, self.records.rules);
        }
        outcomes
    }

    /// Takes out the records that turned out to be void, and returns the hashes of all that were taken out since the last time.
    pub fn purge(&mut self) -> Vec<Hash> {
        let void = self.records.all().filter(|entry| self.authority.admit(entry).is_err());
        let void: Vec<Hash> = void.map(|entry| entry.hash).collect();
        for hash in &void {
            self.remove(hash);
        }
        let mut gone = std::mem::take(&mut self.evicted);
        gone.extend(void);
        gone.retain(|hash| !self.by_hash.contains_key(hash));
        gone
    }

    fn keep(&mut self, entry: &Entry) -> Inserted {
        let key = entry.record.body.key();
        let author = entry.record.author;
        if let Some(before) = self.records.of_author(&key, &author) {
            // What is void makes way even for what is older: the author may have been removed, and this is what stays.
            let stands = self.authority.admit(before).is_ok();
            if stands && self.records.order(before) >= self.records.order(entry)
                || before.hash == entry.hash
            {
                return Inserted::Known;
            }
            let hash = before.hash;
            self.remove(&hash);
        }
        self.toggle(&entry.hash);
        self.by_hash.insert(entry.hash, (key.clone(), author));
        self.records.by_key.entry(key).or_default().insert(author, entry.clone());
        let cost = self.costs.entry(author).or_default();
        *cost = cost.saturating_add(quota::cost(entry));
        self.evict(author);
        if self.by_hash.contains_key(&entry.hash) {
            return Inserted::Applied;
        }
        let cost = self.costs.get(&author).copied().unwrap_or(0);
        let cost = cost.saturating_add(quota::cost(entry));
        Inserted::Refused(Refusal::AuthorQuota { cost, max: quota::AUTHOR_COST_MAX })
    }

    /// Takes out the last records of `author` until the rest is within the quota.
    fn evict(&mut self, author: PublicKey) {
        while self.costs.get(&author).is_some_and(|cost| *cost > quota::AUTHOR_COST_MAX) {
            let Some(last) = self.records.last_of(&author) else { return };
            let hash = last.hash;
            self.remove(&hash);
            self.evicted.push(hash);
        }
    }

    fn remove(&mut self, hash: &Hash) {
        let Some((key, author)) = self.by_hash.remove(hash) else { return };
        self.toggle(hash);
        let Some(authors) = self.records.by_key.get_mut(&key) else { return };
        let removed = authors.remove(&author);
        if authors.is_empty() {
            self.records.by_key.remove(&key);
        }
        let freed = removed.as_ref().map_or(0, quota::cost);
        let left = self.costs.get(&author).copied().unwrap_or(0).saturating_sub(freed);
        if left == 0 {
            self.costs.remove(&author);
        } else {
            self.costs.insert(author, left);
        }
    }

    /// Buckets are exclusive-ors, so adding and taking out are one operation and order does not matter.
    fn toggle(&mut self, hash: &Hash) {
        if let Some(bucket) = self.buckets.get_mut(usize::from(bucket_of(hash))) {
            *bucket ^= hash.head();
        }
        // Another word of the hash than the buckets take: a set that collides in all its buckets does not collide here.
        self.root ^= hash.tail();
    }
}

const fn bucket_of(hash: &Hash) -> u8 {
    let [.., last] = hash.0;
    last
}

const fn establishes_authority(body: &Body) -> bool {
    match body {
        Body::Genesis(_)
        | Body::Recovery(_)
        | Body::Operator(_)
        | Body::OperatorRemoval(_)
        | Body::Invitation(_)
        | Body::Member(_)
        | Body::MemberRemoval { .. } => true,
        Body::Settings(_)
        | Body::Address(_)
        | Body::Labels(_)
        | Body::Drain(_)
        | Body::App(_)
        | Body::AppRemoval { .. }
        | Body::Scale(_)
        | Body::SlotReset(_)
        | Body::Restart(_)
        | Body::Run(_)
        | Body::Image { .. } => false,
    }
}
