//! What is put together, and what is not.

use super::{LEASES_MAX, together};
use crate::id::{AppUid, NodeId, SlotId, SlotIndex};
use crate::lease::exclusive::{Answer, LeaseId, StoreId, Token};
use crate::message::Message;

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 10])
}

fn word(store: u128, number: u32) -> Message {
    let index = SlotIndex::Number(number);
    let slot = SlotId { app: AppUid([1; 16]), service: "db".parse().unwrap(), index };
    let answer = Answer::Released { token: Token(u64::from(number)) };
    Message::Word { store: StoreId(store), answers: vec![(LeaseId { slot, reset: 0 }, answer)] }
}

/// How many answers each message has, and to whom it goes.
fn told(messages: Vec<(NodeId, Message)>) -> Vec<(NodeId, Option<usize>)> {
    let told = |(to, message)| {
        let Message::Word { answers, .. } = message else { return (to, None) };
        (to, Some(answers.len()))
    };
    together(messages).into_iter().map(told).collect()
}

#[test]
fn words_to_one_node_go_in_one_message_and_keep_their_order() {
    let said = [(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)];
    let messages = said.map(|(to, number)| (node(to), word(7, number)));
    let all = together(messages);
    let slots = |message: &Message| {
        let Message::Word { answers, .. } = message else { return Vec::new() };
        answers.iter().map(|(lease, _)| lease.slot.index).collect()
    };
    assert_eq!(all.len(), 2);
    assert_eq!(slots(&all[0].1), [0, 2, 4].map(SlotIndex::Number));
    assert_eq!(slots(&all[1].1), [1, 3].map(SlotIndex::Number));
}

#[test]
fn no_message_speaks_of_too_many_leases() {
    let many = u32::try_from(LEASES_MAX).unwrap() * 2 + 1;
    let messages = (0..many).map(|number| (node(1), word(7, number))).collect();
    let full = (node(1), Some(LEASES_MAX));
    assert_eq!(told(messages), [full, full, (node(1), Some(1))]);
}

#[test]
fn words_of_two_stores_and_other_messages_stay_apart() {
    let probe = Message::Probe { nonce: 3 };
    let messages =
        vec![(node(1), word(7, 0)), (node(1), probe), (node(1), word(8, 1)), (node(1), word(7, 2))];
    assert_eq!(told(messages), [(node(1), Some(2)), (node(1), None), (node(1), Some(1))]);
}
