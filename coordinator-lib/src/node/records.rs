//! Records on their way: from operators, to peers, and onto disks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Node, Output, Ticket};
use crate::catalogue::{Entry, Exchange, Inserted, RecordKey};
use crate::event::{Severity, Subject};
use crate::id::{Hash, NodeId};
use crate::message::{Message, TELL_ALL_MAX};
use crate::rules::Rule;
use crate::time::{Instant, WallTime};

/// P1: how long a submission waits for a second disk.
const SECOND_DISK_MAX: Duration = Duration::from_secs(3);
/// How often a push that nobody acknowledged is repeated meanwhile.
const PUSH_PERIOD: Duration = Duration::from_millis(500);
/// In a large mesh, how many peers a record is pushed to by everybody who sees it first.
const FAN_OUT: usize = 3;
/// How often a node compares its catalogue with a random peer, whatever gossip says.
const EXCHANGE_PERIOD: Duration = Duration::from_secs(30);

/// A submission on its way.
#[derive(Debug, Clone)]
struct Submission {
    entries: Vec<Entry>,
    /// So many of them were handed in; what follows are the records that those let stay.
    n_handed_in: usize,
    /// `None` until this node's own disk has it.
    stored: Option<Instant>,
    pushed: Instant,
    /// What each peer has acknowledged of it.
    acknowledged: BTreeMap<NodeId, BTreeSet<Hash>>,
}

/// What waits for a disk or for a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Desk {
    pub(super) exchange: Exchange,
    submissions: BTreeMap<Ticket, Submission>,
    /// Records from peers that are being stored, and who is told when they are.
    receiving: BTreeMap<Ticket, (NodeId, Vec<Hash>)>,
    /// Records from peers that count here and are not on this disk, or not yet.
    unstored: BTreeSet<Hash>,
    n_received: u64,
    exchanged: Instant,
}

/// Tickets of what peers sent begin here, those of submissions below: the driver hands out the latter.
const RECEIVED: u64 = 1 << 63;

impl Desk {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let pushes = self.submissions.values().filter_map(|submission| {
            submission
                .stored
                .map(|stored| (submission.pushed + PUSH_PERIOD).min(stored + SECOND_DISK_MAX))
        });
        pushes.chain([self.exchanged + EXCHANGE_PERIOD]).min()
    }
}

impl Node {
    /// An operator's records: judged as a whole, stored here first, then elsewhere, then acknowledged (P1).
    pub(super) fn on_submit(&mut self, ticket: Ticket, entries: Vec<Entry>, out: &mut Vec<Output>) {
        let (refused, kept) = self.catalogue.check(&entries);
        if !refused.is_empty() {
            let refused = refused.into_iter().map(|(hash, why)| (hash, why.to_string())).collect();
            let n_peers = self.n_alive();
            out.push(Output::Submitted {
                ticket,
                stored_on: Vec::new(),
                n_peers,
                refused,
                failure: None,
            });
            return;
        }
        // What a removal lets stay is stored with it, behind it: nobody can replace it any more meanwhile.
        let n_handed_in = entries.len();
        let entries: Vec<Entry> = entries.into_iter().chain(kept).collect();
        let submission = Submission {
            entries: entries.clone(),
            n_handed_in,
            stored: None,
            pushed: Instant::ZERO,
            acknowledged: BTreeMap::new(),
        };
        self.desk.submissions.insert(ticket, submission);
        out.push(Output::Store { ticket, entries });
    }

    /// Records are on this node's disk. Returns whether the catalogue changed.
    pub(super) fn on_stored(
        &mut self,
        now: Instant,
        ticket: Ticket,
        out: &mut Vec<Output>,
    ) -> bool {
        if let Some((from, hashes)) = self.desk.receiving.remove(&ticket) {
            for hash in &hashes {
                self.desk.unstored.remove(hash);
            }
            out.push(Output::Send { to: from, message: Message::Stored(hashes) });
            return false;
        }
        let Some(submission) = self.desk.submissions.get_mut(&ticket) else { return false };
        submission.stored = Some(now);
        submission.pushed = now;
        let (entries, n_handed_in) = (submission.entries.clone(), submission.n_handed_in);
        // Before they hold here: a member that they remove is told so, and lets go of what it runs.
        self.push(&entries, None, out);
        self.apply(now, entries.clone(), out);
        if self.n_alive() == 0
            || !self.rules.hold(Rule::SecondDisk)
            || !self.refusals(entries.iter().take(n_handed_in)).is_empty()
        {
            self.acknowledge(ticket, out);
        }
        true
    }

