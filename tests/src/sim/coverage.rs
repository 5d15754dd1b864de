//! What happened in a run: a test that meets nothing shows nothing.

use std::collections::BTreeMap;

use super::plan::{Act, Fault};

/// Counts of what happened.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Agents started.
    pub boots: u64,
    /// Agents killed.
    pub kills: u64,
    /// Hosts that lost power.
    pub power_offs: u64,
    /// Hosts that lost their disks.
    pub wipes: u64,
    /// Agents paused.
    pub pauses: u64,
    /// Times at which ways were cut.
    pub splits: u64,
    /// Ways mended.
    pub heals: u64,
    /// Containers started.
    pub starts: u64,
    /// Replicas that replaced one of a dead node.
    pub failovers: u64,
    /// Releases after which another goes on.
    pub reliefs: u64,
    /// Containers that began by a lease.
    pub leased: u64,
    /// Containers of which a guard saw the end of the lease.
    pub fenced: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records acknowledged as safe.
    pub acked_firmly: u64,
    /// Messages sent.
    pub messages: u64,
    /// Inputs handled.
    pub inputs: u64,
    /// Looks at parts of the mesh that had been left alone for long enough to be in order.
    pub settled: u64,
    /// Looks at how claims of a service were spread that were made in a quiet mesh.
    pub spreads: u64,
    /// The most messages that one node sent within a second.
    pub messages_max: u64,
    /// The most often that one node woke within a second.
    pub wakes_max: u64,
    /// Containers whose leases ended while their host slept.
    pub overslept: u64,
    /// Candidates that met another's ballot of the same counter.
    pub same_counters: u64,
    /// Looks at nodes that park an app.
    pub parked: u64,
    /// Changes of witnesses proposed.
    pub changes: u64,
    faults: BTreeMap<Fault, u64>,
    /// Faults after which leases ended.
    ends: BTreeMap<Fault, u64>,
    /// Faults that befell witnesses.
    witnesses: BTreeMap<Fault, u64>,
    acts: BTreeMap<Act, u64>,
}

impl Coverage {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn ended_a_lease(&mut self, fault: Fault) {
        *self.ends.entry(fault).or_default() += 1;
    }

    pub(crate) fn struck_a_witness(&mut self, fault: Fault) {
        *self.witnesses.entry(fault).or_default() += 1;
    }

    pub(crate) fn act(&mut self, act: Act) {
        *self.acts.entry(act).or_default() += 1;
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        self.boots += other.boots;
        self.kills += other.kills;
        self.power_offs += other.power_offs;
        self.wipes += other.wipes;
        self.pauses += other.pauses;
        self.splits += other.splits;
        self.heals += other.heals;
        self.starts += other.starts;
        self.failovers += other.failovers;
        self.reliefs += other.reliefs;
        self.leased += other.leased;
        self.fenced += other.fenced;
        self.acked += other.acked;
        self.acked_firmly += other.acked_firmly;
        self.messages += other.messages;
        self.inputs += other.inputs;
        self.settled += other.settled;
        self.spreads += other.spreads;
        self.messages_max = self.messages_max.max(other.messages_max);
        self.wakes_max = self.wakes_max.max(other.wakes_max);
        self.overslept += other.overslept;
        self.same_counters += other.same_counters;
        self.parked += other.parked;
        self.changes += other.changes;
        let sums = [
            (&mut self.faults, &other.faults),
            (&mut self.ends, &other.ends),
            (&mut self.witnesses, &other.witnesses),
        ];
        for (sum, more) in sums {
            for (fault, count) in more {
                *sum.entry(*fault).or_default() += count;
            }
        }
        for (act, count) in &other.acts {
            *self.acts.entry(*act).or_default() += count;
        }
    }

    /// Kinds of faults, and of acts of operators, that never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault));
        let acts = Act::ALL.iter().filter(|act| !self.acts.contains_key(act));
        faults.map(|fault| format!("{fault:?}")).chain(acts.map(|act| format!("{act:?}"))).collect()
    }

    /// How often leases ended by each fault that ends leases by itself.
    #[must_use]
    pub fn leases_ended(&self) -> Vec<(String, u64)> {
        let ending = [
            Fault::Crash,
            Fault::Isolate,
            Fault::Pause,
            Fault::PowerOff,
            Fault::Split,
            Fault::Suspend,
        ];
        let count = |fault: Fault| self.ends.get(&fault).copied().unwrap_or(0);
        ending.map(|fault| (format!("{fault:?}"), count(fault))).into()
    }

    /// How often each fault befell a node that vouched for a slot.
    #[must_use]
    pub fn witnesses_struck(&self) -> Vec<(String, u64)> {
        let count = |fault: &Fault| self.witnesses.get(fault).copied().unwrap_or(0);
        Fault::ALL.iter().map(|fault| (format!("{fault:?}"), count(fault))).collect()
    }

    /// How often nodes were drained, services scaled, and nodes joined.
    #[must_use]
    pub fn drains_scales_joins(&self) -> [u64; 3] {
        [Act::Drain, Act::Scale, Act::Join].map(|act| self.acts.get(&act).copied().unwrap_or(0))
    }
}
