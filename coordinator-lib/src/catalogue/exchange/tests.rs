//! A peer that asks for much gets an answer of bounded length.

use super::super::sample::{ROOT, Sample, key};
use super::super::{Body, Drain, Entry, SignedBytes};
use super::{ANSWER_LEN_MAX, Exchange, RECORDS_MAX};
use crate::id::{Hash, NodeId};
use crate::message::Message;

fn drain(sample: &Sample, n: u8) -> Entry {
    sample.says(ROOT, 1, Body::Drain(Drain { node: NodeId::of(&key(n)), drained: true }))
}

fn n_records(messages: &[Message]) -> usize {
    let lengths = messages
        .iter()
        .map(|message| if let Message::Records(entries) = message { entries.len() } else { 0 });
    lengths.sum()
}

#[test]
fn a_record_that_is_asked_for_often_is_sent_once() {
    let sample = Sample::new();
    let entry = drain(&sample, 9);
    let catalogue = sample.catalogue(std::slice::from_ref(&entry));
    let wanted = vec![entry.hash; 100_000];
    assert_eq!(n_records(&Exchange::on_want(&wanted, &catalogue)), 1);
}

#[test]
fn a_bucket_that_is_named_often_is_read_once() {
    let sample = Sample::new();
    let entries: Vec<Entry> = (9..200).map(|n| drain(&sample, n)).collect();
    let catalogue = sample.catalogue(&entries);
    let buckets: Vec<u32> = (0..1_000_000).map(|n| n % 300).collect();
    let mut exchange = Exchange::default();
    let node = NodeId::of(&key(9));
    let messages = exchange.on_have(node, &buckets, &[], &catalogue);
    assert_eq!(n_records(&messages), catalogue.all().count(), "each record once");
}

#[test]
fn an_answer_has_a_longest_length_and_the_next_one_goes_on() {
    let sample = Sample::new();
    let long = |n: u8| {
        let entry = drain(&sample, n);
        let bytes = vec![n; 64 << 10];
        let signed = SignedBytes { bytes, ..entry.signed };
        let hash = signed.digest();
        Entry { signed, hash, ..entry }
    };
    let entries: Vec<Entry> = (0..=255).flat_map(|n| [long(n)]).collect();
    let mut more = entries.clone();
    more.extend((2..60).map(|n| {
        let entry = sample.says(key(n), 1, entries[usize::from(n)].record.body.clone());
        let bytes = [n, 1].repeat(32 << 10);
        let signed = SignedBytes { bytes, ..entry.signed };
        let hash = signed.digest();
        Entry { signed, hash, ..entry }
    }));
    let operators: Vec<Entry> =
        (2..60).map(|n| sample.operator(key(n), super::super::Role::Admin)).collect();
    let catalogue = sample.catalogue(&[operators, more].concat());
    let mut lacked: Vec<Hash> = catalogue.all().map(|entry| entry.hash).collect();
    let mut n_rounds = 0;
    while !lacked.is_empty() {
        n_rounds += 1;
        let messages = Exchange::on_want(&lacked, &catalogue);
        let mut length = 0;
        for message in messages {
            let Message::Records(entries) = message else { panic!("no records") };
            assert!(entries.len() <= RECORDS_MAX);
            length += entries.iter().map(|entry| entry.signed.bytes.len()).sum::<usize>();
            lacked.retain(|hash| entries.iter().all(|entry| entry.hash != *hash));
        }
        assert!(length <= ANSWER_LEN_MAX, "{length} bytes at once");
        assert!(n_rounds < 10);
    }
    assert!(n_rounds > 1);
}