    pub(super) fn on_store_failed(
        &mut self,
        wall: WallTime,
        ticket: Ticket,
        reason: &str,
        out: &mut Vec<Output>,
    ) {
        // What peers sent counts in memory and is not acknowledged: it comes again, and meanwhile this node follows it.
        if self.desk.receiving.remove(&ticket).is_none()
            && self.desk.submissions.remove(&ticket).is_some()
        {
            let (n_peers, failure) = (self.n_alive(), Some(reason.to_owned()));
            out.push(Output::Submitted {
                ticket,
                stored_on: Vec::new(),
                n_peers,
                refused: Vec::new(),
                failure,
            });
        }
        self.tell(
            wall,
            Severity::Error,
            Subject::Node(self.config.me),
            format!("cannot store records: {reason}"),
            out,
        );
    }

    /// A peer has our records on its disk.
    pub(super) fn on_peer_stored(&mut self, from: NodeId, hashes: &[Hash], out: &mut Vec<Output>) {
        let mut done = Vec::new();
        for (ticket, submission) in &mut self.desk.submissions {
            let acknowledged = submission.acknowledged.entry(from).or_default();
            acknowledged.extend(hashes);
            let all = submission.entries.iter().all(|entry| acknowledged.contains(&entry.hash));
            if all && submission.stored.is_some() {
                done.push(*ticket);
            }
        }
        for ticket in done {
            self.acknowledge(ticket, out);
        }
    }

    /// Records from a peer. Returns whether the catalogue changed.
    pub(super) fn on_records(
        &mut self,
        now: Instant,
        from: NodeId,
        entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) -> bool {
        let outcomes = self.apply(now, entries, out);
        let mut known = Vec::new();
        let mut fresh = Vec::new();
        let mut again = Vec::new();
        for (entry, outcome) in outcomes {
            match outcome {
                Inserted::Applied if self.catalogue.by_hash(&entry.hash).is_some() => {
                    fresh.push(entry);
                }
                // Another record of the same message made it void, or took its room.
                Inserted::Applied => {}
                Inserted::Known if self.is_stored(&entry) => known.push(entry.hash),
                // It counts already, but the disk did not take it, or not yet. A better one than it will do as well.
                Inserted::Known => again.extend(self.standing(&entry).cloned()),
                // When the author is unknown its own record may still be on its way, and the exchange brings this one again.
                Inserted::Refused(refusal) => {
                    let author = entry.record.author;
                    out.push(Output::Refused { from, author, refusal });
                }
            }
        }
        // Whoever has told this node of its removal listens to it no more, and would only tell it again.
        if !known.is_empty() && !self.is_parted() {
            out.push(Output::Send { to: from, message: Message::Stored(known) });
        }
        let news = !fresh.is_empty();
        if self.membership.peers().count() > TELL_ALL_MAX && news {
            self.push(&fresh, Some(from), out);
        }
        fresh.append(&mut again);
        if !fresh.is_empty() {
            self.receive(from, fresh, out);
        }
        news
    }

    /// Stores records of a peer, and tells it when they are on the disk.
    fn receive(&mut self, from: NodeId, fresh: Vec<Entry>, out: &mut Vec<Output>) {
        let ticket = Ticket(RECEIVED | self.desk.n_received);
        self.desk.n_received = self.desk.n_received.wrapping_add(1) & (RECEIVED - 1);
        let hashes: Vec<Hash> = fresh.iter().map(|entry| entry.hash).collect();
        self.desk.unstored.extend(&hashes);
        self.desk.receiving.insert(ticket, (from, hashes));
        if !self.rules.hold(Rule::StoreBeforeAnswer) {
            let hashes = fresh.iter().map(|entry| entry.hash).collect();
            out.push(Output::Send { to: from, message: Message::Stored(hashes) });
        }
        out.push(Output::Store { ticket, entries: fresh });
    }

    /// The record of the same author that stands for `entry` here: itself, or a better one.
    fn standing(&self, entry: &Entry) -> Option<&Entry> {
        self.catalogue.of_author(&entry.record.body.key(), &entry.record.author)
    }

    fn is_stored(&self, entry: &Entry) -> bool {
        self.standing(entry).is_none_or(|standing| !self.desk.unstored.contains(&standing.hash))
    }

    pub(super) fn on_exchange(&mut self, from: NodeId, message: &Message, out: &mut Vec<Output>) {
        if !self.rules.hold(Rule::Exchange) {
            return;
        }
        let answers = match message {
            Message::Digest(theirs) => vec![Exchange::on_digest(theirs, &self.catalogue)],
            Message::Have { buckets, hashes } => {
                self.desk.exchange.on_have(from, buckets, hashes, &self.catalogue)
            }
            Message::Want(wanted) => Exchange::on_want(wanted, &self.catalogue),
            Message::Announce(_)
            | Message::Ask(_)
            | Message::Free { .. }
            | Message::Twin { .. }
            | Message::Word { .. }
            | Message::Vote(_)
            | Message::Unvote(_)
            | Message::Probe { .. }
            | Message::Alive { .. }
            | Message::Yield { .. }
            | Message::Keep { .. }
            | Message::Records(_)
            | Message::Stored(_) => Vec::new(),
        };
        out.extend(answers.into_iter().map(|message| Output::Send { to: from, message }));
    }

