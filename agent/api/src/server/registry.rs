//! The open connections: whose they are, how many there are, and how to close them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_coordinator::id::PublicKey;
use mesh_ports::directory::Standing;
use tokio_util::sync::CancellationToken;

use super::Limits;

/// The open connections of a server, those in their handshake included.
#[derive(Debug)]
pub(super) struct Registry {
    connections_max: usize,
    per_address_max: usize,
    strangers_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    places: HashMap<u64, Entry>,
    per_address: HashMap<IpAddr, usize>,
    n_strangers: usize,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    /// Whose it is, and what that key was when it was opened; `None` during the handshake.
    owner: Option<(PublicKey, Standing)>,
    close: CancellationToken,
}

/// The right to one open connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    close: CancellationToken,
}

impl Entry {
    /// Whether it counts among the strangers: nobody knows its key, or not yet.
    const fn is_stranger(&self) -> bool {
        matches!(self.owner, None | Some((_, Standing::Unknown)))
    }
}

impl Registry {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections_max: limits.connections,
            per_address_max: limits.connections_per_address,
            strangers_max: limits.strangers,
            open: Mutex::new(Open::default()),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`; `None` when too many are open.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.open();
        let from_there = open.per_address.get(&address).copied().unwrap_or(0);
        let is_full = open.places.len() >= self.connections_max
            || open.n_strangers >= self.strangers_max
            || from_there >= self.per_address_max;
        if is_full {
            return None;
        }
        open.n_strangers = open.n_strangers.saturating_add(1);
        let (number, close) = (open.next, CancellationToken::new());
        open.next = open.next.wrapping_add(1);
        open.per_address.insert(address, from_there.saturating_add(1));
        open.places.insert(number, Entry { address, owner: None, close: close.clone() });
        Some(Place { registry: Arc::clone(self), number, close })
    }

    /// Closes the connections to whose key, and what it was when they were opened, `is_theirs` says yes.
    pub(super) fn close(&self, is_theirs: impl Fn(&PublicKey, &Standing) -> bool) {
        for entry in self.open().places.values() {
            if entry.owner.as_ref().is_some_and(|(key, standing)| is_theirs(key, standing)) {
                entry.close.cancel();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open().places.len()
    }
}

impl Place {
    /// Says whose connection it is.
    pub(super) fn belongs_to(&self, key: PublicKey, standing: Standing) {
        let mut guard = self.registry.open();
        let open = &mut *guard;
        let Some(entry) = open.places.get_mut(&self.number) else { return };
        let was_stranger = entry.is_stranger();
        entry.owner = Some((key, standing));
        if was_stranger && !entry.is_stranger() {
            open.n_strangers = open.n_strangers.saturating_sub(1);
        }
    }

    /// Cancelled when the connection is to be closed.
    pub(super) const fn close(&self) -> &CancellationToken {
        &self.close
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.registry.open();
        let Some(entry) = open.places.remove(&self.number) else { return };
        if entry.is_stranger() {
            open.n_strangers = open.n_strangers.saturating_sub(1);
        }
        let left = open.per_address.get(&entry.address).map_or(0, |n| n.saturating_sub(1));
        if left == 0 {
            open.per_address.remove(&entry.address);
        } else {
            open.per_address.insert(entry.address, left);
        }
    }
}
