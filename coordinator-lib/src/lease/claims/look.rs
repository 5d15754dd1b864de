//! What has to be looked at again. Nearly all that an agent hears is about slots that somebody else holds and goes on holding; nothing follows from
//! it here, and the other slots are not looked at because of it.
//!
//! A slot is looked at when a claim of it has changed, or whether its claimant counts; while it needs somebody; and while this node claims
//! it. All slots are looked at when the catalogue has changed, or whether this node may claim at all.

use std::collections::{BTreeMap, BTreeSet};

use super::super::mine::{Hold, Mine};
use super::super::need::{Need, slots_of};
use super::{Claims, Effect, Strays, World};
use crate::catalogue::App;
use crate::fact::Phase;
use crate::id::{AppUid, NodeId, SlotId};
use crate::name::ServiceName;
use crate::placement::Place;
use crate::spec::{Mode, ServiceSpec};
use crate::time::Instant;

/// What decides about all slots at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    root: u64,
    /// Says which slots global services have.
    facts_version: u64,
    warm: bool,
    settled: bool,
    strays: Strays,
}

/// What has to be looked at again, and what was seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    seen: Option<Seen>,
    /// Services that have a slot on each node.
    global: BTreeSet<(AppUid, ServiceName)>,
    /// Slots of which a claim has changed.
    touched: BTreeSet<SlotId>,
    /// Slots that need something.
    pub(super) pressing: BTreeSet<SlotId>,
    /// Whether something became of a replica or a question of this node.
    stirred: bool,
    /// When time alone changes something about a claim of another node.
    pub(super) news_wake: Option<Instant>,
}

impl Look {
    pub(super) const fn stir(&mut self) {
        self.stirred = true;
    }
}

/// Which slots to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    These(BTreeSet<SlotId>),
}

/// The slots of a service that are looked at.
pub(super) type Looked<'a> = (&'a App, &'a ServiceSpec, Vec<SlotId>);

impl Claims {
    /// The claims of `node` count now, or do not any more.
    pub(crate) fn turned(&mut self, node: NodeId) {
        self.book.touch_all_of(node);
    }

    /// Takes note of what became of claims of other nodes.
    pub(super) fn take_news(&mut self) {
        if self.book.is_touched() {
            let (slots, nodes) = self.book.take_touched();
            self.look.touched.extend(slots);
            self.places.note(nodes);
            self.ahead.stir();
        }
    }

    /// What has to be looked at now; `None` when nothing has happened that concerns this node.
    pub(super) fn what_to_look_at(&mut self, world: &World<'_>) -> Option<Scope> {
        let now = world.now;
        let is_due = self.next_deadline().is_some_and(|deadline| deadline <= now);
        self.look.news_wake = self.book.expire(now);
        self.take_news();
        let is_changed = self.see(world);
        let touched = std::mem::take(&mut self.look.touched);
        if is_changed {
            self.look.stirred = false;
            return Some(Scope::All);
        }
        let is_calm = !is_due
            && !self.look.stirred
            && self.look.pressing.is_empty()
            && world.leases.slots().next().is_none()
            && self.mine.values().all(Mine::is_calm);
        if is_calm && !touched.iter().any(|slot| self.concerns(world, slot)) {
            self.wait_to_look_ahead(now);
            return None;
        }
        self.look.stirred = false;
        let mut slots = touched;
        slots.extend(self.look.pressing.iter().cloned());
        slots.extend(self.mine.values().map(|mine| mine.claim.slot.clone()));
        slots.extend(world.leases.slots().cloned());
        Some(Scope::These(slots))
    }

