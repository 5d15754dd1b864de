//! This node's claims: what it takes, keeps, hands over and gives up.

mod exclusive;
mod heirs;
mod look;
mod places;
mod relief;
mod seek;
mod tend;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::look::Look;
use self::places::Places;
use self::seek::Ahead;
use super::book::{Book, Held};
use super::exclusive::Fence;
use super::leases::Leases;
use super::mine::{Hold, Mine, bounded};
use super::need::Standing;
use crate::catalogue::State;
use crate::event::Severity;
use crate::fact::{Claim, FactKey, NodeFacts, Phase};
use crate::id::{Incarnation, NodeId, Revision, SlotId};
use crate::membership::Membership;
use crate::rules::{Rule, Rules};
use crate::spec::Template;
use crate::time::{Instant, Reading};
use crate::view::NodeStatus;
use crate::workload::{Do, Observed, Workload};

/// The most replicas that one node starts at the same time (C8): two per core of a small server keep starts short.
pub(crate) const STARTS_MAX: usize = 4;
/// So far apart are the numbers with which two lives of an agent begin to count what they say of claims. An incarnation is a time
/// in milliseconds or one more than the last, and in neither a million things are said.
const SEQS_PER_LIFE: u64 = 1 << 20;
/// How long a released replica still answers, so that everybody has heard of the release directly and forwards to it no more.
const DRAIN: Duration = Duration::from_millis(800);

/// What is said of a replica that survives being killed, behind what is known of it.
const STUCK: &str = "this node keeps the slot until that is over: mend the disk or mount that it waits for, or reboot the host";

/// What the claims see of the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) now: Instant,
    /// What the lease clocks show.
    pub(crate) reading: Reading,
    /// This node's leases of exclusive slots.
    pub(crate) leases: &'a Leases,
    pub(crate) state: &'a State,
    pub(crate) membership: &'a Membership,
    /// What the other nodes said of themselves.
    pub(crate) facts: &'a BTreeMap<NodeId, NodeFacts>,
    /// What this node says of itself.
    pub(crate) own: &'a NodeFacts,
    /// Whether this node has heard enough to claim and to answer (C1).
    pub(crate) warm: bool,
    /// Whether the mesh is quiet enough to claim (C9).
    pub(crate) settled: bool,
    /// Changes with what the catalogue says.
    pub(crate) root: u64,
    /// Changes with what nodes say of themselves.
    pub(crate) facts_version: u64,
    /// What becomes of containers that the catalogue does not know (C12).
    pub(crate) strays: Strays,
    /// Which rules hold.
    pub(crate) rules: Rules,
}

/// What becomes of containers that the catalogue does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strays {
    /// They are stopped after a while.
    Stop,
    /// They may be what this node has lost, and nobody was asked yet.
    Keep,
}

/// What the claims want done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Something with a replica.
    Do(SlotId, Revision, Do),
    /// Tell a guard until when its replica may run.
    Fence(SlotId, Revision, Fence),
    /// Seek the lease of an exclusive slot.
    Seek { slot: SlotId, rank: u32 },
    /// Seek it no more.
    GiveUp(SlotId),
    /// Release it: nothing runs by it.
    Release(SlotId),
    /// Publish a claim, and tell those who should know at once.
    Publish(Claim),
    /// Take it back.
    Withdraw(FactKey),
    /// Ask a better claimant whether this one may stop.
    Ask { to: NodeId, slot: SlotId, revision: Revision, nonce: u64 },
    /// Promise a worse claimant to go on.
    Keep { to: NodeId, slot: SlotId, nonce: u64 },
    /// Fetch an image ahead of time.
    Prefetch(String),
    /// Something that people may want to know; a decision, and an event too if it has a severity.
    Note(SlotId, Option<Severity>, String),
}

/// This node's claims, and what it knows of those of others.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    me: NodeId,
    pub(crate) book: Book,
    mine: BTreeMap<(SlotId, u64), Mine>,
    /// The slots that need a claimant.
    needed: BTreeMap<SlotId, seek::Wait>,
    /// How often this node failed with a slot, and when it failed last.
    failures: BTreeMap<(SlotId, u64), (u32, Instant)>,
    /// What has to be looked at again, and what was seen last.
    look: Look,
    places: Places,
    ahead: Ahead,
    nonce: u64,
    /// The number of the last thing that was said of a claim.
    seq: u64,
    /// Earliest moment at which time alone changes something, found during the last look.
    wake: Option<Instant>,
}

