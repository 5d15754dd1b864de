//! Operators: they read the catalogue of some agent, and write what follows on it, as `agentctl` does.

mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_coordinator::catalogue::{
    Body, Catalogue, Drain, Entry, Genesis, KeptRecord, Member, NodeLabels, Operator as Grant,
    OperatorRemoval, Record, Release, Restart, Role, Run, Scale, SignedBytes, Stamp, State,
};
use mesh_coordinator::id::{AppUid, Hash, MeshId, NodeId, PublicKey, Signature};
use mesh_coordinator::lease::exclusive::{Timing, WitnessId};
use mesh_coordinator::name::{AppName, NodeName, ServiceName};
use mesh_coordinator::node::{Input, Output, Ticket};
use mesh_coordinator::spec::{AppSpec, Guarantee, Labels, Mode, ServiceSpec};
use mesh_coordinator::time::WallTime;

use super::World;
use super::clock::SECOND;
use super::host::Host;
use super::plan::Act;

/// A member is removed only while so many are left.
const MEMBERS_MIN: usize = 5;

/// What an operator was promised.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) entry: Entry,
    /// Who is said to have it on its disk.
    pub(crate) stored_on: BTreeSet<NodeId>,
    /// Those of them that were no members any more when that was said, or were removed before anybody else had it.
    pub(crate) strangers: BTreeSet<NodeId>,
}

/// All operators together: the key of the root in many hands, and those of people who come and go.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    key: PublicKey,
    pub(crate) mesh: MeshId,
    n_entries: u64,
    n_tickets: u64,
    /// How many were made operators.
    n_hired: u64,
    /// What was submitted and not yet answered, and the host that joins by it.
    pending: BTreeMap<(usize, Ticket), (Entry, Option<usize>)>,
    pub(crate) acked: Vec<Acked>,
    /// Through whose agent the last submission went.
    pub(crate) entry: Option<usize>,
    /// Hosts that lost their disks.
    lost: BTreeSet<NodeId>,
}

impl Operator {
    /// The founder of a mesh, and the record of its birth.
    pub(crate) fn new(seed: u64) -> (Self, Entry) {
        let key = PublicKey(Hash::of(&[b"operator", &seed.to_be_bytes()]).0);
        let mut operator = Self {
            key,
            mesh: MeshId(Hash([0; 32])),
            n_entries: 0,
            n_tickets: 0,
            n_hired: 0,
            pending: BTreeMap::new(),
            acked: Vec::new(),
            entry: None,
            lost: BTreeSet::new(),
        };
        let genesis = Body::Genesis(Genesis {
            name: "sim".parse().expect("a name"),
            root: key,
            root_name: "root".parse().expect("a name"),
            recovery: key,
            nonce: [0; 16],
        });
        let entry = operator.write(key, None, WallTime(0), genesis);
        operator.mesh = MeshId(entry.hash);
        (operator, entry)
    }

    /// A record of `author` that follows on `parent`.
    fn write(
        &mut self,
        author: PublicKey,
        parent: Option<&Entry>,
        written: WallTime,
        body: Body,
    ) -> Entry {
        self.n_entries += 1;
        let bytes = [&self.key.0[..8], &self.n_entries.to_be_bytes()].concat();
        let signed = SignedBytes { bytes, signature: Signature([0; 64]) };
        let record = Record {
            mesh: self.mesh,
            stamp: Stamp {
                generation: parent.map_or(0, |parent| parent.record.stamp.generation) + 1,
                written,
                tie: 0,
            },
            parent: parent.map(|parent| parent.hash),
            author,
            body,
        };
        let hash = signed.digest();
        Entry { record, signed, hash, invitation_verified: false }
    }

    /// An app that is there from the beginning.
    pub(crate) fn found(
        &mut self,
        name: AppName,
        services: BTreeMap<ServiceName, ServiceSpec>,
        roster: BTreeSet<WitnessId>,
    ) -> Entry {
        let app = AppUid::with_roster(self.mesh, &name, 0, &roster);
        let spec = AppSpec { name, services };
        let release = Release { app, version: 1, spec, roster };
        self.write(self.key, None, WallTime(0), Body::App(release))
    }

