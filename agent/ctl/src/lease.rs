//! Leases of exclusive slots as all nodes together know them.
//!
//! Each node tells what it knows itself: the holder how long it holds, a witness what it has granted. This puts it together, slot by
//! slot; it is pure. Nobody needs to have said the truth: what is shown is what each said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::lease::exclusive::{Configuration, Token, WitnessId};
use mesh_coordinator::view::{LeaseView, Overview, Pursuit, Testimony};

use crate::mesh::Known;

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Which.
    pub(crate) slot: SlotId,
    /// As people write it.
    pub(crate) name: String,
    /// Whether the catalogue wants it.
    pub(crate) wanted: bool,
    /// Who holds it; `None` when nobody does.
    pub(crate) holder: Option<Holder>,
    /// Who its witnesses are, as the latest that is known says it.
    pub(crate) configuration: Configuration,
    /// What each of them answers, in the order of the configuration.
    pub(crate) witnesses: Vec<Witness>,
    /// Who wants it and does not hold it.
    pub(crate) seekers: Vec<(NodeId, Pursuit)>,
    /// For how long nobody has held it, as far as a witness knows; `None` also while somebody does.
    pub(crate) free_for: Option<Duration>,
}

/// Who holds a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Which node.
    pub(crate) node: NodeId,
    /// By which token.
    pub(crate) token: Token,
    /// For how much longer, if the lease is not renewed.
    pub(crate) left: Duration,
    /// Whether it says so itself; else only its witnesses do.
    pub(crate) says_so: bool,
}

/// A witness, and what it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Which.
    pub(crate) id: WitnessId,
    /// Whether it stays when the witnesses are changed.
    pub(crate) part: Part,
    /// What it answers.
    pub(crate) answer: Answer,
}

/// What a change makes of a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is one after the change.
    Joins,
    /// It is one before the change.
    Leaves,
    /// It is one, change or not.
    Stays,
}

/// What a witness answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It does not know what is on its disk.
    Broken,
    /// The slot is free there.
    Free,
    /// It has granted the slot.
    Holds {
        /// To whom.
        node: NodeId,
        /// By which token.
        token: Token,
        /// For how much longer.
        left: Duration,
    },
    /// Its node has another store now, so that it is another witness.
    OtherStore,
    /// The slot is free there, and it was promised to this node last.
    Promised(NodeId),
    /// Its node was removed from the mesh.
    Removed,
    /// Its node does not answer.
    Silent(String),
}

impl Answer {
    /// Whether its word counts.
    pub(crate) const fn counts(&self) -> bool {
        match self {
            Self::Free | Self::Holds { .. } | Self::Promised(_) => true,
            Self::Broken | Self::OtherStore | Self::Removed | Self::Silent(_) => false,
        }
    }
}

impl Lease {
    /// Whether enough of its witnesses answer for anybody to hold it.
    pub(crate) fn has_quorum(&self) -> bool {
        let counting = self.witnesses.iter().filter(|it| it.answer.counts()).map(|it| it.id);
        self.configuration.is_quorum(&counting.collect())
    }

    /// Whether enough would answer if those did too that may: whose node is silent, or no witness until its agent starts again.
    pub(crate) fn may_recover(&self) -> bool {
        let may = |it: &&Witness| match it.answer {
            Answer::Broken
            | Answer::Free
            | Answer::Holds { .. }
            | Answer::Promised(_)
            | Answer::Silent(_) => true,
            Answer::OtherStore | Answer::Removed => false,
        };
        self.configuration.is_quorum(&self.witnesses.iter().filter(may).map(|it| it.id).collect())
    }

    /// Whether the removal of a node would take the majority of its witnesses: now, or for when those that are silent are back.
    pub(crate) fn needs(&self, node: NodeId) -> bool {
        let mut without = self.clone();
        for witness in without.witnesses.iter_mut().filter(|it| it.id.node == node) {
            witness.answer = Answer::Removed;
        }
        (self.has_quorum() && !without.has_quorum())
            || (self.may_recover() && !without.may_recover())
    }
}

/// What nodes told, slot by slot: those that are wanted, and those that somebody holds nevertheless.
pub(crate) fn merge(told: Vec<Known>, overview: &Overview) -> Vec<Lease> {
    let mut silent = BTreeMap::new();
    let mut slots: BTreeMap<SlotId, BTreeMap<NodeId, LeaseView>> = BTreeMap::new();
    for known in told {
        match known {
            Known::Lease { node, lease } => {
                slots.entry(lease.slot.clone()).or_default().insert(node, *lease);
            }
            Known::Silent { node, reason, .. } => drop(silent.insert(node, reason)),
        }
    }
    let merged = slots.into_values().filter_map(|views| lease(&views, &silent, overview));
    let mut leases: Vec<Lease> = merged.filter(|it| it.wanted || it.holder.is_some()).collect();
    // As `ps` lists them: by app, and not by its identity.
    let place = |lease: &Lease| {
        let app = lease.name.split('/').next().unwrap_or_default().to_owned();
        (app, lease.slot.clone())
    };
    leases.sort_by_cached_key(place);
    leases
}

