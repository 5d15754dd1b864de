//! The containers of this node: what each is called and made from, where it is, and who works on it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mesh_coordinator::id::{Revision, SlotId};
use mesh_coordinator::lease::exclusive::Fence;
use mesh_coordinator::spec::Template;
use mesh_ports::runtime::ContainerId;
use tokio::sync::watch;

use crate::worker::Worker;

/// What stands for a container in claims: the slot, and the id of the revision.
type Key = (SlotId, u64);

/// One container, from the first thing done with it until it is removed.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) id: ContainerId,
    pub(crate) revision: Revision,
    /// What it was made from: a newer definition says nothing about how this one is probed and stopped. `None` when an earlier
    /// life of the agent made it and the catalogue has another definition by now.
    pub(crate) template: Option<Template>,
    /// Where it is; `None` before it was started.
    pub(crate) address: Option<Ipv4Addr>,
    /// What its guard is to be told; `None` while it has no lease.
    pub(crate) fence: watch::Sender<Option<Fence>>,
    /// Who does what is to be done with it; `None` before there was something to do.
    pub(crate) worker: Option<Worker>,
}

/// All containers of this node, by whose replica they are and by name.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    locals: BTreeMap<Key, Local>,
    keys: BTreeMap<ContainerId, Key>,
}

impl Replicas {
    /// The container of a replica; `None` when there is none.
    pub(crate) fn get(&self, slot: &SlotId, revision: Revision) -> Option<&Local> {
        self.locals.get(&(slot.clone(), revision.id))
    }

    pub(crate) fn get_mut(&mut self, slot: &SlotId, revision: Revision) -> Option<&mut Local> {
        self.locals.get_mut(&(slot.clone(), revision.id))
    }

    /// The container of a replica, which is called `id` if it is new.
    pub(crate) fn entry(
        &mut self,
        slot: &SlotId,
        revision: Revision,
        id: ContainerId,
    ) -> &mut Local {
        let key = (slot.clone(), revision.id);
        self.locals.entry(key.clone()).or_insert_with(|| {
            self.keys.insert(id.clone(), key);
            let fence = watch::Sender::new(None);
            Local { id, revision, template: None, address: None, fence, worker: None }
        })
    }

    /// Whose replica a container is.
    pub(crate) fn owner(&self, id: &ContainerId) -> Option<(SlotId, Revision)> {
        let key = self.keys.get(id)?;
        Some((key.0.clone(), self.locals.get(key)?.revision))
    }

    /// The address of a container; `None` when it was not started.
    pub(crate) fn address(&self, slot: &SlotId, revision: Revision) -> Option<Ipv4Addr> {
        self.get(slot, revision)?.address
    }

    /// Forgets a container that was removed.
    pub(crate) fn remove(&mut self, slot: &SlotId, revision: Revision) {
        if let Some(local) = self.locals.remove(&(slot.clone(), revision.id)) {
            self.keys.remove(&local.id);
        }
    }
}
