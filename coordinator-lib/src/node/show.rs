//! What a node believes, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::twin::TWIN;
use super::{Node, world};
use crate::catalogue::{App, Body, RecordKey};
use crate::fact::{Claim, Phase};
use crate::id::{AppUid, NodeId, Revision, SlotId, SlotIndex};
use crate::lease::exclusive::Timing;
use crate::lease::{FAILOVER_BOUND, World, wanted_slots};
use crate::name::{NodeName, ServiceName};
use crate::placement::Place;
use crate::spec::{Guarantee, ServiceSpec};
use crate::time::{Instant, Reading};
use crate::view::{
    AppView, Candidate, ClaimView, Decision, LeaseQuery, LeaseView, NodeStatus, NodeView, Overview,
    ParkedView, ServiceView, SlotView, Why,
};

/// How many leases are told at once: what is decided waits for it, and a node may witness tens of thousands.
const LEASES_MAX: usize = 1_000;

impl Node {
    /// The whole mesh as this node sees it.
    #[must_use]
    pub fn overview(&self, now: Instant) -> Overview {
        let world = world!(self, now, true);
        let places = self.claims.places(&world);
        let mut nodes: Vec<NodeView> =
            places.values().map(|place| self.node_view(now, place)).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        let state = self.catalogue.state();
        let mut apps: Vec<AppView> =
            state.apps.iter().map(|(uid, app)| self.app_view(*uid, app, &places)).collect();
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        Overview {
            mesh: self.config.mesh,
            mesh_name: state.genesis.as_ref().map_or_else(unnamed, |genesis| genesis.name.clone()),
            seen_by: self.config.me,
            nodes,
            apps,
            parked: self.parked(),
            leaving: self.leaving(),
            removals: state.removals.clone(),
            problems: self.problems(now),
        }
    }

    /// Why a slot is where it is; `None` of a slot of which nothing is known.
    #[must_use]
    pub fn why(&self, now: Instant, slot: &SlotId) -> Option<Why> {
        let world = world!(self, now, true);
        let places = self.claims.places(&world);
        let app = self.catalogue.state().apps.get(&slot.app)?;
        let spec = app.release.spec.service(&slot.service)?;
        let current = app.revision(&slot.service, spec);
        let ranked = self.claims.ranked(slot, spec, current, &places);
        let candidates = ranked.into_iter().zip(0_u32..).map(|(ranked, position)| Candidate {
            node: ranked.node,
            node_name: self.name_of(ranked.node),
            rank: ranked.obstacles.is_empty().then_some(position),
            crowding: ranked.crowding,
            score: ranked.score,
            refusals: ranked.obstacles.iter().map(ToString::to_string).collect(),
        });
        let decisions = self.decisions.get(slot).into_iter().flatten();
        Some(Why {
            slot: self.slot_view(slot, app, spec, app.wants(slot)),
            candidates: candidates.collect(),
            decisions: decisions
                .map(|(at, text)| Decision { ago: now.since(*at), text: text.clone() })
                .collect(),
        })
    }

    /// What this node knows of the leases of exclusive slots, in the order of slots: the first thousand of those that are asked
    /// for. Whoever wants more asks again from the last one on.
    #[must_use]
    pub fn leases(&self, reading: Reading, query: &LeaseQuery) -> Vec<LeaseView> {
        let name = |slot: &SlotId| self.slot_name(slot);
        self.leases.view(reading, self.catalogue.state(), (query, LEASES_MAX), name)
    }

    /// A slot as people write it; the id of its app when that was never known.
    #[must_use]
    pub fn slot_name(&self, slot: &SlotId) -> String {
        let index = match slot.index {
            SlotIndex::Number(number) => number.to_string(),
            SlotIndex::Node(node) => self.name_of(node).to_string(),
        };
        let state = self.catalogue.state();
        let app = match state.apps.get(&slot.app).or_else(|| state.parked.get(&slot.app)) {
            Some(app) => app.release.spec.name.to_string(),
            None => self.removed_name(slot.app).unwrap_or_else(|| slot.app.to_string()),
        };
        format!("{app}/{}/{index}", slot.service)
    }

    fn removed_name(&self, app: AppUid) -> Option<String> {
        let record = &self.catalogue.record(&RecordKey::AppRemoval(app))?.record;
        let Body::AppRemoval { name, .. } = &record.body else { return None };
        Some(name.to_string())
    }

