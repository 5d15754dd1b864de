//! What holds: the resolved form of the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::authority::Authority;
use super::record::{
    Body, Genesis, Invitation, NodeAddress, Operator, RecordKey, Release, Settings, SlotReset,
};
use super::set::Records;
use crate::id::{AppUid, Hash, MeshId, NodeId, PublicKey, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::{LEAP_MAX, LeaseId, Token, WitnessId};
use crate::name::{AppName, NodeName, ServiceName};
use crate::rules::{Rule, Rules};
use crate::spec::{Labels, Mode, ServiceSpec};
use crate::time::WallTime;

/// A member, with all that operators and the node itself said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its key.
    pub key: PublicKey,
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: Labels,
    /// Its weight, in percent; 100 unless an operator said otherwise.
    pub weight: u32,
    /// Whether it is drained.
    pub drained: bool,
    /// Where it is; `None` until it said so.
    pub address: Option<NodeAddress>,
}

/// An app that is not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its current release.
    pub release: Release,
    /// Who wrote that.
    pub author: PublicKey,
    /// When, by the author's clock.
    pub written: WallTime,
    /// Replicas by service, where somebody scaled since.
    pub scale: BTreeMap<ServiceName, u32>,
    /// Requested restarts by service.
    pub restarts: BTreeMap<ServiceName, u64>,
    /// The last reset of each slot that was ever reset.
    pub resets: BTreeMap<(ServiceName, u32), SlotReset>,
    /// False after `stop`.
    pub running: bool,
}

impl App {
    /// The current definition of a service: its revision in the release, and one more for each requested restart.
    #[must_use]
    pub fn revision(&self, service: &ServiceName, spec: &ServiceSpec) -> Revision {
        let count = self.restarts.get(service).copied().unwrap_or(0);
        if count == 0 {
            return spec.revision;
        }
        let id =
            Hash::of(&[b"mesh restart", &spec.revision.id.to_be_bytes(), &count.to_be_bytes()])
                .head();
        Revision { number: spec.revision.number.saturating_add(count), id }
    }

    /// How many replicas a service has: what was scaled last, or what the release says.
    #[must_use]
    pub fn mode(&self, service: &ServiceName, spec: &ServiceSpec) -> Mode {
        match (spec.deploy.mode, self.scale.get(service)) {
            (Mode::Replicated(_), Some(replicas)) => Mode::Replicated(*replicas),
            (mode, _) => mode,
        }
    }

    /// The last reset of one of its slots; `None` if there was none.
    #[must_use]
    pub fn reset(&self, slot: &SlotId) -> Option<&SlotReset> {
        let SlotIndex::Number(number) = slot.index else { return None };
        self.resets.get(&(slot.service.clone(), number))
    }

    /// Which lease one of its exclusive slots is held by, and among whom the first witnesses of that are.
    #[must_use]
    pub fn lease(&self, slot: &SlotId) -> (LeaseId, &BTreeSet<WitnessId>) {
        let reset = self.reset(slot);
        let id = LeaseId { slot: slot.clone(), reset: reset.map_or(0, SlotReset::id) };
        (id, reset.map_or(&self.release.roster, |reset| &reset.roster))
    }

    /// Whether the app, as it is now, has this slot at all. Whether a node suits a global slot is not asked.
    #[must_use]
    pub fn wants(&self, slot: &SlotId) -> bool {
        let Some(spec) = self.release.spec.service(&slot.service) else { return false };
        self.running
            && match (self.mode(&slot.service, spec), slot.index) {
                (Mode::Replicated(replicas), SlotIndex::Number(number)) => number < replicas,
                (Mode::Global, SlotIndex::Node(_)) => true,
                (Mode::Replicated(_), SlotIndex::Node(_))
                | (Mode::Global, SlotIndex::Number(_)) => false,
            }
    }
}

