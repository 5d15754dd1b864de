//! The last events of this node, and those who follow them.

use std::collections::VecDeque;

use mesh_coordinator::event::Event;
use tokio::sync::mpsc;

/// How many events are kept: a bad night's worth.
const KEPT_MAX: usize = 2_000;
/// How many events a follower may be behind before it is dropped: it comes back and reads the tail.
const BEHIND_MAX: usize = 256;
/// How many may follow at once.
const FOLLOWERS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: VecDeque<Event>,
    followers: Vec<mpsc::Sender<Event>>,
}

impl Journal {
    pub(crate) fn write(&mut self, event: &Event) {
        if self.events.len() >= KEPT_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        self.followers.retain(|follower| follower.try_send(event.clone()).is_ok());
    }

    /// The last `tail` events, and new ones as they come if `follow` is set.
    pub(crate) fn read(&mut self, tail: usize, follow: bool) -> mpsc::Receiver<Event> {
        let skipped = self.events.len().saturating_sub(tail);
        let last: Vec<Event> = self.events.iter().skip(skipped).cloned().collect();
        let (sender, receiver) = mpsc::channel(last.len().saturating_add(BEHIND_MAX));
        for event in last {
            // There is room for all of them.
            drop(sender.try_send(event));
        }
        self.followers.retain(|follower| !follower.is_closed());
        if follow && self.followers.len() < FOLLOWERS_MAX {
            self.followers.push(sender);
        }
        receiver
    }
}
