//! C10: whoever takes a slot in a quiet mesh is not more crowded than others that could take it.
//!
//! Nothing is moved afterwards for the sake of balance, so no distribution is promised of claims that were made in trouble. What
//! rank promises is that each claim, when it is made, goes where the fewest replicas of the service are: first by the domains of
//! the labels that the service names, then by nodes. Whatever the order of several claims was, the last one that came to a domain
//! saw there all but itself; so no other domain with a suitable node may have fewer than that. The same of nodes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_coordinator::catalogue::State;
use mesh_coordinator::fact::{Claim, Phase};
use mesh_coordinator::id::{AppUid, SlotId, SlotIndex};
use mesh_coordinator::name::ServiceName;
use mesh_coordinator::node::Node;
use mesh_coordinator::spec::ServiceSpec;

use super::World;
use crate::sim::clock::{SECOND, Time};

const CHECK: &str = "C10: claims go where the fewest replicas are";
/// So long before the first claim nothing was wrong, and all know of each other.
const QUIET: Time = 15 * SECOND;
/// So long after the last claim of a service its distribution is looked at: longer than all ranks wait.
const LATER: Time = 4 * SECOND;

/// Slots that wait for a lease keep their room for so long.
const LEASES: Time = 45 * SECOND;

type Service = (AppUid, ServiceName);

/// The claims of a service that were made a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Burst {
    first: Time,
    last: Time,
    /// Who made them.
    by: BTreeSet<usize>,
    /// The records that they knew.
    roots: BTreeSet<u64>,
}

/// What the nodes hold of one service.
struct Spread<'a> {
    state: &'a State,
    service: &'a Service,
    spec: &'a ServiceSpec,
    /// By host.
    held: BTreeMap<usize, BTreeSet<SlotId>>,
}

impl World {
    /// A host says something of a claim.
    pub(crate) fn note_claim(&mut self, host: usize, claim: &Claim) {
        let service = (claim.slot.app, claim.slot.service.clone());
        // Who gets a lease is decided by who asks first, and rank only says who asks first as a rule.
        let is_leased = claim.token.is_some();
        if is_leased {
            self.checks.last_leased = self.now;
        }
        let known = self.checks.claims.insert((host, claim.slot.clone(), claim.revision.id));
        if !claim.phase.holds() {
            self.checks.let_go.insert(service, self.now);
        } else if known && !is_leased && matches!(claim.phase, Phase::Intent | Phase::Starting) {
            let now = self.now;
            let root = self.hosts[host].node().map(|node| node.catalogue().root());
            let burst = self.checks.bursts.entry(service);
            let burst = burst.or_insert_with(|| Burst {
                first: now,
                last: now,
                by: BTreeSet::new(),
                roots: BTreeSet::new(),
            });
            burst.last = now;
            burst.by.insert(host);
            burst.roots.extend(root);
        }
        if !claim.phase.holds() {
            self.checks.claims.remove(&(host, claim.slot.clone(), claim.revision.id));
        }
    }

    /// A new life of an agent claims anew.
    pub(crate) fn forget_claims(&mut self, host: usize) {
        self.checks.claims.retain(|(other, ..)| *other != host);
    }

    /// Looks at the services of which slots were taken a moment ago.
    pub(crate) fn check_spread(&mut self) {
        let now = self.now;
        let due: Vec<Service> = self
            .checks
            .bursts
            .iter()
            .filter(|(_, burst)| burst.last + LATER <= now)
            .map(|(service, _)| service.clone())
            .collect();
        for service in due {
            let Some(burst) = self.checks.bursts.remove(&service) else { continue };
            if self.was_quiet(&service, burst.first) && self.knew_all(&burst) {
                self.coverage.spreads += 1;
                if let Some(text) = self.badly_spread(&service, &burst) {
                    self.fail(CHECK, text);
                }
            }
        }
    }

    /// Whether nobody was in doubt of anything since some time before `first`.
    fn was_quiet(&self, service: &Service, first: Time) -> bool {
        let before = first.saturating_sub(QUIET);
        let let_go = self.checks.let_go.get(service).copied().unwrap_or(0);
        self.net.is_whole()
            && self.plan.loss_permille == 0
            && self.checks.last_change <= before
            && self.checks.last_fault <= before
            && self.checks.last_word <= first
            && self.checks.last_leased + LEASES <= first
            && let_go + SECOND <= first
    }

    /// Whether who claimed knew the records that hold now, and did not take a node for drained that is not, say.
    fn knew_all(&self, burst: &Burst) -> bool {
        let members = (0..self.hosts.len()).filter(|host| !self.is_removed(*host));
        let nodes = members.filter_map(|host| self.hosts[host].node());
        nodes.map(|node| node.catalogue().root()).all(|root| burst.roots == BTreeSet::from([root]))
    }