/// What holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The birth of the mesh; `None` until it arrived.
    pub genesis: Option<Genesis>,
    /// The root operator's key; `None` until the genesis record arrived. It may have been removed.
    pub root: Option<PublicKey>,
    /// The keys that were the root before it.
    pub former_roots: BTreeSet<PublicKey>,
    /// The key that can replace the root; `None` until the genesis record arrived.
    pub recovery: Option<PublicKey>,
    /// The mesh's settings; `None` while nobody changed them.
    pub settings: Option<Settings>,
    /// Operators that are not removed.
    pub operators: BTreeMap<PublicKey, Operator>,
    /// Operators that were removed.
    pub removed_operators: BTreeSet<PublicKey>,
    /// Invitations.
    pub invitations: BTreeMap<PublicKey, Invitation>,
    /// Members that are not removed.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Nodes that were removed.
    pub removed_nodes: BTreeSet<NodeId>,
    /// Apps that are not removed.
    pub apps: BTreeMap<AppUid, App>,
    /// Apps that do not run because another one has their name: created on two sides of a split, with exclusive slots.
    pub parked: BTreeMap<AppUid, App>,
    /// Apps that were removed.
    pub removed_apps: BTreeSet<AppUid>,
    /// How many apps of each name were removed.
    pub ended: BTreeMap<AppName, u64>,
    /// How often each name was removed from an app without exclusive slots.
    pub removals: BTreeMap<AppName, u64>,
    /// Which image a name means.
    pub images: BTreeMap<String, String>,
}

/// The pause between two rounds of gossip in a mesh of `n_nodes` that has no setting of its own.
///
/// What gossip costs a node grows with the number of nodes and falls with the pause; the steps keep it near 50 KB/s. Nothing
/// urgent waits for it: detection does not depend on it, see [`crate::membership`], and claims go directly to those whom
/// they concern. So it is not quicker in small meshes, where it would be most of what an idle agent does.
#[must_use]
pub const fn gossip_interval(n_nodes: usize) -> Duration {
    Duration::from_millis(match n_nodes {
        0..=100 => 500,
        101..=500 => 1_000,
        _ => 2_000,
    })
}

impl State {
    /// The pause between two rounds of gossip: what the mesh's settings say, else [`gossip_interval`] of its size.
    #[must_use]
    pub fn gossip_interval(&self) -> Duration {
        let set = self.settings.as_ref().map(|settings| settings.gossip_interval_ms);
        let set = set.map(|ms| Duration::from_millis(u64::from(ms)));
        set.unwrap_or_else(|| gossip_interval(self.nodes.len()))
    }

    /// No token of the leases that a slot of `app` had before its present one is higher; zero when it had none. A reset says so; and each
    /// life of an app has room for more tokens than anybody can use up.
    #[must_use]
    pub fn former_tokens(&self, app: &App, slot: &SlotId) -> Token {
        let ended = self.ended.get(&app.release.spec.name).copied().unwrap_or(0);
        let former = Token(LEAP_MAX.saturating_mul(ended));
        app.reset(slot).map_or(former, |reset| former.max(reset.after))
    }

    /// The identity that an app of this name without exclusive slots has now, or would get.
    #[must_use]
    pub fn uid(&self, mesh: MeshId, name: &AppName) -> AppUid {
        self.uid_with_roster(mesh, name, &BTreeSet::new())
    }

    /// The identity that an app of this name with this roster has now, or would get: the first of its lives that is not over.
    ///
    /// Lives are counted for each roster by itself. Apps of one name with different rosters are different apps, made on two sides of
    /// a split perhaps, and the end of one must not be the end of another.
    #[must_use]
    pub fn uid_with_roster(
        &self,
        mesh: MeshId,
        name: &AppName,
        roster: &BTreeSet<WitnessId>,
    ) -> AppUid {
        self.life(mesh, name, roster).0
    }

    /// That identity, and how many before it are over. Only tombstones for true lives count, or one for a made up life would end
    /// the true one; and a life is over whatever name its tombstone says.
    fn life(&self, mesh: MeshId, name: &AppName, roster: &BTreeSet<WitnessId>) -> (AppUid, u64) {
        let mut count = 0_u64;
        loop {
            let uid = AppUid::with_roster(mesh, name, count, roster);
            if !self.removed_apps.contains(&uid) {
                return (uid, count);
            }
            count = count.saturating_add(1);
        }
    }