    pub(crate) fn lost(&mut self, node: NodeId) {
        self.lost.insert(node);
    }

    /// Promised records of which at least one disk must be left to the mesh.
    ///
    /// The disk of a node that had been removed before it gave its word never was one of the mesh's: no member speaks to it, so
    /// no member answers it either, and it says so ("stored on one node only"). Whoever is removed afterwards without having
    /// reached anybody takes with it what only it has.
    pub(crate) fn owed(&self) -> impl Iterator<Item = &Acked> {
        let is_left =
            |acked: &Acked, node| !self.lost.contains(node) && !acked.strangers.contains(node);
        self.acked
            .iter()
            .filter(move |acked| acked.stored_on.iter().any(|node| is_left(acked, node)))
    }

    /// The admission of a node, and what operators say of it.
    pub(crate) fn admit(&mut self, key: PublicKey, name: &NodeName, labels: Labels) -> [Entry; 2] {
        let member = Member { key, name: name.clone(), invitation: None, invited: None };
        let labels = NodeLabels { node: NodeId::of(&key), labels, weight: 100 };
        [
            self.write(self.key, None, WallTime(0), Body::Member(member)),
            self.write(self.key, None, WallTime(0), Body::Labels(labels)),
        ]
    }
}

impl World {
    /// One act, and when the next one comes.
    pub(crate) fn act(&mut self) {
        if self.now >= self.plan.heal {
            return;
        }
        let acts = self.plan.acts.clone();
        if let Some(act) = self.rng.pick(&acts).copied() {
            self.perform(act);
        }
        let pause = match self.rng.below(10) {
            0 | 1 => self.rng.below(2 * SECOND),
            2..=8 => self.spread(self.plan.act_pause),
            _ => 80 * SECOND,
        };
        self.queue.at(self.now + pause, super::queue::Event::Act);
    }

    /// Does it through some agent that runs.
    pub(crate) fn perform(&mut self, act: Act) {
        let entries: Vec<usize> = (0..self.hosts.len())
            .filter(|host| {
                let id = self.hosts[*host].id;
                self.hosts[*host].is_awake()
                    && self.hosts[*host]
                        .node()
                        .is_some_and(|node| node.state().nodes.contains_key(&id))
            })
            .collect();
        let Some(entry) = self.rng.pick(&entries).copied() else { return };
        let Some(catalogue) = self.hosts[entry].node().map(|node| node.catalogue().clone()) else {
            return;
        };
        // Whoever joins through a node that has not heard of its own removal joins no mesh that the checkers know of.
        if act == Act::Join && self.is_removed(entry) {
            return;
        }
        if act == Act::Join {
            return self.join(entry, &catalogue);
        }
        if act == Act::PlaceTwice {
            return self.place_twice(entry, &entries, &catalogue);
        }
        if let Some(body) = self.body(act, &catalogue) {
            self.coverage.act(act);
            self.submit(entry, &catalogue, body, None);
        }
    }

    /// Writes `body` on top of what `catalogue` says, and hands it to the agent of `host`.
    pub(crate) fn submit(
        &mut self,
        host: usize,
        catalogue: &Catalogue,
        body: Body,
        joins: Option<usize>,
    ) {
        // An operator's own clock may be an hour off.
        let off = self.rng.below(7_200_000);
        let written = WallTime(self.hosts[0].clock.wall(self.now).0 + off - 3_600_000);
        let parent = catalogue.record(&body.key()).cloned();
        let author = self.author_of(&body, catalogue);
        let entry = self.operator.write(author, parent.as_ref(), written, body);
        self.operator.n_tickets += 1;
        self.operator.entry = Some(host);
        let ticket = Ticket(self.operator.n_tickets);
        self.operator.pending.insert((host, ticket), (entry.clone(), joins));
        self.disturb(0);
        self.checks.last_word = self.now;
        self.input(host, Input::Submit { ticket, entries: vec![entry] });
    }

