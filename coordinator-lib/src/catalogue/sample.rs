//! A small mesh for tests: records as if they were signed, and catalogues of them in any order.

use super::{Body, Catalogue, Entry, Genesis, Operator, Record, Role, SignedBytes, Stamp};
use crate::id::{Hash, MeshId, PublicKey, Signature};
use crate::prng::Prng;
use crate::time::WallTime;

pub(super) const ROOT: PublicKey = PublicKey([1; 32]);

pub(super) fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

pub(super) struct Sample {
    pub(super) mesh: MeshId,
    pub(super) genesis: Entry,
}

impl Sample {
    pub(super) fn new() -> Self {
        let genesis = entry(
            MeshId(Hash([0; 32])),
            (ROOT, 1, None),
            Body::Genesis(Genesis {
                name: "home".parse().unwrap(),
                root: ROOT,
                root_name: "root".parse().unwrap(),
                recovery: key(2),
                nonce: [3; 16],
            }),
        );
        Self { mesh: MeshId(genesis.hash), genesis }
    }

    /// What `author` says in this generation, following nothing.
    pub(super) fn says(&self, author: PublicKey, generation: u64, body: Body) -> Entry {
        entry(self.mesh, (author, generation, None), body)
    }

    pub(super) fn follows(&self, parent: &Entry, generation: u64, body: Body) -> Entry {
        entry(self.mesh, (parent.record.author, generation, Some(parent.hash)), body)
    }

    pub(super) fn operator(&self, key: PublicKey, role: Role) -> Entry {
        let name = "someone".parse().unwrap();
        self.says(ROOT, 1, Body::Operator(Operator { key, name, role }))
    }

    pub(super) fn catalogue(&self, entries: &[Entry]) -> Catalogue {
        let mut catalogue = Catalogue::new(self.mesh);
        catalogue.insert(self.genesis.clone());
        catalogue.extend(entries.to_vec());
        catalogue
    }

    /// Checks that one node that got `entries` in one order, and others that got them in other orders one by one and then heard of
    /// each other, hold the same; and returns it.
    pub(super) fn in_any_order(&self, entries: &[Entry]) -> Catalogue {
        let mut prng = Prng::new(7);
        let expected = self.catalogue(entries);
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
            let mut same = expected.clone();
            same.purge();
            assert_eq!(other.root(), same.root());
            assert_eq!(other.state(), same.state());
        }
        expected
    }
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
