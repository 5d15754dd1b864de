//! Observers agree before anybody is down, and nobody stays down by old words.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Act, Membership, OBSERVERS, observers_of};
use crate::fact::{Suspicion, Vote};
use crate::id::{Incarnation, NodeId, PublicKey};
use crate::rules::{Rule, Rules};
use crate::time::Instant;
use crate::view::NodeStatus;

const LIFE: Incarnation = Incarnation(1);

fn node(n: u8) -> NodeId {
    NodeId::of(&PublicKey([n; 32]))
}

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

/// A node with its peers, all of them heard at the beginning.
struct Script {
    membership: Membership,
    peers: Vec<NodeId>,
    acts: Vec<Act>,
}

impl Script {
    fn new(n_peers: u8) -> Self {
        Self::with_rules(n_peers, Rules::ALL)
    }

    fn with_rules(n_peers: u8, rules: Rules) -> Self {
        let peers: Vec<NodeId> = (1..=n_peers).map(node).collect();
        let mut membership = Membership::new(node(0));
        membership.set_rules(rules);
        let members: BTreeSet<NodeId> = peers.iter().copied().chain([node(0)]).collect();
        membership.set_members(at(0), &members);
        let mut script = Self { membership, peers, acts: Vec::new() };
        for peer in script.peers.clone() {
            script.membership.on_gossip(at(0), peer, LIFE, true, &mut script.acts);
        }
        script.beat(0, &[]);
        script.acts.clear();
        script
    }

    /// Everybody but `silent` is heard, and the node is woken at each of its deadlines up to then.
    fn beat(&mut self, millis: u64, silent: &[NodeId]) {
        while let Some(deadline) = self.membership.next_deadline().filter(|due| *due <= at(millis))
        {
            self.membership.on_time(deadline, &mut self.acts);
        }
        for peer in self.peers.clone().into_iter().filter(|peer| !silent.contains(peer)) {
            self.membership.on_heard(at(millis), peer, LIFE, &mut self.acts);
        }
    }

    fn status(&self, n: u8) -> NodeStatus {
        self.membership.status(node(n)).unwrap()
    }

    fn vote(&mut self, millis: u64, voter: u8, suspicion: Suspicion, by_gossip: bool) {
        let vote = Vote { node: node(1), incarnation: LIFE, suspicion };
        self.membership.on_vote(at(millis), node(voter), vote, by_gossip);
    }
}

#[test]
fn everybody_computes_the_same_observers_and_nobody_watches_himself() {
    let members: BTreeSet<NodeId> = (0..20).map(node).collect();
    for member in &members {
        let observers = observers_of(*member, &members);
        assert_eq!(observers.len(), OBSERVERS);
        assert!(!observers.contains(member));
    }
}

#[test]
fn one_opinion_moves_nothing_and_two_do() {
    let after_one = Rules::with_and_without(Rule::SecondOpinion, |rules| {
        let mut script = Script::with_rules(3, rules);
        for beat in 1..=6 {
            script.beat(beat * 250, &[node(1)]);
        }
        let accuses = |act: &Act| matches!(act, Act::Vote(vote) if vote.node == node(1));
        assert!(script.acts.iter().any(accuses));
        let after_one = script.status(1);
        script.vote(1_500, 2, Suspicion::Silent, false);
        assert_eq!(script.status(1), NodeStatus::Down);
        after_one
    });
    assert_eq!(after_one, [NodeStatus::Alive, NodeStatus::Down]);
}

#[test]
fn heartbeats_that_come_in_time_are_no_sign_of_being_late() {
    let mut script = Script::new(3);
    for beat in 1..=40 {
        script.beat(beat * 250, &[]);
    }
    script.acts.clear();
    for beat in 41..=44 {
        script.beat(beat * 250, &[node(1)]);
    }
    // Silent since 10 s: probed after 750 ms, accused 150 ms later, patience undoubled.
    assert!(script.acts.iter().any(|act| matches!(act, Act::Vote(vote) if vote.node == node(1))));
}

#[test]
fn whoever_slept_does_not_take_the_others_for_silent() {
    let accuses = Rules::with_and_without(Rule::DoubtOwnEars, |rules| {
        let mut script = Script::with_rules(3, rules);
        script.beat(250, &[]);
        script.membership.on_time(at(30_000), &mut script.acts);
        script.membership.on_time(at(30_500), &mut script.acts);
        script.acts.iter().any(|act| matches!(act, Act::Vote(_)))
    });
    assert_eq!(accuses, [false, true]);
}

