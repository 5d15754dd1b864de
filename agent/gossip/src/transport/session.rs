//! What is remembered of each member while this node lives: its life, and which of its datagrams were seen.
//!
//! All of it is for one life of this node. When gossip begins a new life the sessions begin anew, and that is safe: every
//! datagram sealed before names another life of ours.

use std::collections::BTreeMap;

use mesh_coordinator::id::{Incarnation, NodeId};

use super::packet::Inner;
use super::parts::Parts;
use super::window::Window;
use crate::config::NODES_MAX;

/// What to do with a datagram that opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A message is whole.
    Message(Vec<u8>),
    /// Good, and nothing to do yet.
    Kept,
    /// Authentic, but perhaps not fresh: tell the sender which life this is.
    Greet,
    /// Authentic and of no use, as after every start of one of the two: no attack.
    Stale(&'static str),
    /// Not to be trusted, and why.
    Refused(&'static str),
}

/// One member.
#[derive(Debug)]
struct Session {
    /// Its highest life that an authentic datagram named.
    life: Incarnation,
    window: Window,
}

/// All members that were in touch.
#[derive(Debug)]
pub(crate) struct Sessions {
    own_life: Incarnation,
    /// Counts all packets, so that no two of this life have the same number, whatever is forgotten of a member meanwhile.
    n_sent: u64,
    members: BTreeMap<NodeId, Session>,
    parts: Parts,
    /// The highest life of this node that a member named, if it is later than ours: somebody else lives it.
    rumour: Option<Incarnation>,
}

impl Sessions {
    pub(crate) fn new(own_life: Incarnation) -> Self {
        Self {
            own_life,
            n_sent: 0,
            members: BTreeMap::new(),
            parts: Parts::default(),
            rumour: None,
        }
    }

    pub(crate) const fn own_life(&self) -> Incarnation {
        self.own_life
    }

    /// Judges a datagram of `sender` that opened.
    pub(crate) fn judge(&mut self, sender: NodeId, inner: &Inner<'_>) -> Verdict {
        let Some(session) = Self::session(&mut self.members, sender) else {
            return Verdict::Refused("too many members");
        };
        if inner.hears > self.own_life {
            self.rumour = self.rumour.max(Some(inner.hears));
        }
        // One greeting per message; never one for a hello, or two strangers would greet each other forever.
        let is_first = inner.of > 0 && inner.part == 0;
        if inner.life < session.life {
            // The greeting tells a second agent under the sender's identity that there is a later one.
            return if is_first { Verdict::Greet } else { Verdict::Stale("of a former life") };
        }
        if inner.life > session.life {
            *session = Session { life: inner.life, window: Window::new() };
            self.parts.forget(sender);
        }
        if !session.window.admit(inner.counter) {
            return Verdict::Refused("repeated or far too late");
        }
        if inner.hears != self.own_life {
            return if is_first {
                Verdict::Greet
            } else {
                Verdict::Stale("for another life of ours")
            };
        }
        if inner.of == 0 {
            return Verdict::Kept;
        }
        let Some(message) = inner.counter.checked_sub(u64::from(inner.part)) else {
            return Verdict::Refused("impossible number");
        };
        let whole = self.parts.add((sender, message), (inner.part, inner.of), inner.payload);
        whole.map_or(Verdict::Kept, Verdict::Message)
    }

    /// The life of `node`, as far as it proved it; zero when it did not.
    pub(crate) fn life(&self, node: NodeId) -> Incarnation {
        self.members.get(&node).map_or(Incarnation(0), |session| session.life)
    }

    /// A later life of this node that a member named.
    pub(crate) const fn rumour(&self) -> Option<Incarnation> {
        self.rumour
    }

    /// The counter of the first of `n` packets; `None` when no number is left.
    pub(crate) fn take_counters(&mut self, n: u64) -> Option<u64> {
        let first = self.n_sent.checked_add(1)?;
        self.n_sent = self.n_sent.checked_add(n)?;
        Some(first)
    }

    /// When there is no room for another member, forgets all but those that `keep` keeps.
    pub(crate) fn make_room(&mut self, keep: impl Fn(NodeId) -> bool) {
        if self.members.len() >= NODES_MAX {
            self.members.retain(|node, _| keep(*node));
        }
    }

    fn session(members: &mut BTreeMap<NodeId, Session>, node: NodeId) -> Option<&mut Session> {
        if members.len() >= NODES_MAX && !members.contains_key(&node) {
            return None;
        }
        let life = Incarnation(0);
        Some(members.entry(node).or_insert_with(|| Session { life, window: Window::new() }))
    }
}

#[cfg(test)]
mod tests {
    //! Freshness: only what was sealed for this life, and once.

    use mesh_coordinator::id::{Hash, Incarnation, MeshId, NodeId, PublicKey};

    use super::{NODES_MAX, Sessions, Verdict};
    use crate::transport::packet::{Header, Inner};

    fn sender() -> NodeId {
        NodeId::of(&PublicKey([1; 32]))
    }

    fn packet(life: u64, counter: u64, hears: u64) -> Inner<'static> {
        Inner {
            header: Header::new(MeshId(Hash([0; 32])), sender()),
            life: Incarnation(life),
            counter,
            hears: Incarnation(hears),
            part: 0,
            of: 1,
            payload: b"x",
        }
    }

    fn refused(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Refused(_) | Verdict::Stale(_))
    }

    #[test]
    fn a_datagram_passes_once() {
        let mut sessions = Sessions::new(Incarnation(9));
        let message = Verdict::Message(b"x".to_vec());
        assert_eq!(sessions.judge(sender(), &packet(5, 1, 9)), message);
        assert!(refused(&sessions.judge(sender(), &packet(5, 1, 9))));
        assert_eq!(sessions.judge(sender(), &packet(5, 2, 9)), message);
    }

    #[test]
    fn a_former_life_of_the_sender_is_refused() {
        let mut sessions = Sessions::new(Incarnation(9));
        assert_eq!(sessions.judge(sender(), &packet(6, 1, 9)), Verdict::Message(b"x".to_vec()));
        assert_eq!(sessions.judge(sender(), &packet(5, 2, 9)), Verdict::Greet);
        let hello = Inner { of: 0, payload: b"", ..packet(5, 3, 9) };
        assert!(refused(&sessions.judge(sender(), &hello)));
        assert_eq!(sessions.life(sender()), Incarnation(6));
        assert_eq!(sessions.judge(sender(), &packet(7, 1, 9)), Verdict::Message(b"x".to_vec()));
    }

    #[test]
    fn what_was_sealed_for_a_former_life_of_ours_is_only_greeted() {
        let mut sessions = Sessions::new(Incarnation(9));
        assert_eq!(sessions.judge(sender(), &packet(5, 1, 8)), Verdict::Greet);
        assert_eq!(sessions.judge(sender(), &packet(5, 2, 0)), Verdict::Greet);
        assert_eq!(sessions.life(sender()), Incarnation(5));
    }

    #[test]
    fn a_hello_is_never_answered() {
        let mut sessions = Sessions::new(Incarnation(9));
        let hello = |counter, hears| Inner { of: 0, payload: b"", ..packet(5, counter, hears) };
        assert!(refused(&sessions.judge(sender(), &hello(1, 8))));
        assert_eq!(sessions.judge(sender(), &hello(2, 9)), Verdict::Kept);
    }

    #[test]
    fn a_later_life_of_ours_is_noticed() {
        let mut sessions = Sessions::new(Incarnation(9));
        assert_eq!(sessions.judge(sender(), &packet(5, 1, 8)), Verdict::Greet);
        assert_eq!(sessions.rumour(), None);
        assert_eq!(sessions.judge(sender(), &packet(5, 2, 10)), Verdict::Greet);
        assert_eq!(sessions.rumour(), Some(Incarnation(10)));
    }

    #[test]
    fn strangers_make_room_when_there_are_too_many_members() {
        let mut sessions = Sessions::new(Incarnation(9));
        let node = |n: usize| {
            let mut bytes = [0; 10];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_bytes(bytes)
        };
        for n in 0..NODES_MAX {
            assert!(!refused(&sessions.judge(node(n), &packet(5, 1, 9))));
        }
        assert!(refused(&sessions.judge(sender(), &packet(5, 1, 9))));
        sessions.make_room(|member| member != node(0));
        assert!(!refused(&sessions.judge(sender(), &packet(5, 1, 9))));
    }

    #[test]
    fn counters_never_repeat() {
        let mut sessions = Sessions::new(Incarnation(9));
        assert_eq!(sessions.take_counters(3), Some(1));
        assert_eq!(sessions.take_counters(1), Some(4));
    }
}