    /// Repeats pushes, ends submissions whose time is over, and compares catalogues now and then.
    pub(super) fn desk_wake(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut over = Vec::new();
        let mut again = Vec::new();
        for (ticket, submission) in &mut self.desk.submissions {
            let Some(stored) = submission.stored else { continue };
            if now.since(stored) >= SECOND_DISK_MAX {
                over.push(*ticket);
            } else if now.since(submission.pushed) >= PUSH_PERIOD {
                submission.pushed = now;
                again.extend(submission.entries.clone());
            }
        }
        if !again.is_empty() {
            self.push(&again, None, out);
        }
        for ticket in over {
            self.acknowledge(ticket, out);
        }
        if self.began.is_some() && now.since(self.desk.exchanged) >= EXCHANGE_PERIOD {
            self.desk.exchanged = now;
            let alive: Vec<NodeId> = self.membership.alive().collect();
            if let Some(peer) = self.prng.pick(&alive).copied() {
                let message = self.desk.exchange.ask(now, peer, &self.catalogue);
                out.push(Output::Send { to: peer, message });
            }
        }
    }

    fn apply(
        &mut self,
        now: Instant,
        entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) -> Vec<(Entry, Inserted)> {
        let outcomes = self.catalogue.extend(entries);
        if outcomes.iter().any(|(_, outcome)| *outcome == Inserted::Applied) {
            let void = self.catalogue.purge();
            if !void.is_empty() {
                out.push(Output::Erase(void));
            }
            self.part_from_removed(out);
            self.meet_members(now);
            self.rewatch(out);
            self.leases.note_ended(self.reading, self.catalogue.state());
            out.push(Output::Changed);
        }
        outcomes
    }

    /// Tells members that were just removed so, as long as they are still spoken to: they have to stop what they run.
    fn part_from_removed(&self, out: &mut Vec<Output>) {
        let removed = &self.catalogue.state().removed_nodes;
        for (node, _) in self.membership.peers().filter(|(node, _)| removed.contains(node)) {
            let record = self.catalogue.record(&RecordKey::MemberRemoval(node)).cloned();
            out.extend(
                record.map(|record| Output::Send {
                    to: node,
                    message: Message::Records(vec![record]),
                }),
            );
        }
    }

    fn push(&mut self, entries: &[Entry], except: Option<NodeId>, out: &mut Vec<Output>) {
        let mut alive: Vec<NodeId> =
            self.membership.alive().filter(|node| Some(*node) != except).collect();
        if alive.len() > TELL_ALL_MAX {
            self.prng.shuffle(&mut alive);
            alive.truncate(FAN_OUT);
        }
        for to in alive {
            let messages = Exchange::batches(entries);
            out.extend(messages.map(|message| Output::Send { to, message }));
        }
    }

    /// Why records do not stand that were handed in here; empty when all do.
    fn refusals<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Vec<(Hash, String)> {
        let judged = entries.map(|entry| (entry.hash, self.catalogue.judge(entry)));
        judged.filter_map(|(hash, result)| Some((hash, result.err()?.to_string()))).collect()
    }

    /// Says what became of a submission. Its author may have been removed while the disks wrote: then nothing is promised.
    fn acknowledge(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        let Some(submission) = self.desk.submissions.remove(&ticket) else { return };
        let refused = self.refusals(submission.entries.iter().take(submission.n_handed_in));
        if !refused.is_empty() {
            out.push(Output::Erase(refused.iter().map(|(hash, _)| *hash).collect()));
            let n_peers = self.n_alive();
            out.push(Output::Submitted {
                ticket,
                stored_on: Vec::new(),
                n_peers,
                refused,
                failure: None,
            });
            return;
        }
        let has_all = |hashes: &BTreeSet<Hash>| {
            submission.entries.iter().all(|entry| hashes.contains(&entry.hash))
        };
        let peers = submission
            .acknowledged
            .iter()
            .filter(|(_, hashes)| has_all(hashes))
            .map(|(node, _)| *node);
        let stored_on = [self.config.me].into_iter().chain(peers).collect();
        let n_peers = self.n_alive();
        out.push(Output::Submitted {
            ticket,
            stored_on,
            n_peers,
            refused: Vec::new(),
            failure: None,
        });
    }

    fn n_alive(&self) -> u32 {
        u32::try_from(self.membership.alive().count()).unwrap_or(u32::MAX)
    }
}