impl Claims {
    pub(crate) fn new(me: NodeId, incarnation: Incarnation, seed: u64) -> Self {
        Self {
            me,
            book: Book::default(),
            mine: BTreeMap::new(),
            needed: BTreeMap::new(),
            failures: BTreeMap::new(),
            look: Look::default(),
            places: Places::default(),
            ahead: Ahead::default(),
            nonce: seed,
            seq: incarnation.0.saturating_mul(SEQS_PER_LIFE),
            wake: None,
        }
    }

    /// This node's claims.
    pub(crate) fn mine(&self) -> impl Iterator<Item = &Mine> {
        self.mine.values()
    }

    /// When [`Claims::reconcile`] wants to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.wake, self.look.news_wake].into_iter().flatten().min()
    }

    /// A container of an earlier life of this agent was found. If it runs its claim stands again at once. If it has `ended`,
    /// somebody else may serve by now, so that it is no more than an intent until the others were heard (C1).
    pub(crate) fn adopt(
        &mut self,
        now: Instant,
        slot: SlotId,
        revision: Revision,
        template: Option<&Template>,
        ended: bool,
        fence: Option<Fence>,
    ) {
        let workload = template
            .map_or_else(|| Workload::stray(now), |template| Workload::adopted(template, now));
        let mut mine = Mine::new(
            Claim {
                token: fence.map(|fence| fence.token),
                ..Claim::intent(slot.clone(), revision, self.crowding(&slot))
            },
            if ended { Hold::Intent { until: now } } else { Hold::Held },
            workload,
            now,
        );
        mine.refresh(now);
        self.mine.insert((slot, revision.id), mine);
        self.look.stir();
    }

    /// The leases whose end has moved: the guards of what runs by them are told.
    pub(crate) fn extend(&self, extended: Vec<(SlotId, Fence)>, out: &mut Vec<Effect>) {
        for (slot, fence) in extended {
            let runs = |mine: &&Mine| mine.claim.token == Some(fence.token) && mine.is_held();
            let revisions = self.of_slot(&slot).filter(runs).map(|mine| mine.claim.revision);
            out.extend(revisions.map(|revision| Effect::Fence(slot.clone(), revision, fence)));
        }
    }

    /// Another node's claim arrived.
    pub(crate) fn put(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
        claim: Claim,
        confirmed: bool,
    ) {
        if node != self.me {
            self.book.put(now, node, incarnation, claim, confirmed);
        }
    }

    /// Something became of a replica.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        slot: &SlotId,
        revision: Revision,
        observed: Observed,
        out: &mut Vec<Effect>,
    ) {
        let Some(mine) = self.mine.get_mut(&(slot.clone(), revision.id)) else { return };
        self.look.stir();
        let was_leaving = mine.workload.is_leaving();
        let failed = matches!(observed, Observed::StartFailed { .. });
        let ended = matches!(observed, Observed::Ended { .. }) && !was_leaving;
        let was_healthy = mine.workload.unhealthy_since().is_none();
        let was_stuck = mine.workload.is_stuck();
        if let Observed::Stuck { reason } = &observed {
            // Also of a claim that has failed: nobody gets the slot from this node until that is over.
            mine.claim.detail = bounded(reason);
            let token = mine.claim.token.map(|token| format!(" (token {token})"));
            let text = format!("{reason}{}; {STUCK}", token.unwrap_or_default());
            out.push(Effect::Note(slot.clone(), Some(Severity::Error), text));
        }
        let mut jobs = Vec::new();
        mine.workload.handle(now, observed, &mut jobs);
        if was_stuck && !mine.workload.is_stuck() {
            let text = "nothing is left of what survived SIGKILL".to_owned();
            out.push(Effect::Note(slot.clone(), Some(Severity::Info), text));
        }
        let detail = mine.workload.detail();
        let text = match (failed && !was_leaving, ended) {
            (true, _) => Some(format!("cannot start: {detail}")),
            (_, true) => Some(detail.to_owned()),
            (false, false) => {
                let sickens = was_healthy && mine.workload.unhealthy_since().is_some();
                sickens.then(|| format!("unhealthy: {detail}"))
            }
        };
        if let Some(text) = text {
            out.push(Effect::Note(slot.clone(), Some(Severity::Warning), text));
        }
        push_jobs(slot, revision, jobs, out);
    }

    /// Everything that time, news or the catalogue ask for.
    pub(crate) fn reconcile(&mut self, world: &World<'_>, out: &mut Vec<Effect>) {
        let Some(scope) = self.what_to_look_at(world) else { return };
        let n_before = out.len();
        self.wake = None;
        self.tend(world, out);
        self.seek(world, scope, out);
        self.start_some(world, out);
        self.publish(world, out);
        if out.len() != n_before {
            // One thing leads to another: who is ready now may relieve another claim of this node.
            self.look.stir();
        }
        self.look_ahead(world, out);
    }

    /// C1, C8: starts what is queued, once the others were heard and as far as there is room. What was not started before is an
    /// intent until then, so that whoever has room may take it.
    fn start_some(&mut self, world: &World<'_>, out: &mut Vec<Effect>) {
        if !world.warm {
            return;
        }
        let mut room = self.room(world);
        for ((slot, _), mine) in &mut self.mine {
            let may = match mine.hold {
                Hold::Held => true,
                Hold::Intent { until } => until <= world.now,
                Hold::Draining { .. } | Hold::Leaving | Hold::Failed { .. } => false,
            };
            let is_leased = Self::may_run(world, mine) && Self::has_time(world, mine);
            if !may || !mine.workload.is_queued() || room == 0 || !is_leased {
                continue;
            }
            room = room.saturating_sub(1);
            if mine.hold != Hold::Held {
                mine.hold = Hold::Held;
                out.push(Effect::Note(slot.clone(), None, "starts".to_owned()));
            }
            let mut jobs = Vec::new();
            mine.workload.start(&mut jobs);
            mine.unready = Some(world.now);
            let is_told = mine.claim.token.is_some() && world.rules.hold(Rule::GuardFirst);
            let fence = world.leases.fence(slot).filter(|_| is_told);
            out.extend(fence.map(|fence| Effect::Fence(slot.clone(), mine.claim.revision, fence)));
            push_jobs(slot, mine.claim.revision, jobs, out);
        }
    }

    /// C8: how many more replicas this node may start now.
    fn room(&self, world: &World<'_>) -> usize {
        let limit = if world.rules.hold(Rule::StartsMax) { STARTS_MAX } else { usize::MAX };
        limit.saturating_sub(self.mine.values().filter(|it| it.workload.is_starting()).count())
    }

    /// K4: who takes over says so before its predecessor on this node says that it lets go, whatever their revisions are called.
    fn publish(&mut self, world: &World<'_>, out: &mut Vec<Effect>) {
        let now = world.now;
        let mut gone = Vec::new();
        let mut let_go = Vec::new();
        for (key, mine) in &mut self.mine {
            mine.refresh(now);
            // The claim was looked at before in this round, so the edge shows only against what the others know.
            let was_ready =
                mine.published.as_ref().is_some_and(|known| known.phase == Phase::Ready);
            if mine.is_ready() && !was_ready {
                mine.claim.failover_ms =
                    mine.orphaned.take().map_or(mine.claim.failover_ms, |orphaned| {
                        u32::try_from(now.since(orphaned).as_millis()).ok()
                    });
                let failover = mine
                    .claim
                    .failover_ms
                    .map(|ms| format!(", {ms} ms after the last sign of the lost node"));
                let text = format!("ready{}", failover.unwrap_or_default());
                out.push(Effect::Note(key.0.clone(), Some(Severity::Info), text));
            }
            if mine.workload.is_gone() {
                gone.push(key.clone());
            } else if mine.published.as_ref() != Some(&mine.claim) {
                self.seq = self.seq.wrapping_add(1);
                mine.claim.seq = self.seq;
                mine.published = Some(mine.claim.clone());
                let words = if mine.claim.phase.holds() { &mut *out } else { &mut let_go };
                words.push(Effect::Publish(mine.claim.clone()));
            }
        }
        out.append(&mut let_go);
        for key in gone {
            if let Some(mine) = self.mine.remove(&key) {
                out.push(Effect::Withdraw(mine.claim.key()));
                // What an earlier lease has left may go while the next one runs.
                let is_last = self.of_slot(&key.0).next().is_none();
                if is_last && mine.claim.token.is_some() {
                    out.push(Effect::Release(key.0));
                }
            }
        }
    }

    /// Notes a moment at which time alone changes something.
    fn wake_at(&mut self, now: Instant, at: Instant) {
        if at > now && self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
        }
    }

    /// How many other slots of the slot's service this node holds.
    fn crowding(&self, slot: &SlotId) -> u32 {
        let same = |other: &&Mine| {
            other.is_held()
                && other.claim.slot.app == slot.app
                && other.claim.slot.service == slot.service
                && other.claim.slot.index != slot.index
        };
        let others: BTreeSet<&SlotId> =
            self.mine.values().filter(same).map(|mine| &mine.claim.slot).collect();
        u32::try_from(others.len()).unwrap_or(u32::MAX)
    }

    /// The claims that count for a slot: of this node, and of nodes that are not down.
    fn standings(&self, world: &World<'_>, slot: &SlotId) -> Vec<Standing> {
        let standing = |claim: &Claim| Standing {
            revision: claim.revision,
            phase: claim.phase,
            yielding: claim.yielding,
        };
        let own =
            self.of_slot(slot).filter(|mine| mine.is_held()).map(|mine| standing(&mine.claim));
        let others = self.book.of(slot).filter(|(node, held)| world.stands(*node, held));
        own.chain(others.map(|(_, held)| standing(&held.claim))).collect()
    }

    fn of_slot(&self, slot: &SlotId) -> impl Iterator<Item = &Mine> {
        let from = (slot.clone(), 0);
        self.mine
            .range(from..)
            .take_while(move |((other, _), _)| other == slot)
            .map(|(_, mine)| mine)
    }

    /// Lets go of a claim. What served goes on answering for `drain`, so that nobody is cut off.
    fn leave(
        &mut self,
        now: Instant,
        key: &(SlotId, u64),
        drain: Duration,
        why: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(mine) = self.mine.get_mut(key) else { return };
        if matches!(mine.hold, Hold::Draining { .. } | Hold::Leaving) {
            return;
        }
        let drain = if mine.serves() { drain } else { Duration::ZERO };
        out.push(Effect::Note(
            key.0.clone(),
            Some(Severity::Info),
            format!("lets go of {}: {why}", mine.claim.revision),
        ));
        mine.asked = None;
        if drain.is_zero() {
            mine.hold = Hold::Leaving;
            let mut jobs = Vec::new();
            mine.workload.stop(&mut jobs);
            push_jobs(&key.0, mine.claim.revision, jobs, out);
        } else {
            mine.hold = Hold::Draining { until: now + drain };
            self.wake_at(now, now + drain);
        }
    }
}

impl World<'_> {
    /// Whether the claims of `node` count: it is a member and not down.
    fn counts(&self, node: NodeId) -> bool {
        let counts = |status| match status {
            NodeStatus::Down => !self.rules.hold(Rule::DeadHoldNothing),
            NodeStatus::Restarting => self.rules.hold(Rule::RestartingHold),
            NodeStatus::Alive | NodeStatus::Unknown => true,
        };
        self.membership.status(node).is_some_and(counts) && self.state.nodes.contains_key(&node)
    }

    /// Whether a claim of `node` stands in anybody's way: not when it has been waiting for its start for long (C8).
    fn stands(&self, node: NodeId, held: &Held) -> bool {
        let waits = held.is_overdue(self.now) && self.rules.hold(Rule::IntentMax);
        self.counts(node) && !waits
    }
}

fn push_jobs(slot: &SlotId, revision: Revision, jobs: Vec<Do>, out: &mut Vec<Effect>) {
    out.extend(jobs.into_iter().map(|job| Effect::Do(slot.clone(), revision, job)));
}

#[cfg(test)]
mod tests;