    pub(crate) fn resolve(
        mesh: MeshId,
        records: &Records,
        authority: &Authority,
        rules: Rules,
    ) -> Self {
        let mut state = Self {
            root: authority.root(),
            former_roots: authority.former_roots().collect(),
            recovery: authority.recovery(),
            operators: authority.operators().clone(),
            removed_operators: authority.removed_operators().collect(),
            invitations: authority.invitations.clone(),
            removed_nodes: authority.removed_members.keys().copied().collect(),
            ..Self::default()
        };
        let members = authority
            .members
            .iter()
            .filter(|(node, _)| !authority.removed_members.contains_key(*node));
        state.nodes = members
            .map(|(node, member)| {
                let blank = Node {
                    key: member.key,
                    name: member.name.clone(),
                    labels: Labels::new(),
                    weight: 100,
                    drained: false,
                    address: None,
                };
                (*node, blank)
            })
            .collect();
        let valid = |key: &RecordKey| records.best(key, |entry| authority.judge(entry).is_ok());
        let (removals, rest): (Vec<_>, Vec<_>) = records
            .keys()
            .filter_map(valid)
            .partition(|entry| matches!(entry.record.body, Body::AppRemoval { .. }));
        for entry in removals {
            if let Body::AppRemoval { app, name } = &entry.record.body
                && rules.hold(Rule::Tombstone)
            {
                state.removed_apps.insert(*app);
                *state.ended.entry(name.clone()).or_default() += 1;
            }
        }
        for name in state.ended.keys() {
            let (_, count) = state.life(mesh, name, &BTreeSet::new());
            state.removals.insert(name.clone(), count);
        }
        // Releases first: what else is said of an app finds it there.
        let is_release = |body: &Body| matches!(body, Body::App(_));
        for entry in rest.iter().filter(|entry| is_release(&entry.record.body)) {
            state.apply_release(
                mesh,
                &entry.record.body,
                entry.record.author,
                entry.record.stamp.written,
            );
        }
        state.park();
        for entry in rest.iter().filter(|entry| !is_release(&entry.record.body)) {
            state.apply(&entry.record.body);
        }
        state
    }

    fn apply_release(&mut self, mesh: MeshId, body: &Body, author: PublicKey, written: WallTime) {
        let Body::App(release) = body else { return };
        // An identity that does not follow from the name would let two apps share one name.
        let expected = self.uid_with_roster(mesh, &release.spec.name, &release.roster);
        // Without a roster nobody could ever witness, and two apps of one name would not be told apart.
        let is_exclusive = release.spec.services.values().any(|it| it.guarantee.is_exclusive());
        if release.app != expected || (is_exclusive && release.roster.is_empty()) {
            return;
        }
        let app = App {
            release: release.clone(),
            author,
            written,
            scale: BTreeMap::new(),
            restarts: BTreeMap::new(),
            resets: BTreeMap::new(),
            running: true,
        };
        self.apps.insert(release.app, app);
    }

    /// Of two apps that were created under one name on two sides of a split, one runs. Which one has to be the same everywhere and
    /// always, so neither clocks nor later releases decide.
    fn park(&mut self) {
        let mut names = BTreeSet::new();
        let apps = std::mem::take(&mut self.apps);
        for (uid, app) in apps {
            let is_first = names.insert(app.release.spec.name.clone());
            if is_first { &mut self.apps } else { &mut self.parked }.insert(uid, app);
        }
    }

    fn apply(&mut self, body: &Body) {
        match body {
            Body::Genesis(genesis) => self.genesis = Some(genesis.clone()),
            Body::Settings(settings) => self.settings = Some(settings.clone()),
            Body::Address(address) => {
                if let Some(node) = self.nodes.get_mut(&address.node) {
                    node.address = Some(address.clone());
                }
            }
            Body::Labels(labels) => {
                if let Some(node) = self.nodes.get_mut(&labels.node) {
                    node.labels = labels.labels.clone();
                    node.weight = labels.weight.max(1);
                }
            }
            Body::Drain(drain) => {
                if let Some(node) = self.nodes.get_mut(&drain.node) {
                    node.drained = drain.drained;
                }
            }
            Body::Scale(scale) => {
                if let Some(app) = self.apps.get_mut(&scale.app) {
                    app.scale.insert(scale.service.clone(), scale.replicas);
                }
            }
            Body::Restart(restart) => {
                if let Some(app) = self.apps.get_mut(&restart.app) {
                    app.restarts.insert(restart.service.clone(), restart.count);
                }
            }
            Body::SlotReset(reset) => {
                let app = self.apps.get_mut(&reset.app);
                if let Some(app) = app.or_else(|| self.parked.get_mut(&reset.app)) {
                    app.resets.insert((reset.service.clone(), reset.number), reset.clone());
                }
            }
            Body::Run(run) => {
                if let Some(app) = self.apps.get_mut(&run.app) {
                    app.running = run.running;
                }
            }
            Body::Image { name, digest } => {
                self.images.insert(name.clone(), digest.clone());
            }
            Body::App(_)
            | Body::AppRemoval { .. }
            | Body::Recovery(_)
            | Body::Operator(_)
            | Body::OperatorRemoval(_)
            | Body::Invitation(_)
            | Body::Member(_)
            | Body::MemberRemoval { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