    fn node_view(&self, now: Instant, place: &Place) -> NodeView {
        let facts = if place.id == self.config.me {
            Some(&self.config.facts)
        } else {
            self.facts.get(&place.id)
        };
        let address =
            self.catalogue.state().nodes.get(&place.id).and_then(|node| node.address.as_ref());
        NodeView {
            id: place.id,
            name: place.name.clone(),
            status: self.membership.status(place.id).unwrap_or(NodeStatus::Unknown),
            drained: place.drained,
            labels: place.labels.clone(),
            weight: place.weight,
            capacity: place.capacity,
            reserved: place.reserved,
            n_claims: place.held.values().sum(),
            version: facts.map(|facts| facts.version.clone()),
            addresses: address.map(|address| address.api.clone()).unwrap_or_default(),
            heard_ago: if place.id == self.config.me {
                Some(Duration::ZERO)
            } else {
                self.membership.heard_ago(now, place.id)
            },
            store: facts.and_then(|facts| facts.store),
            witness_only: place.witness_only,
        }
    }

    fn app_view(&self, uid: AppUid, app: &App, places: &BTreeMap<NodeId, Place>) -> AppView {
        let services = app.release.spec.services.iter();
        AppView {
            uid,
            name: app.release.spec.name.clone(),
            version: app.release.version,
            running: app.running,
            author: app.author,
            written: app.written,
            services: services
                .map(|(name, spec)| self.service_view(uid, app, name, spec, places))
                .collect(),
        }
    }

    fn service_view(
        &self,
        uid: AppUid,
        app: &App,
        name: &ServiceName,
        spec: &ServiceSpec,
        places: &BTreeMap<NodeId, Place>,
    ) -> ServiceView {
        let of_service = |slot: &SlotId| slot.app == uid && slot.service == *name;
        let wanted: Vec<SlotId> = wanted_slots(self.catalogue.state(), places.values())
            .into_iter()
            .flat_map(|(_, _, slots)| slots)
            .filter(&of_service)
            .collect();
        let claimed = self.claims.book.slots().cloned();
        let own = self.claims.mine().map(|mine| mine.claim().slot.clone());
        let all: BTreeSet<SlotId> =
            wanted.iter().cloned().chain(claimed.chain(own).filter(&of_service)).collect();
        let slots: Vec<SlotView> = all
            .into_iter()
            .map(|slot| self.slot_view(&slot, app, spec, wanted.contains(&slot)))
            .filter(|view| view.wanted || !view.claims.is_empty())
            .collect();
        let serves = |view: &&SlotView| {
            let ready = |claim: &ClaimView| {
                claim.current
                    && claim.phase == Phase::Ready
                    && claim.node_status != NodeStatus::Down
            };
            view.wanted && view.claims.iter().any(ready)
        };
        ServiceView {
            name: name.clone(),
            image: spec.template.image.name.clone(),
            digest: spec.template.image.digest.clone(),
            revision: app.revision(name, spec),
            guarantee: spec.guarantee,
            mode: app.mode(name, spec),
            n_wanted: u32::try_from(wanted.len()).unwrap_or(u32::MAX),
            n_ready: u32::try_from(slots.iter().filter(serves).count()).unwrap_or(u32::MAX),
            ports: spec.ports.clone(),
            failover_bound: bound(spec),
            slots,
        }
    }

    /// The apps that lost their name to another one.
    fn parked(&self) -> Vec<ParkedView> {
        let state = self.catalogue.state();
        let view = |(uid, app): (&AppUid, &App)| {
            let spec = &app.release.spec;
            let winner = state.apps.iter().find(|(_, other)| other.release.spec.name == spec.name);
            winner.map(|(runs, _)| ParkedView {
                uid: *uid,
                name: spec.name.clone(),
                version: app.release.version,
                author: app.author,
                written: app.written,
                services: spec.services.keys().cloned().collect(),
                runs: *runs,
            })
        };
        let mut parked: Vec<ParkedView> = state.parked.iter().filter_map(view).collect();
        parked.sort_by(|a, b| a.name.cmp(&b.name));
        parked
    }

    /// The slots that people can see nowhere else, since what they were part of is no more.
    fn leaving(&self) -> Vec<SlotView> {
        let state = self.catalogue.state();
        let is_gone = |slot: &&SlotId| {
            let app = state.apps.get(&slot.app);
            app.and_then(|app| app.release.spec.service(&slot.service)).is_none()
        };
        let own = self.claims.mine().map(|mine| &mine.claim().slot);
        let slots: BTreeSet<&SlotId> =
            self.claims.book.slots().chain(own).filter(is_gone).collect();
        slots.into_iter().map(|slot| self.claimed(slot, None, false)).collect()
    }

