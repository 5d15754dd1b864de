//! The set of records: what is kept, in which order, and how two sets are compared.

use std::collections::BTreeMap;

use super::authority::{Authority, Refusal};
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

    pub(crate) fn by_author<'a>(
        &'a self,
        author: &'a PublicKey,
    ) -> impl Iterator<Item = &'a Entry> {
        self.by_key.values().filter_map(move |authors| authors.get(author))
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
        self.records.by_key.get(key)?.get(author)
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

    /// Whether `entry` would be applied, without applying it. Judges by what is known now.
    ///
    /// # Errors
    /// When it would be refused.
    pub fn judge(&self, entry: &Entry) -> Result<(), Refusal> {
        let is_genesis = matches!(entry.record.body, Body::Genesis(_));
        let ours =
            if is_genesis { entry.hash == self.mesh.0 } else { entry.record.mesh == self.mesh };
        if ours { self.authority.judge(entry) } else { Err(Refusal::OtherMesh) }
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
                match self.judge(&entry) {
                    Ok(()) => {
                        let outcome = self.keep(&entry);
                        let establishes = outcome == Inserted::Applied
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

    /// Takes out the records that turned out to be void, and returns their hashes.
    pub fn purge(&mut self) -> Vec<Hash> {
        let void: Vec<Hash> = self
            .records
            .all()
            .filter(|entry| self.authority.judge(entry).is_err())
            .map(|entry| entry.hash)
            .collect();
        for hash in &void {
            self.remove(hash);
        }
        void
    }

    fn keep(&mut self, entry: &Entry) -> Inserted {
        let key = entry.record.body.key();
        let before =
            self.records.by_key.get(&key).and_then(|authors| authors.get(&entry.record.author));
        if let Some(before) = before {
            if self.records.order(before) >= self.records.order(entry) {
                return Inserted::Known;
            }
            let hash = before.hash;
            self.remove(&hash);
        }
        self.toggle(&entry.hash);
        self.by_hash.insert(entry.hash, (key.clone(), entry.record.author));
        self.records.by_key.entry(key).or_default().insert(entry.record.author, entry.clone());
        Inserted::Applied
    }

    fn remove(&mut self, hash: &Hash) {
        let Some((key, author)) = self.by_hash.remove(hash) else { return };
        self.toggle(hash);
        if let Some(authors) = self.records.by_key.get_mut(&key) {
            authors.remove(&author);
            if authors.is_empty() {
                self.records.by_key.remove(&key);
            }
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
        | Body::Restart(_)
        | Body::Run(_)
        | Body::Image { .. } => false,
    }
}
