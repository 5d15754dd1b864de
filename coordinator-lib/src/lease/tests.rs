//! The order among claims is one for all, and of others' claims the newest word counts, however it came.

use std::cmp::Ordering;
use std::time::Duration;

use proptest::prelude::{Strategy, any, proptest};

use super::book::Book;
use super::{Contender, best, outranks};
use crate::fact::{Claim, Phase};
use crate::id::{AppUid, Incarnation, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::time::Instant;

fn claim(phase: Phase, crowding: u32) -> Claim {
    let slot = SlotId {
        app: AppUid([7; 16]),
        service: "web".parse().unwrap(),
        index: SlotIndex::Number(0),
    };
    let intent = Claim::intent(slot, Revision { number: 1, id: 1 }, crowding);
    Claim { phase, seq: 1, ..intent }
}

/// The same claim as its holder said it at another time.
fn said(seq: u64, phase: Phase) -> Claim {
    Claim { seq, ..claim(phase, 0) }
}

fn node(n: u8) -> NodeId {
    NodeId::of(&PublicKey([n; 32]))
}

fn at(seconds: u64) -> Instant {
    Instant::from_start(Duration::from_secs(seconds))
}

fn entrant() -> impl Strategy<Value = (u8, u32, u32)> {
    (any::<u8>(), 1_u32..300, 0_u32..3)
}

fn order(a: &Contender<'_>, b: &Contender<'_>) -> Ordering {
    match (outranks(a, b), outranks(b, a)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => Ordering::Equal,
        (true, true) => panic!("each outranks the other"),
    }
}

proptest! {
    /// A strict total order: two nodes never disagree for long about who gives way.
    #[test]
    fn claims_of_different_nodes_are_strictly_ordered(
        a in entrant(), b in entrant(), c in entrant(), phase in 0_usize..3,
    ) {
        let phase = [Phase::Intent, Phase::Starting, Phase::Ready][phase];
        let claims = [a, b, c].map(|(_, _, crowding)| claim(phase, crowding));
        let [a, b, c] = [(a, 0), (b, 1), (c, 2)].map(|((n, weight, _), index)| Contender {
            node: node(n), weight, claim: &claims[index],
        });
        if a.node != b.node {
            assert_ne!(order(&a, &b), Ordering::Equal);
        }
        if outranks(&a, &b) && outranks(&b, &c) {
            assert!(outranks(&a, &c));
        }
        let winners = [[a, b, c], [c, b, a], [b, a, c]].map(|list| best(list.into_iter()).unwrap());
        assert!(winners.iter().all(|winner| order(winner, &winners[0]) == Ordering::Equal));
    }

    /// The phase changes while a claim stands, so it must not move it.
    #[test]
    fn the_phase_is_not_in_the_order(a in entrant(), b in entrant()) {
        let orders = [Phase::Intent, Phase::Starting, Phase::Ready].map(|phase| {
            let [one, other] = [claim(phase, a.2), claim(Phase::Ready, b.2)];
            order(
                &Contender { node: node(a.0), weight: a.1, claim: &one },
                &Contender { node: node(b.0), weight: b.1, claim: &other },
            )
        });
        assert!(orders.iter().all(|order| *order == orders[0]));
    }
}

fn phase(book: &Book) -> Option<Phase> {
    book.all().map(|(_, held)| held.claim.phase).next()
}

/// Gossip's rounds are slower than direct words, and a direct word may be repeated long after.
#[test]
fn an_older_word_never_replaces_a_newer_one() {
    for (newer_by_gossip, older_by_gossip) in [(false, true), (true, false), (false, false)] {
        let mut book = Book::default();
        book.put(at(0), node(1), Incarnation(1), said(3, Phase::Ready), newer_by_gossip);
        book.put(at(1), node(1), Incarnation(1), said(2, Phase::Starting), older_by_gossip);
        assert_eq!(phase(&book), Some(Phase::Ready));
        book.put(at(1), node(1), Incarnation(1), said(4, Phase::Unhealthy), older_by_gossip);
        assert_eq!(phase(&book), Some(Phase::Unhealthy));
    }
}

/// An agent of an earlier version numbers nothing.
#[test]
fn a_new_life_is_believed_whatever_its_numbers() {
    let mut book = Book::default();
    book.put(at(0), node(1), Incarnation(1), said(9, Phase::Ready), true);
    book.put(at(1), node(1), Incarnation(2), said(0, Phase::Starting), true);
    assert_eq!(phase(&book), Some(Phase::Starting));
    book.put(at(1), node(1), Incarnation(2), said(0, Phase::Ready), false);
    book.put(at(1), node(1), Incarnation(1), said(10, Phase::Starting), true);
    assert_eq!(phase(&book), Some(Phase::Ready));
}

#[test]
fn what_was_taken_back_is_not_brought_back_by_a_late_announcement() {
    let mut book = Book::default();
    book.put(at(0), node(1), Incarnation(1), said(3, Phase::Released), true);
    book.withdraw(node(1), Incarnation(1), claim(Phase::Ready, 0).key());
    book.put(at(1), node(1), Incarnation(1), said(2, Phase::Ready), false);
    assert_eq!(phase(&book), None);
    book.put(at(1), node(1), Incarnation(1), said(4, Phase::Intent), false);
    assert_eq!(phase(&book), Some(Phase::Intent));
}

#[test]
fn a_late_withdrawal_spares_the_claim_that_was_announced_since() {
    let mut book = Book::default();
    book.put(at(0), node(1), Incarnation(1), said(3, Phase::Released), true);
    book.put(at(1), node(1), Incarnation(1), said(4, Phase::Intent), false);
    book.withdraw(node(1), Incarnation(1), claim(Phase::Ready, 0).key());
    assert_eq!(phase(&book), Some(Phase::Intent));
    assert_eq!(book.expire(at(2)), Some(at(11)), "it has to be confirmed again");
}

#[test]
fn an_announcement_that_gossip_never_confirms_is_dropped() {
    let mut book = Book::default();
    book.put(at(0), node(1), Incarnation(1), claim(Phase::Intent, 0), false);
    book.expire(at(9));
    assert_eq!(book.all().count(), 1);
    book.expire(at(10));
    assert_eq!(book.all().count(), 0);
}

#[test]
fn claims_of_an_earlier_life_stand_until_the_new_one_has_said_all() {
    let mut book = Book::default();
    book.put(at(0), node(1), Incarnation(1), claim(Phase::Ready, 0), true);
    let mut other = claim(Phase::Ready, 0);
    other.slot.index = SlotIndex::Number(1);
    book.put(at(1), node(1), Incarnation(2), other, true);
    assert_eq!(book.all().count(), 2);
    book.complete(node(1), Incarnation(2));
    assert_eq!(book.all().count(), 1);
}
