//! A small mesh for tests: records as if they were signed, and catalogues of them in any order.

use super::{
    Body, Catalogue, Entry, Genesis, KeptRecord, Operator, OperatorRemoval, Record, Recovery, Role,
    SignedBytes, Stamp,
};
use crate::id::{Hash, MeshId, PublicKey, Signature};
use crate::prng::Prng;
use crate::time::WallTime;

pub(crate) const ROOT: PublicKey = PublicKey([1; 32]);

/// The first recovery key.
pub(crate) const RECOVERY: PublicKey = PublicKey([2; 32]);

pub(crate) fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

pub(crate) struct Sample {
    pub(crate) mesh: MeshId,
    pub(crate) genesis: Entry,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let genesis = entry(
            MeshId(Hash([0; 32])),
            (ROOT, 1, None),
            Body::Genesis(Genesis {
                name: "home".parse().unwrap(),
                root: ROOT,
                root_name: "root".parse().unwrap(),
                recovery: RECOVERY,
                nonce: [3; 16],
            }),
        );
        Self { mesh: MeshId(genesis.hash), genesis }
    }

    /// What `author` says in this generation, following nothing.
    pub(crate) fn says(&self, author: PublicKey, generation: u64, body: Body) -> Entry {
        entry(self.mesh, (author, generation, None), body)
    }

    pub(crate) fn follows(&self, parent: &Entry, generation: u64, body: Body) -> Entry {
        entry(self.mesh, (parent.record.author, generation, Some(parent.hash)), body)
    }

    pub(crate) fn operator(&self, key: PublicKey, role: Role) -> Entry {
        let name = "someone".parse().unwrap();
        self.says(ROOT, 1, Body::Operator(Operator { key, name, role, keep: Vec::new() }))
    }

    /// A rotation of the root with `author`, at this place in the chain.
    pub(crate) fn rotation(
        &self,
        (author, generation): (PublicKey, u64),
        (root, recovery): (PublicKey, PublicKey),
        keep: &[&Entry],
    ) -> Entry {
        let recovery =
            Recovery { root, root_name: "anew".parse().unwrap(), recovery, keep: kept(keep) };
        self.says(author, generation, Body::Recovery(recovery))
    }

    pub(crate) fn names(
        &self,
        (author, generation): (PublicKey, u64),
        key: PublicKey,
        role: Role,
    ) -> Entry {
        let name = "someone".parse().unwrap();
        let operator = Operator { key, name, role, keep: Vec::new() };
        self.says(author, generation, Body::Operator(operator))
    }

    pub(crate) fn removes(&self, author: PublicKey, key: PublicKey, keep: &[&Entry]) -> Entry {
        let removal = OperatorRemoval { key, keep: kept(keep) };
        self.says(author, 1, Body::OperatorRemoval(removal))
    }

    pub(crate) fn catalogue(&self, entries: &[Entry]) -> Catalogue {
        let mut catalogue = Catalogue::new(self.mesh);
        catalogue.insert(self.genesis.clone());
        catalogue.extend(entries.to_vec());
        catalogue
    }

    /// Checks that one node that got `entries` in one order, and others that got them in other orders one by one and then heard of
    /// each other, hold the same; and returns it.
    pub(crate) fn in_any_order(&self, entries: &[Entry]) -> Catalogue {
        let mut prng = Prng::new(7);
        let mut expected = self.catalogue(entries);
        expected.purge();
        expected.extend(entries.to_vec());
        for _ in 0..40 {
            let mut shuffled = entries.to_vec();
            prng.shuffle(&mut shuffled);
            let mut other = self.catalogue(&[]);
            for entry in &shuffled {
                other.insert(entry.clone());
            }
            // Records that came before their authority come again by the exchange.
            for _ in 0..3 {
                other.purge();
                other.extend(entries.to_vec());
            }
            other.purge();
            expected.purge();
            assert_eq!(other.root(), expected.root());
            assert_eq!(other.state(), expected.state());
        }
        expected
    }
}

/// Lets the sides of a split exchange what each has left until nothing changes, and checks that they agree.
pub(crate) fn heal(sides: &mut [Catalogue]) {
    for _ in 0..20 {
        let before: Vec<u64> = sides.iter().map(Catalogue::root).collect();
        for to in 0..sides.len() {
            for from in 0..sides.len() {
                let theirs = sides[from].all().cloned().collect();
                sides[to].extend(theirs);
                sides[to].purge();
            }
        }
        let after: Vec<u64> = sides.iter().map(Catalogue::root).collect();
        if before == after {
            break;
        }
    }
    for other in sides.iter().skip(1) {
        assert_eq!(other.root(), sides[0].root());
        assert_eq!(other.state(), sides[0].state());
    }
}

pub(crate) fn kept(entries: &[&Entry]) -> Vec<KeptRecord> {
    entries.iter().map(|entry| KeptRecord { hash: entry.hash }).collect()
}

fn entry(
    mesh: MeshId,
    (author, generation, parent): (PublicKey, u64, Option<Hash>),
    body: Body,
) -> Entry {
    let stamp = Stamp { generation, written: WallTime(1), tie: 0 };
    let record = Record { mesh, stamp, parent, author, body };
    let signed =
        SignedBytes { bytes: format!("{record:?}").into_bytes(), signature: Signature([0; 64]) };
    let hash = signed.digest();
    Entry { record, signed, hash, invitation_verified: true }
}
