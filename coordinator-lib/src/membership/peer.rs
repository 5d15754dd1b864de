//! One other member, as this node sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::watchers::Watchers;
use super::{
    ALONE_SILENCE, ANNOUNCED_GRACE, GOSSIP_MISSED, PROBE_TIMEOUT, RESTART_GRACE, SILENCE,
    VOTE_PERIOD,
};
use crate::fact::{Suspicion, Vote};
use crate::id::{Incarnation, NodeId};
use crate::rules::{Rule, Rules};
use crate::time::Instant;
use crate::view::NodeStatus;

/// A vote as it is kept here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ballot {
    /// Of which life of the accused it speaks.
    pub(super) incarnation: Incarnation,
    pub(super) suspicion: Suspicion,
    /// Until when it counts; `None` until it is taken back.
    pub(super) until: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Since when it is known here, or watched by this node, or since when this node is awake again.
    pub(super) since: Instant,
    pub(super) incarnation: Option<Incarnation>,
    /// When it was heard directly; `None` when never.
    pub(super) heard: Option<Instant>,
    /// When its host first refused a connection; `None` while it does not.
    pub(super) refused: Option<Instant>,
    /// What gossip's detector says; `None` while it said nothing.
    pub(super) gossip_up: Option<bool>,
    /// Since when it says so.
    pub(super) gossip_since: Instant,
    /// It said that it would restart.
    pub(super) announced: bool,
    /// The probe under way.
    pub(super) probe: Option<(u64, Instant)>,
    pub(super) my_vote: Option<Vote>,
    /// When this node last said its vote.
    pub(super) voted: Instant,
    /// Who thinks what of it, this node included.
    pub(super) votes: BTreeMap<NodeId, Ballot>,
    pub(super) observers: Vec<NodeId>,
    /// From which these follow; `None` before that was worked out first.
    watchers: Option<Watchers>,
    pub(super) status: NodeStatus,
}