#[test]
fn a_refusing_host_is_restarting_for_a_while() {
    let at_first = Rules::with_and_without(Rule::RestartGrace, |rules| {
        let mut script = Script::with_rules(3, rules);
        script.membership.on_refused(at(100), node(1), &mut script.acts);
        script.vote(100, 2, Suspicion::Refused, false);
        let at_first = script.status(1);
        for beat in 1..=21 {
            script.beat(beat * 250, &[node(1)]);
            script.vote(beat * 250, 2, Suspicion::Refused, false);
        }
        assert_eq!(script.status(1), NodeStatus::Down);
        at_first
    });
    assert_eq!(at_first, [NodeStatus::Restarting, NodeStatus::Down]);
}

#[test]
fn a_new_life_refutes_votes_about_the_last_and_takes_back_the_own() {
    let mut script = Script::new(3);
    for beat in 1..=6 {
        script.beat(beat * 250, &[node(1)]);
    }
    script.vote(1_500, 2, Suspicion::Silent, true);
    assert_eq!(script.status(1), NodeStatus::Down);
    script.acts.clear();
    script.membership.on_heard(at(1_600), node(1), Incarnation(2), &mut script.acts);
    assert_eq!(script.status(1), NodeStatus::Alive);
    assert!(matches!(script.acts.as_slice(), [Act::Unvote(vote)] if vote.node == node(1)));
    script.vote(1_700, 3, Suspicion::Silent, true);
    assert_eq!(script.status(1), NodeStatus::Alive);
}

#[test]
fn a_vote_that_came_directly_expires_and_one_of_gossip_does_not() {
    for (by_gossip, expected) in [(false, NodeStatus::Alive), (true, NodeStatus::Down)] {
        let mut script = Script::new(3);
        script.vote(100, 2, Suspicion::Silent, by_gossip);
        script.vote(100, 3, Suspicion::Silent, by_gossip);
        assert_eq!(script.status(1), NodeStatus::Down);
        for beat in 1..=44 {
            script.beat(beat * 250, &[]);
        }
        assert_eq!(script.status(1), expected, "{by_gossip}");
    }
}

#[test]
fn a_node_whose_datagrams_do_not_come_through_is_named() {
    let mut script = Script::new(2);
    let missed = |script: &Script, millis| -> Vec<NodeId> {
        script.membership.missed_by_gossip(at(millis)).collect()
    };
    for silent in [1, 2] {
        script.membership.on_gossip(at(1_000), node(silent), LIFE, false, &mut script.acts);
    }
    for beat in 5..=60 {
        script.beat(beat * 250, &[node(2)]);
        assert_eq!(missed(&script, beat * 250), Vec::new(), "it may be a lull");
        // What gossip repeats begins no new lull.
        script.membership.on_gossip(at(beat * 250), node(1), LIFE, false, &mut script.acts);
    }
    script.beat(16_000, &[node(2)]);
    assert_eq!(missed(&script, 16_000), [node(1)], "one that is silent altogether is not meant");
    script.membership.on_gossip(at(16_000), node(1), LIFE, true, &mut script.acts);
    assert_eq!(missed(&script, 16_000), Vec::new());
}

#[test]
fn accusations_by_those_who_do_not_watch_take_nobody_his_opinion() {
    let script = |watching: bool| {
        let mut script = Script::new(9);
        let observers = script.membership.peers[&node(1)].observers.clone();
        let others = script.peers.clone().into_iter().filter(|peer| *peer != node(1));
        let voters: Vec<NodeId> =
            others.filter(|peer| observers.contains(peer) == watching).take(2).collect();
        for voter in voters {
            let vote = Vote { node: node(1), incarnation: LIFE, suspicion: Suspicion::Silent };
            script.membership.on_vote(at(100), voter, vote, true);
        }
        script.membership.peers[&node(1)].may_judge(at(100), node(0), Rules::ALL)
    };
    assert!(script(false));
    assert!(!script(true));
}

#[test]
fn the_survivor_of_two_believes_itself_after_a_while() {
    let statuses = Rules::with_and_without(Rule::BelieveAlone, |rules| {
        let mut script = Script::with_rules(1, rules);
        for beat in 1..=5 {
            script.beat(beat * 250, &[node(1)]);
        }
        assert_eq!(script.status(1), NodeStatus::Alive, "not before 1.5 s");
        script.beat(1_750, &[node(1)]);
        script.status(1)
    });
    assert_eq!(statuses, [NodeStatus::Down, NodeStatus::Alive]);
}

#[test]
fn a_vote_dies_with_the_voter() {
    let statuses = Rules::with_and_without(Rule::VoteDies, |rules| {
        let mut script = Script::with_rules(4, rules);
        for voter in 2..=4 {
            script.vote(100, voter, Suspicion::Silent, true);
        }
        assert_eq!(script.status(1), NodeStatus::Down);
        // The voters fall silent, and the accused is heard.
        for beat in 1..=12 {
            script.beat(beat * 250, &[node(2), node(3), node(4)]);
        }
        script.status(1)
    });
    assert_eq!(statuses, [NodeStatus::Alive, NodeStatus::Down]);
}