    fn badly_spread(&self, service: &Service, burst: &Burst) -> Option<String> {
        let members: Vec<(usize, &Node)> = (0..self.hosts.len())
            .filter(|host| self.hosts[*host].is_awake() && !self.is_removed(*host))
            .filter_map(|host| Some((host, self.hosts[host].node()?)))
            .collect();
        let state = members.first()?.1.state();
        let spec = state.apps.get(&service.0)?.release.spec.service(&service.1)?;
        let held = members.iter().map(|(host, node)| (*host, held(node, service))).collect();
        let spread = Spread { state, service, spec, held };
        burst.by.iter().find_map(|host| {
            let place = self.place_of(&spread, *host)?;
            let better = spread.held.keys().filter(|other| *other != host).find(|other| {
                let others = self.place_of(&spread, **other);
                others.is_some_and(|others| is_better(&others, &place))
                    && self.has_room(&spread, **other)
            })?;
            let held: Vec<_> =
                spread.held.iter().map(|(host, slots)| (host, slots.len())).collect();
            Some(format!("n{host} took a slot of {service:?} and not n{better}: {held:?}"))
        })
    }

    /// The replicas in each domain of a host, and on the host itself. `None` of no member.
    fn place_of(&self, spread: &Spread<'_>, host: usize) -> Option<(Vec<String>, Vec<usize>)> {
        let labels = |host: usize| Some(&spread.state.nodes.get(&self.hosts[host].id)?.labels);
        let value = |host, label| {
            labels(host).and_then(|labels| labels.get(label)).cloned().unwrap_or_default()
        };
        labels(host)?;
        let names = &spread.spec.deploy.spread;
        let mut domains: Vec<String> = names.iter().map(|label| value(host, label)).collect();
        let mut counts: Vec<usize> = names
            .iter()
            .map(|label| {
                let same = |other: &&usize| value(**other, label) == value(host, label);
                spread.held.keys().filter(same).map(|other| spread.held[other].len()).sum()
            })
            .collect();
        domains.push(format!("n{host}"));
        counts.push(spread.held.get(&host)?.len());
        Some((domains, counts))
    }

    /// Whether the host could hold one more slot of the service, and nobody has a reason to think otherwise.
    fn has_room(&self, spread: &Spread<'_>, host: usize) -> bool {
        let it = &self.hosts[host];
        let (Some(node), Some(member)) = (it.node(), spread.state.nodes.get(&it.id)) else {
            return false;
        };
        let mut constraints = spread.spec.deploy.constraints.iter();
        let suits = !member.drained
            && constraints.all(|constraint| constraint.admits(it.id, &member.name, &member.labels));
        let of_it = |claim: &&Claim| {
            (claim.slot.app, &claim.slot.service) == (spread.service.0, &spread.service.1)
        };
        // Whoever failed with one of its slots, or wants to be rid of one, is passed over for that slot.
        let unfit = node.claims().filter(of_it).any(|claim| claim.yielding || !claim.phase.holds());
        let held: BTreeSet<&SlotId> =
            node.claims().filter(|claim| claim.phase.holds()).map(|claim| &claim.slot).collect();
        let mut reserved = spread.spec.deploy.reservation;
        let mut port_taken = false;
        for slot in held {
            let app = spread.state.apps.get(&slot.app);
            let Some(spec) = app.and_then(|app| app.release.spec.service(&slot.service)) else {
                return false;
            };
            reserved = reserved.plus(spec.deploy.reservation);
            let mut ports = spread.spec.host_ports();
            port_taken |= ports.any(|port| spec.host_ports().any(|taken| taken == port));
        }
        let n_held = spread.held.get(&host).map_or(0, BTreeSet::len);
        let full = spread.spec.deploy.replicas_per_node_max;
        suits
            && !unfit
            && !port_taken
            && reserved.fits(it.capacity)
            && full.is_none_or(|max| n_held < max as usize)
    }
}

/// The numbered slots of the service that a node holds.
fn held(node: &Node, service: &Service) -> BTreeSet<SlotId> {
    let claims = node.claims().filter(|claim| {
        let slot = &claim.slot;
        claim.phase.holds()
            && (slot.app, &slot.service) == (service.0, &service.1)
            && matches!(slot.index, SlotIndex::Number(_))
    });
    claims.map(|claim| claim.slot.clone()).collect()
}

/// Whether the last claim at `here` should have gone to `there`: at the first domain in which they differ, it has fewer replicas
/// even without that claim.
fn is_better(there: &(Vec<String>, Vec<usize>), here: &(Vec<String>, Vec<usize>)) -> bool {
    let differs = there.0.iter().zip(&here.0).position(|(there, here)| there != here);
    differs.is_some_and(|index| {
        let count = |place: &(Vec<String>, Vec<usize>)| place.1.get(index).copied().unwrap_or(0);
        count(there) + 1 < count(here)
    })
}