impl Peer {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            incarnation: None,
            heard: None,
            refused: None,
            gossip_up: None,
            gossip_since: now,
            announced: false,
            probe: None,
            my_vote: None,
            voted: Instant::ZERO,
            votes: BTreeMap::new(),
            observers: Vec::new(),
            watchers: None,
            status: NodeStatus::Unknown,
        }
    }

    /// Others have gone and come: who watches it now?
    pub(super) fn rewatch(
        &mut self,
        node: NodeId,
        standing: &BTreeSet<NodeId>,
        gone: &BTreeSet<NodeId>,
        come: &BTreeSet<NodeId>,
    ) {
        match &mut self.watchers {
            Some(watchers) => watchers.change(node, standing, gone, come),
            None => self.watchers = Some(Watchers::of(node, standing)),
        }
        self.observers = self.watchers.iter().flat_map(Watchers::observers).collect();
    }

    /// Whether neither time nor the word of others about others changes what is believed of it: this node does not watch it, nobody votes
    /// about it, and what was heard of it directly is too old to matter.
    pub(super) fn is_restful(&self, now: Instant, me: NodeId) -> bool {
        self.votes.is_empty()
            && self.refused.is_none()
            && !self.observers.contains(&me)
            && self.heard.is_none_or(|heard| now.since(heard) >= ALONE_SILENCE)
    }

    /// A higher incarnation refutes what was said of the lower one (M5). Returns the vote of `me`, this node, about that, which is
    /// now to be taken back.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        incarnation: Incarnation,
        me: NodeId,
        rules: Rules,
    ) -> Option<Vote> {
        if self.incarnation.is_some_and(|known| incarnation <= known) {
            return None;
        }
        self.incarnation = Some(incarnation);
        // What gossip said was said of the lower one, and it says nothing of that any more.
        self.gossip_up = None;
        self.gossip_since = now;
        if !rules.hold(Rule::Refute) {
            return None;
        }
        self.refused = None;
        self.probe = None;
        self.announced = false;
        self.take_vote(me)
    }

    /// Takes this node's own vote back, if it has one.
    pub(super) fn take_vote(&mut self, me: NodeId) -> Option<Vote> {
        let vote = self.my_vote.take()?;
        self.votes.remove(&me);
        Some(vote)
    }

    /// From when on silence counts.
    fn last_sign(&self) -> Instant {
        self.heard.map_or(self.since, |heard| heard.max(self.since))
    }

    /// Whether it was heard within `patience`. A node that was never heard gets as long from when it became known.
    pub(super) fn is_heard(&self, now: Instant, patience: Duration) -> bool {
        now.since(self.last_sign()) < patience
    }

    /// M5: whether a vote about its life `incarnation` says nothing of the one that is known here. Who voted may not have heard of
    /// a life that ended as soon as it had begun: where there is no sign of that life any more, what is silent there is silent.
    pub(super) fn refutes(&self, now: Instant, incarnation: Incarnation, rules: Rules) -> bool {
        let lives = self.heard.is_some_and(|heard| now.since(heard) < ALONE_SILENCE)
            || (self.gossip_up == Some(true) && self.my_vote.is_none());
        let is_older = self.incarnation.is_some_and(|known| known > incarnation);
        lives && is_older && rules.hold(Rule::Refute)
    }

    /// What `voter` thinks of it; `None` when nothing that counts.
    fn ballot(&self, now: Instant, voter: NodeId, rules: Rules) -> Option<&Ballot> {
        self.votes.get(&voter).filter(|ballot| !self.refutes(now, ballot.incarnation, rules))
    }

    /// Whether it is heard over connections, and has not been in the gossip for long.
    pub(super) fn is_missed_by_gossip(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < SILENCE)
            && self.gossip_up != Some(true)
            && now.since(self.gossip_since) >= GOSSIP_MISSED
    }

    /// Whether its own opinion of others is waited for: not while it is accused itself; else when it was heard a moment ago, or
    /// lives by gossip where this node does not watch it.
    pub(super) fn may_judge(&self, now: Instant, me: NodeId, rules: Rules) -> bool {
        // Only those who watch it: else any two members could silence a third.
        let accusers =
            self.observers.iter().filter(|observer| self.ballot(now, **observer, rules).is_some());
        let accused = self.my_vote.is_some() || accusers.count() >= 2;
        let plausible = if self.observers.contains(&me) {
            self.heard.is_some() && self.is_heard(now, SILENCE)
        } else {
            self.gossip_up == Some(true)
        };
        plausible && !accused
    }

    pub(super) fn judge(
        &self,
        now: Instant,
        me: NodeId,
        reachable: &BTreeSet<NodeId>,
        rules: Rules,
    ) -> NodeStatus {
        let jury: Vec<NodeId> = self
            .observers
            .iter()
            .filter(|observer| reachable.contains(observer) || !rules.hold(Rule::VoteDies))
            .copied()
            .collect();
        let votes = |wanted: Option<Suspicion>| {
            let voters = jury.iter().filter_map(|observer| self.ballot(now, *observer, rules));
            voters.filter(|vote| wanted.is_none_or(|wanted| vote.suspicion == wanted)).count()
        };
        let carried = |count: usize| {
            let alone = rules.hold(Rule::BelieveAlone) && self.is_lone_verdict(now, me, &jury);
            count * 2 > jury.len() && (count >= 2 || alone)
                || (count > 0 && !rules.hold(Rule::SecondOpinion))
        };
        if carried(votes(Some(Suspicion::Silent))) && !self.is_graced(now) {
            return NodeStatus::Down;
        }
        if carried(votes(None)) {
            return if rules.hold(Rule::RestartGrace)
                && (self.is_graced(now) || self.is_restarting(now))
            {
                NodeStatus::Restarting
            } else {
                NodeStatus::Down
            };
        }
        if rules.hold(Rule::Undisputed) { self.undisputed(now) } else { self.status }
    }

    /// M1, M2: a single voter counts only when nobody else could be asked and the silence has lasted.
    fn is_lone_verdict(&self, now: Instant, me: NodeId, jury: &[NodeId]) -> bool {
        let alone = matches!(jury, [only] if *only != me || !self.is_heard(now, ALONE_SILENCE));
        let refused = self.refused.is_some();
        alone || (jury.len() == 1 && refused)
    }

    /// M3: within its grace a refusing host is not down.
    fn is_restarting(&self, now: Instant) -> bool {
        let grace = if self.announced { ANNOUNCED_GRACE } else { RESTART_GRACE };
        self.refused.is_some_and(|refused| now.since(refused) < grace)
    }

    /// A node that announced its restart may even be silent for a while, as a rebooting host is.
    fn is_graced(&self, now: Instant) -> bool {
        self.announced && self.is_restarting(now)
    }

    /// M6: what is believed where the observers have not spoken.
    fn undisputed(&self, now: Instant) -> NodeStatus {
        match (self.heard, self.gossip_up) {
            (Some(heard), _) if now.since(heard) < ALONE_SILENCE => NodeStatus::Alive,
            (_, Some(true)) => NodeStatus::Alive,
            (_, Some(false)) => NodeStatus::Down,
            (Some(_), None) if self.status == NodeStatus::Unknown => NodeStatus::Alive,
            (_, None) => self.status,
        }
    }

    /// The moments at which something about this peer may change by time alone.
    pub(super) fn deadlines(&self, me: NodeId, doubtful_until: Instant) -> [Option<Instant>; 5] {
        let last = self.last_sign();
        let watching = self.observers.contains(&me);
        let step = match (self.my_vote, self.probe) {
            (Some(_), _) => self.voted + VOTE_PERIOD,
            (None, Some((_, at))) => at + PROBE_TIMEOUT,
            (None, None) if last + SILENCE < doubtful_until => last + SILENCE.saturating_mul(2),
            (None, None) => last + SILENCE,
        };
        let grace = if self.announced { ANNOUNCED_GRACE } else { RESTART_GRACE };
        let restarting = self.status == NodeStatus::Restarting;
        [
            watching.then_some(last + ALONE_SILENCE),
            watching.then_some(step),
            self.refused.filter(|_| restarting).map(|refused| refused + grace),
            self.votes.values().filter_map(|vote| vote.until).min(),
            self.heard.filter(|_| !self.votes.is_empty()).map(|heard| heard + ALONE_SILENCE),
        ]
    }
}