    /// What became of a submission.
    pub(crate) fn submitted(&mut self, host: usize, output: Output) {
        let Output::Submitted { ticket, stored_on, n_peers, .. } = output else { return };
        let Some((entry, joins)) = self.operator.pending.remove(&(host, ticket)) else { return };
        if stored_on.is_empty() {
            return;
        }
        let stored_on: BTreeSet<NodeId> = stored_on.into_iter().collect();
        let alone = stored_on.len() == 1;
        self.coverage.acked += 1;
        let firm = !alone || n_peers == 0;
        if firm {
            self.coverage.acked_firmly += 1;
        }
        self.check_acked(host, &entry, &stored_on);
        let is_stranger = |node: &&NodeId| {
            self.index.get(*node).is_some_and(|host| self.is_noted_as_removed(*host))
        };
        let strangers: BTreeSet<NodeId> = stored_on.iter().filter(is_stranger).copied().collect();
        if let Body::MemberRemoval { node, .. } = &entry.record.body
            && strangers != stored_on
        {
            self.forget_what_only(*node);
        }
        self.operator.acked.push(Acked { entry, stored_on, strangers });
        if let (Some(new), Some(node)) = (joins, self.hosts[host].node()) {
            let records: Vec<Entry> = node.catalogue().all().cloned().collect();
            self.hosts[new].disk.extend(records.into_iter().map(|entry| (entry.hash, entry)));
            self.boot_after(new, SECOND);
        }
    }

    /// To remove a node is to give up what no other member has: it was cut off ever since it gave its word.
    fn forget_what_only(&mut self, gone: NodeId) {
        let admits = |host: &usize| {
            let key = self.hosts[*host].key;
            let of_it =
                |entry: &Entry| matches!(&entry.record.body, Body::Member(it) if it.key == key);
            self.hosts
                .iter()
                .enumerate()
                .any(|(other, it)| other != *host && it.id != gone && it.disk.values().any(of_it))
        };
        // Whoever joined through it, and is known to nobody else, is given up too.
        let others: Vec<usize> = (0..self.hosts.len())
            .filter(|host| self.hosts[*host].id != gone && !self.is_noted_as_removed(*host))
            .filter(admits)
            .collect();
        for acked in &mut self.operator.acked {
            if !others.iter().any(|host| self.hosts[*host].disk.contains_key(&acked.entry.hash)) {
                acked.strangers.insert(gone);
            }
        }
    }

    /// Places an app of one service with `replicas` replicas.
    pub(crate) fn place_plain(&mut self, replicas: u32) {
        let Some(catalogue) = self.hosts[0].node().map(|node| node.catalogue().clone()) else {
            return;
        };
        let name: AppName = "app0".parse().expect("a name");
        let app = catalogue.state().uid(catalogue.mesh(), &name);
        let services = self.plain_services(replicas);
        let spec = AppSpec { name, services };
        let release = Release { app, version: 1, spec, roster: BTreeSet::new() };
        self.submit(0, &catalogue, Body::App(release), None);
    }

    /// Places an app of one exclusive slot.
    pub(crate) fn place_exclusive(&mut self) {
        let Some(catalogue) = self.hosts[0].node().map(|node| node.catalogue().clone()) else {
            return;
        };
        let name: AppName = "app0".parse().expect("a name");
        let roster = self.roster(catalogue.state());
        let app = catalogue.state().uid_with_roster(catalogue.mesh(), &name, &roster);
        let services = self.exclusive_services(1, Timing::DEFAULT_TTL);
        let release = Release { app, version: 1, spec: AppSpec { name, services }, roster };
        self.submit(0, &catalogue, Body::App(release), None);
    }

    /// An app of one exclusive service that is there from the beginning. All hosts are in its roster.
    pub(crate) fn exclusive_app(&mut self, replicas: u32, ttl: Duration) -> Entry {
        let mut services = self.small_services(replicas);
        for service in services.values_mut() {
            service.guarantee = Guarantee::Exclusive { ttl };
        }
        let witness = |host: &Host| WitnessId { node: host.id, store: host.store };
        let roster = self.hosts.iter().map(witness).collect();
        self.operator.found("app0".parse().expect("a name"), services, roster)
    }

