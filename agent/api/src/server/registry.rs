//! The open connections: whose they are, how many there are, and how to close them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_coordinator::id::PublicKey;
use tokio_util::sync::CancellationToken;

use super::Limits;

/// The open connections of a server, those in their handshake included.
#[derive(Debug)]
pub(super) struct Registry {
    connections_max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    places: HashMap<u64, Entry>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    /// `None` during the handshake.
    key: Option<PublicKey>,
    close: CancellationToken,
}

/// The right to one open connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    close: CancellationToken,
}

impl Registry {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections_max: limits.connections,
            per_address_max: limits.connections_per_address,
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
        if open.places.len() >= self.connections_max || from_there >= self.per_address_max {
            return None;
        }
        let (number, close) = (open.next, CancellationToken::new());
        open.next = open.next.wrapping_add(1);
        open.per_address.insert(address, from_there.saturating_add(1));
        open.places.insert(number, Entry { address, key: None, close: close.clone() });
        Some(Place { registry: Arc::clone(self), number, close })
    }

    /// Closes the connections of the keys that `whose` says yes to.
    pub(super) fn close(&self, whose: impl Fn(&PublicKey) -> bool) {
        let open = self.open();
        let theirs = open.places.values().filter(|entry| entry.key.as_ref().is_some_and(&whose));
        theirs.for_each(|entry| entry.close.cancel());
    }

    pub(super) fn len(&self) -> usize {
        self.open().places.len()
    }
}

impl Place {
    /// Says whose connection it is.
    pub(super) fn belongs_to(&self, key: PublicKey) {
        if let Some(entry) = self.registry.open().places.get_mut(&self.number) {
            entry.key = Some(key);
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
        let left = open.per_address.get(&entry.address).map_or(0, |n| n.saturating_sub(1));
        if left == 0 {
            open.per_address.remove(&entry.address);
        } else {
            open.per_address.insert(entry.address, left);
        }
    }
}