fn lease(
    views: &BTreeMap<NodeId, LeaseView>,
    silent: &BTreeMap<NodeId, String>,
    overview: &Overview,
) -> Option<Lease> {
    // Whoever has not heard of a reset speaks of a lease that counts no more.
    let reset = views.get(&overview.seen_by).or_else(|| views.values().next())?.reset;
    let views: BTreeMap<NodeId, &LeaseView> =
        views.iter().filter(|(_, view)| view.reset == reset).map(|(id, it)| (*id, it)).collect();
    let latest = views.values().max_by_key(|view| view.configuration.version)?;
    let configuration = latest.configuration.clone();
    let witness = |id: WitnessId| {
        let testimony = views.get(&id.node).and_then(|view| view.testimony);
        let answer = answer(id, testimony, silent, overview);
        Witness { id, part: part(&configuration, id), answer }
    };
    let witnesses: Vec<Witness> = configuration.members().map(witness).collect();
    let holder = holder(&views, &configuration, &witnesses);
    let pursuits = views.iter().filter_map(|(node, view)| Some((*node, view.pursuit?)));
    let is_seeker = |(node, pursuit): &(NodeId, Pursuit)| match pursuit {
        Pursuit::Asking | Pursuit::Waiting { .. } => holder.is_none_or(|it| it.node != *node),
        Pursuit::Holding { .. } => false,
    };
    let ended = witnesses.iter().filter_map(|it| {
        let view = views.get(&it.id.node).filter(|_| it.answer.counts())?;
        view.testimony?.ended_ago
    });
    Some(Lease {
        slot: latest.slot.clone(),
        name: latest.name.clone(),
        // Nodes hear of changes one after the other: the entry agent is as good as any.
        wanted: views.get(&overview.seen_by).map_or(latest.wanted, |view| view.wanted),
        free_for: ended.min().filter(|_| holder.is_none()),
        seekers: pursuits.filter(is_seeker).collect(),
        holder,
        configuration: configuration.clone(),
        witnesses,
    })
}

fn part(configuration: &Configuration, id: WitnessId) -> Part {
    let Some(next) = &configuration.next else { return Part::Stays };
    match (configuration.current.contains(&id), next.contains(&id)) {
        (true, false) => Part::Leaves,
        (false, true) => Part::Joins,
        (true, true) | (false, false) => Part::Stays,
    }
}

fn answer(
    id: WitnessId,
    testimony: Option<Testimony>,
    silent: &BTreeMap<NodeId, String>,
    overview: &Overview,
) -> Answer {
    let Some(member) = overview.nodes.iter().find(|node| node.id == id.node) else {
        return Answer::Removed;
    };
    if let Some(reason) = silent.get(&id.node) {
        return Answer::Silent(reason.clone());
    }
    if member.store.is_some_and(|store| store != id.store) {
        return Answer::OtherStore;
    }
    // A witness that was never asked keeps nobody from the slot.
    let Some(testimony) = testimony else { return Answer::Free };
    match (testimony.vouches, testimony.grant, testimony.promised) {
        (false, _, _) => Answer::Broken,
        (true, Some(grant), _) => {
            Answer::Holds { node: grant.node, token: grant.token, left: grant.left }
        }
        (true, None, Some(node)) => Answer::Promised(node),
        (true, None, None) => Answer::Free,
    }
}

/// By its own word, of several the latest; else by that of enough witnesses.
fn holder(
    views: &BTreeMap<NodeId, &LeaseView>,
    configuration: &Configuration,
    witnesses: &[Witness],
) -> Option<Holder> {
    let own = views.iter().filter_map(|(node, view)| match view.pursuit? {
        Pursuit::Holding { token, left } => {
            Some(Holder { node: *node, token, left, says_so: true })
        }
        Pursuit::Asking | Pursuit::Waiting { .. } => None,
    });
    own.max_by_key(|holder| holder.token).or_else(|| {
        let granted = |it: &Witness| match it.answer {
            Answer::Holds { node, token, left } => Some((node, token, it.id, left)),
            Answer::Broken
            | Answer::Free
            | Answer::OtherStore
            | Answer::Promised(_)
            | Answer::Removed
            | Answer::Silent(_) => None,
        };
        let grants: Vec<_> = witnesses.iter().filter_map(granted).collect();
        let holders: BTreeSet<(NodeId, Token)> = grants.iter().map(|it| (it.0, it.1)).collect();
        holders.into_iter().find_map(|(node, token)| {
            let mut of_holder: Vec<_> =
                grants.iter().filter(|it| (it.0, it.1) == (node, token)).collect();
            of_holder.sort_by_key(|it| std::cmp::Reverse(it.3));
            // The slot is free when so many have ended that the others are not enough any more.
            let mut by = BTreeSet::new();
            let left = of_holder.into_iter().find_map(|(_, _, id, left)| {
                by.insert(*id);
                configuration.is_quorum(&by).then_some(*left)
            })?;
            Some(Holder { node, token, left, says_so: false })
        })
    })
}

#[cfg(test)]
mod tests;
