//! When not to act: before enough of the mesh was heard (C1), and right after a blow (C9).

use std::time::Duration;

use super::{Node, Output};
use crate::event::{Severity, Subject};
use crate::id::NodeId;
use crate::rules::Rule;
use crate::time::{Instant, WallTime};
use crate::view::NodeStatus;

/// C1: a node that hears nobody starts by its own store after this time.
const WARM_ALONE: Duration = Duration::from_secs(5);
/// C1: a node that hears some, but not all members, listens for so long: five rounds of gossip at its usual interval.
const WARM_LISTEN: Duration = Duration::from_millis(1250);
/// C1: a peer that never completes its greeting does not keep others from serving.
const WARM_MAX: Duration = Duration::from_secs(10);
/// C9: deaths within this time count as one blow.
const BLOW: Duration = Duration::from_secs(5);
/// C9: after a blow nothing is claimed until nobody has died for so long.
const SETTLE: Duration = Duration::from_secs(3);
/// C9: a blow takes at least so many nodes …
const BLOW_NODES_MIN: usize = 3;
/// … and at least this share of the members, as a divisor.
const BLOW_SHARE: usize = 5;

impl Node {
    /// C1: whether enough of the mesh was heard to know what is held already.
    pub(super) fn warm_up(&mut self, now: Instant) {
        let Some(began) = self.began.filter(|_| !self.warm) else { return };
        let n_peers = self.membership.n_peers();
        // Whoever was not greeted by all of a large mesh finds that out early.
        let greeted = self.membership.alive().all(|node| self.claims.book.is_complete(node));
        let n_alive = if greeted { self.membership.alive().count() } else { 0 };
        let is_alive = |node: &&NodeId| self.membership.status(**node) == Some(NodeStatus::Alive);
        let n_synced = self.desk.exchange.synced().iter().filter(is_alive).count();
        let greeted = greeted && n_synced >= n_alive.min(3);
        let all_down = self.membership.down().len() == n_peers;
        let deadline = match self.first_heard {
            _ if n_peers == 0 => began,
            None => began + WARM_ALONE,
            Some(_) if greeted && n_alive == n_peers => began,
            // They were heard and are gone: there is nobody left to listen to.
            Some(_) if all_down => began,
            Some(heard) if greeted && n_alive > 0 => heard + WARM_LISTEN,
            Some(_) => began + WARM_MAX,
        };
        self.warm = deadline <= now || !self.rules.hold(Rule::WarmUp);
        if !self.warm {
            self.wake = Some(deadline);
        }
    }

    /// C9: after many deaths at once it is better to see how many than to start everything on the first survivor.
    pub(super) fn is_settled(&mut self, now: Instant) -> bool {
        while self.deaths.front().is_some_and(|at| now.since(*at) >= BLOW.max(SETTLE)) {
            self.deaths.pop_front();
        }
        let n_members = self.membership.n_peers().saturating_add(1);
        let blow =
            self.deaths.len() >= BLOW_NODES_MIN && self.deaths.len() * BLOW_SHARE > n_members;
        let until = self.deaths.back().filter(|_| blow).map(|last| *last + SETTLE);
        if let Some(until) = until.filter(|until| *until > now && self.rules.hold(Rule::Settle)) {
            self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
            return false;
        }
        true
    }

    pub(super) fn note_deaths(&mut self, now: Instant, wall: WallTime, out: &mut Vec<Output>) {
        if self.membership.down() == &self.down {
            return;
        }
        let down = self.membership.down().clone();
        for node in down.difference(&self.down) {
            self.deaths.push_back(now);
            let ago = self.membership.heard_ago(now, *node).map_or(0, |ago| ago.as_millis());
            self.tell(
                wall,
                Severity::Warning,
                Subject::Node(*node),
                format!("down, last heard {ago} ms ago"),
                out,
            );
        }
        for node in self.down.difference(&down) {
            if self.membership.status(*node).is_some() {
                self.tell(
                    wall,
                    Severity::Info,
                    Subject::Node(*node),
                    "heard again".to_owned(),
                    out,
                );
            }
        }
        self.down = down;
    }
}