    /// What a look at everything comes to that a look at what has changed does not, in words; `None` as long as nothing is overlooked.
    pub(crate) fn overlooked(&self, world: &World<'_>) -> Option<String> {
        let mut all = self.clone();
        all.look.seen = None;
        let [mut all, usual] = [all, self.clone()].map(|mut claims| {
            let mut effects = Vec::new();
            claims.reconcile(world, &mut effects);
            // Images are fetched ahead of time when there is time.
            effects.retain(|effect| !matches!(effect, Effect::Prefetch(_)));
            let needs: Vec<(SlotId, Need)> =
                claims.needed.iter().map(|(slot, wait)| (slot.clone(), wait.need)).collect();
            (claims, effects, needs)
        });
        if (&all.1, &all.2) != (&usual.1, &usual.2) {
            return Some(format!("{:?}, not {:?}", (all.1, all.2), (usual.1, usual.2)));
        }
        let counted = all.0.places(world);
        let known = all.0.stage(world);
        (*known.all() != counted).then(|| format!("{counted:?}, not {:?}", known.all()))
    }

    /// Whether something has changed that decides about all slots.
    fn see(&mut self, world: &World<'_>) -> bool {
        if self.look.seen.is_none_or(|seen| seen.root != world.root) {
            let running = world.state.apps.iter().filter(|(_, app)| app.running);
            let services = running.flat_map(|(uid, app)| {
                let services = app.release.spec.services.iter();
                services.map(move |(name, spec)| (*uid, name, app.mode(name, spec)))
            });
            let global = services.filter(|(_, _, mode)| *mode == Mode::Global);
            self.look.global = global.map(|(uid, name, _)| (uid, name.clone())).collect();
        }
        let seen = Seen {
            root: world.root,
            facts_version: if self.look.global.is_empty() { 0 } else { world.facts_version },
            warm: world.warm,
            settled: world.settled,
            strays: world.strays,
        };
        let is_changed = self.look.seen != Some(seen);
        self.look.seen = Some(seen);
        if is_changed {
            self.ahead.stir();
        }
        is_changed
    }

    /// Whether this node has anything to do with a slot of which a claim has changed.
    fn concerns(&self, world: &World<'_>, slot: &SlotId) -> bool {
        self.of_slot(slot).next().is_some() || self.need(world, slot) != Need::Nothing
    }

    fn need(&self, world: &World<'_>, slot: &SlotId) -> Need {
        let wanted = world.state.apps.get(&slot.app).filter(|app| app.wants(slot));
        let spec = wanted.and_then(|app| Some((app, app.release.spec.service(&slot.service)?)));
        spec.map_or(Need::Nothing, |(app, spec)| {
            let current = app.revision(&slot.service, spec);
            Need::of(&self.standings(world, slot), current, world.rules)
        })
    }

    /// Whether a service has a slot on each node.
    pub(super) fn any_global(&self) -> bool {
        !self.look.global.is_empty()
    }

    /// Those of `slots` that are wanted, by service; and all slots of services in which each depends on the others.
    pub(super) fn wanted_among<'w>(
        &self,
        world: &World<'w>,
        slots: &BTreeSet<SlotId>,
        places: &BTreeMap<NodeId, Place>,
    ) -> Vec<Looked<'w>> {
        let mut services: BTreeMap<(AppUid, ServiceName), Vec<SlotId>> = BTreeMap::new();
        let mut whole = self.look.global.clone();
        for slot in slots {
            let key = (slot.app, slot.service.clone());
            if self.need(world, slot) == Need::Replacement {
                whole.insert(key.clone());
            }
            services.entry(key).or_default().push(slot.clone());
        }
        services.extend(whole.iter().map(|key| (key.clone(), Vec::new())));
        let looked = services.into_iter().filter_map(|(key, slots)| {
            let app = world.state.apps.get(&key.0)?;
            let (name, spec) = app.release.spec.services.get_key_value(&key.1)?;
            let slots = if whole.contains(&key) {
                slots_of(key.0, app, name, spec, places.values())
            } else {
                slots.into_iter().filter(|slot| app.wants(slot)).collect()
            };
            Some((app, spec, slots))
        });
        looked.collect()
    }
}

impl Mine {
    /// Whether nothing becomes of it unless something happens to it. What follows a lease ends with that.
    fn is_calm(&self) -> bool {
        self.claim.token.is_none()
            && self.hold == Hold::Held
            && matches!(self.claim.phase, Phase::Ready | Phase::Ended)
            && self.published.as_ref() == Some(&self.claim)
            && !self.claim.yielding
            && self.asked.is_none()
            && self.stray.is_none()
    }
}