/// A dead voter takes nothing back, and what it said last would keep the accused from being a witness for ever.
#[test]
fn nobody_is_accused_by_the_dead() {
    let mut script = Script::with_rules(4, Rules::ALL);
    script.vote(100, 2, Suspicion::Silent, true);
    assert!(script.membership.is_accused(node(1)));
    for beat in 1..=12 {
        script.beat(beat * 250, &[node(2)]);
        for voter in [1, 3, 4] {
            let vote =
                Vote { node: node(2), incarnation: Incarnation(1), suspicion: Suspicion::Silent };
            script.membership.on_vote(at(beat * 250), node(voter), vote, true);
        }
    }
    assert_eq!(script.status(2), NodeStatus::Down);
    assert!(!script.membership.is_accused(node(1)));
}

#[test]
fn a_higher_incarnation_refutes_the_votes_of_all() {
    let statuses = Rules::with_and_without(Rule::Refute, |rules| {
        let mut script = Script::with_rules(3, rules);
        for voter in 2..=3 {
            script.vote(100, voter, Suspicion::Silent, true);
        }
        assert_eq!(script.status(1), NodeStatus::Down);
        script.membership.on_heard(at(200), node(1), Incarnation(2), &mut script.acts);
        script.vote(300, 2, Suspicion::Silent, true);
        script.vote(300, 3, Suspicion::Silent, true);
        script.status(1)
    });
    assert_eq!(statuses, [NodeStatus::Alive, NodeStatus::Down]);
}

/// An agent restarts and loses power at once: some of its observers have met its new life, and others have not.
#[test]
fn votes_about_the_last_life_count_where_the_new_one_is_silent_too() {
    let mut script = Script::new(4);
    script.membership.on_heard(at(100), node(1), Incarnation(2), &mut script.acts);
    for beat in 1..=12 {
        script.beat(beat * 250, &[node(1)]);
        for voter in [2, 3] {
            script.vote(beat * 250, voter, Suspicion::Silent, false);
        }
        let expected = if beat < 7 { NodeStatus::Alive } else { NodeStatus::Down };
        assert_eq!(script.status(1), expected, "{beat}");
    }
}

/// What gossip has said once it does not say again.
#[test]
fn a_vote_that_a_short_life_refuted_counts_again() {
    let mut script = Script::new(2);
    script.vote(1_000, 2, Suspicion::Silent, true);
    for beat in 1..=8 {
        script.beat(beat * 250, &[node(1)]);
    }
    assert_eq!(script.status(1), NodeStatus::Down);
    script.membership.on_gossip(at(2_000), node(1), LIFE, false, &mut script.acts);
    script.membership.on_heard(at(2_100), node(1), Incarnation(2), &mut script.acts);
    assert_eq!(script.status(1), NodeStatus::Alive);
    for beat in 9..=16 {
        script.beat(beat * 250, &[node(1)]);
    }
    assert_eq!(script.status(1), NodeStatus::Down);
}

#[test]
fn news_of_a_life_that_is_over_refutes_nothing() {
    let mut script = Script::new(3);
    let vote = Vote { node: node(1), incarnation: Incarnation(2), suspicion: Suspicion::Silent };
    for voter in [2, 3] {
        script.membership.on_vote(at(100), node(voter), vote, true);
    }
    assert_eq!(script.status(1), NodeStatus::Down);
    script.membership.on_gossip(at(200), node(1), Incarnation(2), true, &mut script.acts);
    assert_eq!(script.status(1), NodeStatus::Down);
}

#[test]
fn who_is_heard_again_in_its_new_life_is_alive_at_once() {
    let mut script = Script::new(3);
    script.membership.on_heard(at(100), node(1), Incarnation(2), &mut script.acts);
    for beat in 1..=6 {
        script.beat(beat * 250, &[node(1)]);
    }
    for voter in [2, 3] {
        script.vote(1_650, voter, Suspicion::Silent, true);
    }
    assert_eq!(script.status(1), NodeStatus::Down);
    script.membership.on_heard(at(1_700), node(1), Incarnation(2), &mut script.acts);
    assert_eq!(script.status(1), NodeStatus::Alive);
}

#[test]
fn where_the_observers_have_not_spoken_gossip_counts() {
    let statuses = Rules::with_and_without(Rule::Undisputed, |rules| {
        let mut script = Script::with_rules(3, rules);
        script.membership.on_gossip(at(2_000), node(1), LIFE, false, &mut script.acts);
        script.status(1)
    });
    assert_eq!(statuses, [NodeStatus::Down, NodeStatus::Unknown]);
}
