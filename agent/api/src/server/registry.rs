//! The open connections: whose they are, how many there are, and how to close them.
//!
//! Whether a connection is a stranger's shows only after its handshake. So when strangers have all the places that they may
//! have, a new connection is not refused, it takes the place of the oldest one from the address that has the most of them: who
//! floods from a few addresses pushes out only itself, and members get through. The same holds for the places of one address.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_coordinator::id::PublicKey;
use mesh_ports::directory::Standing;
use mesh_telemetry::{Reason, Refusals};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::gate::is_stranger;

/// The open connections of a server, those in their handshake included.
#[derive(Debug)]
pub(super) struct Registry {
    connections_max: usize,
    per_address_max: usize,
    strangers_max: usize,
    refusals: Refusals,
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
    fn is_stranger(&self) -> bool {
        self.owner.as_ref().is_none_or(|(_, standing)| is_stranger(standing))
    }
}

impl Registry {
    pub(super) fn new(limits: &Limits, refusals: Refusals) -> Self {
        Self {
            connections_max: limits.connections,
            per_address_max: limits.connections_per_address,
            strangers_max: limits.strangers,
            refusals,
            open: Mutex::new(Open::default()),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`; `None` when too many are open, all of which are somebody's.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = site(address);
        let mut open = self.open();
        let from_there = open.per_address.get(&address).copied().unwrap_or(0);
        // A host and its containers have the same address: who floods from a container must not keep the host's agent out.
        if from_there >= self.per_address_max {
            let crowd = open.crowds().remove(&address);
            let Some((_, oldest)) = crowd else {
                self.refuse(address, "too many connections from one address");
                return None;
            };
            open.close(oldest);
            self.refuse(address, "made room for another connection from the same address");
        }
        if open.n_strangers >= self.strangers_max
            && let Some(evicted) = open.evict_stranger()
        {
            self.refuse(evicted, "made room for others: too many connections of strangers");
        }
        if open.places.len() >= self.connections_max {
            self.refuse(address, "too many connections in all");
            return None;
        }
        let from_there = open.per_address.get(&address).copied().unwrap_or(0);
        open.n_strangers = open.n_strangers.saturating_add(1);
        let (number, close) = (open.next, CancellationToken::new());
        open.next = open.next.wrapping_add(1);
        open.per_address.insert(address, from_there.saturating_add(1));
        open.places.insert(number, Entry { address, owner: None, close: close.clone() });
        Some(Place { registry: Arc::clone(self), number, close })
    }

    fn refuse(&self, address: IpAddr, words: &str) {
        self.refusals.refuse(Reason::TooManyConnections, address, words);
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

impl Open {
    /// For each address of strangers how many connections they have, and which is the oldest.
    fn crowds(&self) -> HashMap<IpAddr, (usize, u64)> {
        let mut crowds: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (number, entry) in self.places.iter().filter(|(_, entry)| entry.is_stranger()) {
            let (count, oldest) = crowds.entry(entry.address).or_insert((0, *number));
            *count = count.saturating_add(1);
            *oldest = (*oldest).min(*number);
        }
        crowds
    }

    /// Closes the oldest stranger's connection from the address that has the most of them; returns that address.
    fn evict_stranger(&mut self) -> Option<IpAddr> {
        let crowds = self.crowds().into_iter();
        let worst = crowds.max_by_key(|(_, (count, oldest))| (*count, Reverse(*oldest)));
        let (address, (_, oldest)) = worst?;
        self.close(oldest);
        Some(address)
    }

    fn close(&mut self, number: u64) {
        if let Some(entry) = self.take(number) {
            entry.close.cancel();
        }
    }

    /// Gives a place back; `None` when that has been done.
    fn take(&mut self, number: u64) -> Option<Entry> {
        let entry = self.places.remove(&number)?;
        if entry.is_stranger() {
            self.n_strangers = self.n_strangers.saturating_sub(1);
        }
        let left = self.per_address.get(&entry.address).map_or(0, |n| n.saturating_sub(1));
        if left == 0 {
            self.per_address.remove(&entry.address);
        } else {
            self.per_address.insert(entry.address, left);
        }
        Some(entry)
    }
}

/// What counts as one address: of IPv6 the network, since each host has as many addresses as it likes.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
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
        self.registry.open().take(self.number);
    }
}
