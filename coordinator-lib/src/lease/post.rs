//! What a node has to say to others about leases: one message each, whatever the number of leases.

use std::collections::BTreeMap;

use super::exclusive::{Answer, LeaseId, Request, StoreId};
use crate::id::NodeId;
use crate::message::Message;
use crate::node::Output;

/// The most leases that one message speaks of: some 30 KB.
const LEASES_MAX: usize = 256;

/// Messages that have not left yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Post {
    requests: BTreeMap<NodeId, Vec<(LeaseId, Request)>>,
    answers: BTreeMap<NodeId, Vec<(LeaseId, Answer)>>,
}

impl Post {
    pub(crate) fn ask(&mut self, to: NodeId, lease: &LeaseId, request: Request) {
        self.requests.entry(to).or_default().push((lease.clone(), request));
    }

    pub(crate) fn answer(&mut self, to: NodeId, lease: &LeaseId, answer: Answer) {
        self.answers.entry(to).or_default().push((lease.clone(), answer));
    }

    /// Lets everything leave, in the order in which it was said. Answers go by `store`.
    pub(crate) fn send(&mut self, store: StoreId, out: &mut Vec<Output>) {
        for (to, requests) in std::mem::take(&mut self.requests) {
            let messages = requests.chunks(LEASES_MAX).map(|some| Message::Ask(some.to_vec()));
            out.extend(messages.map(|message| Output::Send { to, message }));
        }
        for (to, answers) in std::mem::take(&mut self.answers) {
            let word = |some: &[_]| Message::Word { store, answers: some.to_vec() };
            let messages = answers.chunks(LEASES_MAX).map(word);
            out.extend(messages.map(|message| Output::Send { to, message }));
        }
    }
}

/// The same messages to the same nodes, with what one witness says to one node in as few of them as there can be: many registers are
/// flushed at once, and what hangs on each was put down by itself.
#[must_use]
pub fn together(messages: impl IntoIterator<Item = (NodeId, Message)>) -> Vec<(NodeId, Message)> {
    let mut all: Vec<(NodeId, Message)> = Vec::new();
    // Where the last word of a store to a node is.
    let mut last: BTreeMap<(NodeId, StoreId), usize> = BTreeMap::new();
    for (to, message) in messages {
        let Message::Word { store, mut answers } = message else {
            all.push((to, message));
            continue;
        };
        let at = last.get(&(to, store)).and_then(|at| all.get_mut(*at));
        match at {
            Some((_, Message::Word { answers: before, .. }))
                if before.len() + answers.len() <= LEASES_MAX =>
            {
                before.append(&mut answers);
            }
            Some(_) | None => {
                last.insert((to, store), all.len());
                all.push((to, Message::Word { store, answers }));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