    fn slot_view(&self, slot: &SlotId, app: &App, spec: &ServiceSpec, wanted: bool) -> SlotView {
        self.claimed(slot, Some(app.revision(&slot.service, spec)), wanted)
    }

    /// A slot with all that is said of it. What was released is there as long as its container is: then the claim is withdrawn.
    fn claimed(&self, slot: &SlotId, current: Option<Revision>, wanted: bool) -> SlotView {
        let own = self.claims.mine().map(|mine| (self.config.me, mine.claim()));
        let others = self.claims.book.of(slot).map(|(node, held)| (node, &held.claim));
        let mut claims: Vec<ClaimView> = own
            .filter(|(_, claim)| claim.slot == *slot)
            .chain(others)
            .map(|(node, claim)| self.claim_view(node, claim, Some(claim.revision) == current))
            .collect();
        let order = |claim: &ClaimView| {
            let down = claim.node_status == NodeStatus::Down;
            (
                down,
                claim.phase == Phase::Released,
                !claim.current,
                claim.yielding,
                claim.phase != Phase::Ready,
                claim.node,
            )
        };
        claims.sort_by_key(order);
        SlotView { slot: slot.clone(), name: self.slot_name(slot), wanted, claims }
    }

    fn claim_view(&self, node: NodeId, claim: &Claim, current: bool) -> ClaimView {
        ClaimView {
            node,
            node_name: self.name_of(node),
            node_status: self.membership.status(node).unwrap_or(NodeStatus::Unknown),
            revision: claim.revision,
            current,
            phase: claim.phase,
            yielding: claim.yielding,
            restarts: claim.restarts,
            failover_ms: claim.failover_ms,
            token: claim.token,
            detail: claim.detail.clone(),
        }
    }

    /// What is wrong with the mesh as a whole.
    fn problems(&self, now: Instant) -> Vec<String> {
        let mut problems = Vec::new();
        if self.is_parted() {
            problems.push(
                "this node was removed from the mesh and runs nothing any more: `deploy/install --remove` cleans its server"
                    .to_owned(),
            );
        }
        if !self.warm {
            problems.push("this agent started a moment ago and claims nothing yet".to_owned());
        }
        if !self.is_quiet(now) {
            problems.push(
                "many nodes died at once: claims wait until the mesh is quiet for 3 s".to_owned(),
            );
        }
        problems.extend(self.membership.missed_by_gossip(now).map(|node| {
            format!(
                "{} is heard over TCP and not by gossip: open the same port for UDP between it and {}, or slots are held twice",
                self.name_of(node),
                self.name_of(self.config.me)
            )
        }));
        problems.extend(self.clock_problems());
        problems.extend(self.twins().map(|node| format!("{}: {TWIN}", self.name_of(node))));
        problems.extend(self.namesakes());
        problems
    }

    /// Members that have the same name: each joined on one side of a split, where nobody knew of the other.
    fn namesakes(&self) -> Vec<String> {
        let mut names: BTreeMap<&NodeName, Vec<String>> = BTreeMap::new();
        for (id, node) in &self.catalogue.state().nodes {
            names.entry(&node.name).or_default().push(id.to_string());
        }
        let several = names.into_iter().filter(|(_, ids)| ids.len() > 1);
        several
            .map(|(name, ids)| {
                format!(
                    "{} nodes are called {name}, since each joined without knowing of the other ({}): name them by their ids; `agentctl node rm` removes one, and it may join again under another name",
                    ids.len(),
                    ids.join(", ")
                )
            })
            .collect()
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.clone().is_settled(now)
    }

    pub(super) fn name_of(&self, node: NodeId) -> NodeName {
        let member = self.catalogue.state().nodes.get(&node).map(|member| member.name.clone());
        member.unwrap_or_else(|| self.config.facts.name.clone())
    }
}

fn unnamed() -> crate::name::MeshName {
    crate::name::MeshName::unnamed()
}

/// How long a slot of the service is empty at most after its node has died.
fn bound(spec: &ServiceSpec) -> Duration {
    match spec.guarantee {
        Guarantee::Available => FAILOVER_BOUND,
        Guarantee::Exclusive { ttl } => {
            // Nobody ever holds a lease that cannot be.
            Timing::of(ttl).map_or(Duration::MAX, |timing| timing.failover())
        }
    }
}