    fn join(&mut self, entry: usize, catalogue: &Catalogue) {
        if self.hosts.len() >= self.plan.n_hosts_max {
            return;
        }
        self.coverage.act(Act::Join);
        let new = self.add_host();
        let member = Member {
            key: self.hosts[new].key,
            name: self.hosts[new].name.clone(),
            invitation: None,
            invited: None,
        };
        self.submit(entry, catalogue, Body::Member(member), Some(new));
    }

    fn body(&mut self, act: Act, catalogue: &Catalogue) -> Option<Body> {
        let state = catalogue.state();
        let uids: Vec<AppUid> = state.apps.keys().copied().collect();
        let nodes: Vec<NodeId> = state.nodes.keys().copied().collect();
        let node = self.rng.pick(&nodes).copied();
        let app = self.rng.pick(&uids).copied();
        match act {
            Act::Place => return Some(self.place(catalogue)),
            Act::Drain => {
                let drained: Vec<NodeId> =
                    nodes.iter().filter(|node| state.nodes[*node].drained).copied().collect();
                let full = drained.len() * 3 >= nodes.len();
                let node = if full { self.rng.pick(&drained).copied()? } else { node? };
                return Some(Body::Drain(Drain { node, drained: !state.nodes[&node].drained }));
            }
            Act::Label => {
                let labels = self.some_labels();
                let weight = 50 + 50 * self.rng.below(3) as u32;
                return Some(Body::Labels(NodeLabels { node: node?, labels, weight }));
            }
            Act::Leave => return self.leave(catalogue, node?),
            Act::Dismiss => return Some(self.hire_or_dismiss(catalogue)),
            Act::Scale | Act::Restart | Act::Run | Act::Remove | Act::Join | Act::PlaceTwice => {}
        }
        let uid = app?;
        let app = state.apps.get(&uid)?;
        let services: Vec<ServiceName> = app.release.spec.services.keys().cloned().collect();
        let service = self.rng.pick(&services).cloned()?;
        match act {
            Act::Scale => {
                let spec = app.release.spec.service(&service)?;
                matches!(spec.deploy.mode, Mode::Replicated(_)).then(|| {
                    let replicas = self.rng.below(6) as u32;
                    Body::Scale(Scale { app: uid, service, replicas })
                })
            }
            Act::Restart => {
                let count = app.restarts.get(&service).copied().unwrap_or(0) + 1;
                Some(Body::Restart(Restart { app: uid, service, count }))
            }
            Act::Run => Some(Body::Run(Run { app: uid, running: !app.running })),
            Act::Place
            | Act::Remove
            | Act::Drain
            | Act::Label
            | Act::Join
            | Act::Leave
            | Act::Dismiss
            | Act::PlaceTwice => {
                Some(Body::AppRemoval { app: uid, name: app.release.spec.name.clone() })
            }
        }
    }

    /// Who writes it: the root, or somebody who may deploy where that suffices.
    fn author_of(&mut self, body: &Body, catalogue: &Catalogue) -> PublicKey {
        let root = self.operator.key;
        let hired: Vec<PublicKey> =
            catalogue.state().operators.keys().filter(|key| **key != root).copied().collect();
        let suffices = matches!(
            body,
            Body::Labels(_)
                | Body::Drain(_)
                | Body::App(_)
                | Body::AppRemoval { .. }
                | Body::Scale(_)
                | Body::Restart(_)
                | Body::Run(_)
        );
        if !suffices || hired.is_empty() || self.rng.chance(400) {
            return root;
        }
        self.rng.pick(&hired).copied().unwrap_or(root)
    }

