//! An author who writes too much is refused, and what is too much is agreed on.

use super::{AUTHOR_COST_MAX, AUTHOR_SUBMIT_MAX, TOTAL_SUBMIT_MAX, cost};
use crate::catalogue::sample::{ROOT, Sample, key};
use crate::catalogue::{Body, Catalogue, Entry, Inserted, Refusal, Role, SignedBytes};
use crate::id::{AppUid, PublicKey};
use crate::prng::Prng;

/// As long as a record can be.
const LEN: usize = 64 << 10;

fn long(sample: &Sample, author: PublicKey, n: usize) -> Entry {
    let digest = String::new();
    let entry = sample.says(author, 1, Body::Image { name: format!("{n:05}"), digest });
    let mut bytes = entry.signed.bytes.clone();
    bytes.resize(LEN, 0);
    let signed = SignedBytes { bytes, ..entry.signed };
    let hash = signed.digest();
    Entry { signed, hash, ..entry }
}

fn spent(catalogue: &Catalogue, author: PublicKey) -> usize {
    catalogue.all().filter(|entry| entry.record.author == author).map(cost).sum()
}

#[test]
fn what_an_author_writes_beyond_the_quota_is_refused_where_it_is_handed_in() {
    let sample = Sample::new();
    let n = AUTHOR_SUBMIT_MAX / LEN;
    let mut entries: Vec<Entry> = (0..n).map(|n| long(&sample, key(5), n)).collect();
    entries.push(sample.operator(key(5), Role::Deployer));
    let catalogue = sample.catalogue(&entries);
    let (refused, _) = catalogue.check(&[long(&sample, key(5), n)]);
    assert!(matches!(refused[..], [(_, Refusal::AuthorQuota { max: AUTHOR_SUBMIT_MAX, .. })]));
    let (refused, _) = catalogue.check(&[long(&sample, ROOT, n)]);
    assert_eq!(refused, [], "others go on");
    let name = "web".parse().unwrap();
    let removal = sample.says(key(5), 1, Body::AppRemoval { app: AppUid([1; 16]), name });
    let (refused, _) = catalogue.check(&[removal]);
    assert_eq!(refused, [], "and the author still removes");
}

#[test]
fn when_all_is_full_nobody_writes_more_and_admins_still_remove() {
    let sample = Sample::new();
    let n_authors = u8::try_from(TOTAL_SUBMIT_MAX / AUTHOR_COST_MAX + 1).unwrap();
    let mut catalogue = sample.catalogue(&[]);
    for author in 5..5 + n_authors {
        catalogue.insert(sample.operator(key(author), Role::Deployer));
        let n = AUTHOR_COST_MAX / LEN;
        catalogue.extend((0..n).map(|n| long(&sample, key(author), n)).collect());
    }
    let (refused, _) = catalogue.check(&[long(&sample, ROOT, 1)]);
    assert!(matches!(refused[..], [(_, Refusal::TotalQuota { .. })]));
    let (refused, _) = catalogue.check(&[sample.removes(ROOT, key(5), &[])]);
    assert_eq!(refused, []);
    catalogue.insert(sample.removes(ROOT, key(5), &[]));
    assert!(!catalogue.purge().is_empty());
    assert_eq!(spent(&catalogue, key(5)), 0, "with the author the flood goes");
}

#[test]
fn what_stays_of_too_much_depends_on_nothing_but_the_records() {
    let sample = Sample::new();
    let n = AUTHOR_COST_MAX / LEN + 40;
    let mut entries: Vec<Entry> = (0..n).map(|n| long(&sample, key(5), n)).collect();
    let others = [sample.operator(key(5), Role::Deployer), long(&sample, ROOT, 7)];
    let mut prng = Prng::new(3);
    let mut expected = None;
    for _ in 0..3 {
        prng.shuffle(&mut entries);
        let mut node = sample.catalogue(&others);
        for entry in &entries {
            node.insert(entry.clone());
        }
        let gone = node.purge();
        assert!(gone.iter().all(|hash| node.by_hash(hash).is_none()));
        assert!(spent(&node, key(5)) <= AUTHOR_COST_MAX);
        assert_eq!(
            node.all().count(),
            3 + AUTHOR_COST_MAX / (LEN + 512),
            "the others' records stay"
        );
        let found = (node.root(), node.state().clone());
        assert_eq!(expected.get_or_insert_with(|| found.clone()), &found);
    }
}

#[test]
fn a_flood_of_apps_leaves_what_its_author_said_of_operators() {
    let sample = Sample::new();
    let entries: Vec<Entry> =
        (0..AUTHOR_COST_MAX / LEN + 5).map(|n| long(&sample, ROOT, n)).collect();
    let mut catalogue = sample.catalogue(&entries);
    assert_eq!(catalogue.insert(sample.operator(key(5), Role::Admin)), Inserted::Applied);
    assert!(!catalogue.purge().is_empty(), "it took the room of an app");
    assert!(catalogue.state().operators.contains_key(&key(5)));
    assert!(spent(&catalogue, ROOT) <= AUTHOR_COST_MAX);
}
