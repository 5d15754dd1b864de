//! Where members are: which addresses belong to which node, learnt from three sources.
//!
//! chitchat sends to addresses, the transport seals for nodes, so each destination must be turned back into the node behind it.
//! An address can have more than one owner for a while (a host that was installed anew has a new identity at the old address):
//! then a message goes to each of them, sealed, and only the one that is there can open it. That is why none of the sources
//! needs to be believed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_coordinator::id::{Incarnation, NodeId};

/// The most owners of one address that a message is sealed for.
const OWNERS_MAX: usize = 4;

/// What is known of one member's place.
#[derive(Debug, Default, Clone)]
struct Place {
    /// Where the last authentic datagram of the member came from.
    heard: Option<SocketAddr>,
    /// What the directory says, resolved; or the address book at first.
    listed: Option<SocketAddr>,
    /// What the member tells by gossip, in which life; any member could have made that up.
    told: Option<(SocketAddr, Incarnation)>,
}

impl Place {
    fn all(&self) -> impl Iterator<Item = SocketAddr> {
        [self.heard, self.listed, self.told.map(|(address, _)| address)].into_iter().flatten()
    }
}

/// All places. A leaf: locked for moments, never while waiting.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<NodeId, Place>>);

impl Addresses {
    fn places(&self) -> MutexGuard<'_, BTreeMap<NodeId, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An authentic datagram of `node` came from `address`.
    pub(crate) fn hear(&self, node: NodeId, address: SocketAddr) {
        self.places().entry(node).or_default().heard = Some(address);
    }

    /// The directory says that `node` is at `address`.
    pub(crate) fn list(&self, node: NodeId, address: SocketAddr) {
        self.places().entry(node).or_default().listed = Some(address);
    }

    /// Gossip says that `node` lives at `address` in the life `incarnation`. Older lives do not replace newer ones.
    pub(crate) fn tell(&self, node: NodeId, address: SocketAddr, incarnation: Incarnation) {
        let mut places = self.places();
        let place = places.entry(node).or_default();
        if place.told.is_none_or(|(_, known)| known <= incarnation) {
            place.told = Some((address, incarnation));
        }
    }

    /// In which life gossip says that `node` is; zero while nothing is said.
    pub(crate) fn told_life(&self, node: NodeId) -> Incarnation {
        let told = self.places().get(&node).and_then(|place| place.told);
        told.map_or(Incarnation(0), |(_, incarnation)| incarnation)
    }

    /// Who may be at `address`.
    pub(crate) fn owners(&self, address: SocketAddr) -> Vec<NodeId> {
        let places = self.places();
        let at = places.iter().filter(|(_, place)| place.all().any(|known| known == address));
        at.map(|(node, _)| *node).take(OWNERS_MAX).collect()
    }

    /// All addresses at which `node` may be, best first.
    pub(crate) fn of(&self, node: NodeId) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.places().get(&node).into_iter().flat_map(Place::all).collect();
        all.dedup();
        all
    }

    /// The best address of each node, for the book.
    pub(crate) fn book(&self) -> Vec<(NodeId, SocketAddr)> {
        let places = self.places();
        places.iter().filter_map(|(node, place)| Some((*node, place.all().next()?))).collect()
    }

    /// Forgets all nodes but those that `keep` keeps.
    pub(crate) fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.places().retain(|node, _| keep(*node));
    }
}

#[cfg(test)]
mod tests {
    //! Every source finds its node, and lies do no harm.

    use std::net::SocketAddr;

    use mesh_coordinator::id::{Incarnation, NodeId, PublicKey};

    use super::Addresses;

    fn node(n: u8) -> NodeId {
        NodeId::of(&PublicKey([n; 32]))
    }

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn an_address_with_two_claimants_serves_both() {
        let addresses = Addresses::default();
        addresses.hear(node(1), at(1));
        addresses.tell(node(2), at(1), Incarnation(5));
        let mut both = vec![node(1), node(2)];
        both.sort();
        assert_eq!(addresses.owners(at(1)), both);
        assert!(addresses.owners(at(2)).is_empty());
    }

    #[test]
    fn an_older_life_does_not_move_a_node() {
        let addresses = Addresses::default();
        addresses.tell(node(1), at(2), Incarnation(2));
        addresses.tell(node(1), at(1), Incarnation(1));
        assert_eq!(addresses.of(node(1)), [at(2)]);
        assert_eq!(addresses.told_life(node(1)), Incarnation(2));
    }

    #[test]
    fn the_book_prefers_where_the_node_was_heard_and_forgets_strangers() {
        let addresses = Addresses::default();
        addresses.list(node(1), at(1));
        addresses.hear(node(1), at(2));
        addresses.list(node(2), at(3));
        addresses.retain(|known| known == node(1));
        assert_eq!(addresses.book(), [(node(1), at(2))]);
        assert_eq!(addresses.of(node(1)), [at(2), at(1)]);
    }
}
