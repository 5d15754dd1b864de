//! What the parts of a node want, as outputs.

use std::collections::BTreeSet;

use super::{Node, Output, world};
use crate::event::{Event, Severity, Subject};
use crate::fact::{Claim, Fact, FactKey};
use crate::id::{NodeId, SlotId};
use crate::lease::{Effect, Terms, World};
use crate::membership::Act;
use crate::message::{Message, TELL_ALL_MAX};
use crate::time::{Instant, WallTime};
use crate::view::NodeStatus;

/// How many decisions are remembered of each slot.
const DECISIONS_MAX: usize = 32;

impl Node {
    pub(super) fn carry_out_acts(&mut self, now: Instant, acts: Vec<Act>, out: &mut Vec<Output>) {
        for act in acts {
            match act {
                Act::Probe(to, nonce) => {
                    out.push(Output::Send { to, message: Message::Probe { nonce } });
                }
                Act::Vote(vote) => {
                    out.push(Output::Publish(Fact::Vote(vote)));
                    let to = self.jury(now, vote.node);
                    self.told.entry(vote.node).or_default().extend(&to);
                    send(&to, &Message::Vote(vote), out);
                }
                Act::Unvote(vote) => {
                    out.push(Output::Withdraw(FactKey::Vote(vote.node)));
                    let mut to = self.told.remove(&vote.node).unwrap_or_default();
                    to.extend(self.membership.fellow_observers(vote.node));
                    send(&to, &Message::Unvote(vote), out);
                }
            }
        }
    }

    /// Who is told of a vote directly: everybody in a small mesh, else the other observers and those who would take over, for they
    /// must know at once.
    fn jury(&mut self, now: Instant, accused: NodeId) -> BTreeSet<NodeId> {
        let others = self.membership.peers().map(|(node, _)| node).filter(|it| *it != accused);
        // One more is asked for, so that it shows whether these are all.
        let some: BTreeSet<NodeId> = others.take(TELL_ALL_MAX.saturating_add(1)).collect();
        if some.len() <= TELL_ALL_MAX {
            return some;
        }
        let heirs = self.claims.heirs(&world!(self, now, true), accused);
        let alive = |node: &NodeId| self.membership.status(*node) == Some(NodeStatus::Alive);
        let fellows = self.membership.fellow_observers(accused);
        fellows.into_iter().chain(heirs.into_iter().filter(alive)).collect()
    }

    pub(super) fn carry_out(
        &mut self,
        now: Instant,
        wall: WallTime,
        effects: Vec<Effect>,
        out: &mut Vec<Output>,
    ) {
        for effect in effects {
            match effect {
                Effect::Do(slot, revision, job) => out.push(Output::Do { slot, revision, job }),
                Effect::Publish(claim) => {
                    out.push(Output::Publish(Fact::Claim(claim.clone())));
                    for to in self.audience(&claim) {
                        out.push(Output::Send { to, message: Message::Announce(claim.clone()) });
                    }
                }
                Effect::Withdraw(key) => out.push(Output::Withdraw(key)),
                Effect::Ask { to, slot, revision, nonce } => {
                    out.push(Output::Send {
                        to,
                        message: Message::Yield { slot, revision, nonce },
                    });
                }
                Effect::Keep { to, slot, nonce } => {
                    out.push(Output::Send { to, message: Message::Keep { slot, nonce } });
                }
                Effect::Fence(slot, revision, fence) => {
                    out.push(Output::Fence { slot, revision, fence });
                }
                Effect::Seek { slot, rank } => {
                    if let Some(terms) = Terms::of(self.catalogue.state(), &slot) {
                        self.leases.seek(self.reading, &slot, &terms, rank);
                    }
                }
                Effect::GiveUp(slot) => self.leases.give_up(&slot),
                Effect::Release(slot) => self.release(&slot, out),
                Effect::Prefetch(digest) => out.push(Output::Prefetch(digest)),
                Effect::Note(slot, severity, text) => {
                    self.remember(now, &slot, text.clone());
                    if let Some(severity) = severity {
                        self.tell(wall, severity, Subject::Slot(slot), text, out);
                    }
                }
            }
        }
    }

    /// Who is told of a claim directly: everybody in a small mesh, else those who might take the slot too, or claim it.
    fn audience(&self, claim: &Claim) -> BTreeSet<NodeId> {
        let some: BTreeSet<NodeId> =
            self.membership.alive().take(TELL_ALL_MAX.saturating_add(1)).collect();
        if some.len() <= TELL_ALL_MAX {
            return some;
        }
        let alive = |node: &NodeId| self.membership.status(*node) == Some(NodeStatus::Alive);
        self.claims.audience(claim).into_iter().filter(alive).collect()
    }

    pub(super) fn remember(&mut self, now: Instant, slot: &SlotId, text: String) {
        let decisions = self.decisions.entry(slot.clone()).or_default();
        if decisions.len() >= DECISIONS_MAX {
            decisions.pop_front();
        }
        decisions.push_back((now, text));
    }

    pub(super) fn tell(
        &self,
        at: WallTime,
        severity: Severity,
        subject: Subject,
        text: String,
        out: &mut Vec<Output>,
    ) {
        out.push(Output::Event(Event { at, seen_by: self.config.me, severity, subject, text }));
    }
}

fn send(to: &BTreeSet<NodeId>, message: &Message, out: &mut Vec<Output>) {
    out.extend(to.iter().map(|to| Output::Send { to: *to, message: message.clone() }));
}