    /// Somebody becomes an operator; or goes, and what the others know of that one's records stays.
    fn hire_or_dismiss(&mut self, catalogue: &Catalogue) -> Body {
        let root = self.operator.key;
        let hired = catalogue.state().operators.keys().find(|key| **key != root);
        let Some(key) = hired.copied() else {
            self.operator.n_hired += 1;
            let number = self.operator.n_hired;
            let key = PublicKey(Hash::of(&[b"hired", &root.0, &number.to_be_bytes()]).0);
            let name = format!("hand{number}").parse().expect("a name");
            return Body::Operator(Grant { key, name, role: Role::Deployer, keep: Vec::new() });
        };
        let own = catalogue.all().filter(|entry| entry.record.author == key);
        let keep = own.map(|entry| KeptRecord { hash: entry.hash }).collect();
        Body::OperatorRemoval(OperatorRemoval { key, keep })
    }

    fn leave(&mut self, catalogue: &Catalogue, node: NodeId) -> Option<Body> {
        let n_left = catalogue.state().nodes.len();
        let lost =
            self.operator.lost.iter().find(|node| catalogue.state().nodes.contains_key(*node));
        let node = lost.copied().unwrap_or(node);
        let gone = lost.is_some();
        let admitted = catalogue.all().filter(|entry| {
            matches!(entry.record.body, Body::Member(_)) && NodeId::of(&entry.record.author) == node
        });
        let keep = admitted.map(|entry| KeptRecord { hash: entry.hash }).collect();
        (gone || n_left > MEMBERS_MIN).then_some(Body::MemberRemoval {
            node,
            keep,
            destroyed: gone,
        })
    }

    /// A new app, or a new release of one.
    fn place(&mut self, catalogue: &Catalogue) -> Body {
        let number = self.rng.below(self.plan.n_apps as u64);
        let name: AppName = format!("app{number}").parse().expect("a name");
        let state = catalogue.state();
        if let Some((uid, app)) = state.apps.iter().find(|(_, it)| it.release.spec.name == name) {
            let spec = self.next_release(app.release.spec.clone());
            let (version, roster) = (app.release.version + 1, app.release.roster.clone());
            return Body::App(Release { app: *uid, version, spec, roster });
        }
        let spec = AppSpec { services: self.new_services(number), name };
        let is_exclusive = spec.services.values().any(|it| it.guarantee.is_exclusive());
        let roster = if is_exclusive { self.roster(state) } else { BTreeSet::new() };
        let app = state.uid_with_roster(catalogue.mesh(), &spec.name, &roster);
        Body::App(Release { app, version: 1, spec, roster })
    }

    /// Two operators place one exclusive app through two agents. Each roster has the stores of the members that its agent has heard of; where
    /// these differ, the apps are two.
    fn place_twice(&mut self, entry: usize, entries: &[usize], catalogue: &Catalogue) {
        let name: AppName = "both".parse().expect("a name");
        let is_known = |state: &State| state.apps.values().any(|it| it.release.spec.name == name);
        let Some(other) = self.rng.pick(entries).copied().filter(|other| *other != entry) else {
            return;
        };
        let Some(theirs) = self.hosts[other].node().map(|node| node.catalogue().clone()) else {
            return;
        };
        if is_known(catalogue.state()) || is_known(theirs.state()) {
            return;
        }
        self.coverage.act(Act::PlaceTwice);
        let services = self.exclusive_services(2, Timing::TTL_MIN);
        for (host, catalogue, unheard) in [(entry, catalogue, 0), (other, &theirs, 1)] {
            let mut roster = self.roster(catalogue.state());
            for _ in 0..unheard {
                roster.pop_last();
            }
            let spec = AppSpec { name: name.clone(), services: services.clone() };
            let app = catalogue.state().uid_with_roster(catalogue.mesh(), &name, &roster);
            let release = Release { app, version: 1, spec, roster };
            self.submit(host, catalogue, Body::App(release), None);
        }
    }

    /// The members, and the stores by which they witness.
    fn roster(&self, state: &State) -> BTreeSet<WitnessId> {
        let witness = |node: &NodeId| {
            let host = self.index.get(node)?;
            Some(WitnessId { node: *node, store: self.hosts[*host].store })
        };
        state.nodes.keys().filter_map(witness).collect()
    }
}
