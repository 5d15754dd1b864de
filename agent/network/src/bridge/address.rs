//! Which addresses of the range are taken.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The addresses of a range. The first is the bridge's own and is never given away.
///
/// Goes round: an address that was just released is given out again only after all others were. Neighbours remember for a while
/// which container had an address, and so may clients.
#[derive(Debug)]
pub(super) struct Addresses {
    range: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    next: u32,
}

impl Addresses {
    pub(super) const fn new(range: Ipv4Net) -> Self {
        Self { range, taken: BTreeSet::new(), next: 0 }
    }

    /// The bridge's own address.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.range.network().to_bits().saturating_add(1))
    }

    /// Notes that `address` is in use, whoever gave it away.
    pub(super) fn take(&mut self, address: Ipv4Addr) {
        self.taken.insert(address);
        self.next = self.next.max(self.after(address));
    }

    /// Gives `address` back.
    pub(super) fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }

    /// Takes a free address, or none when all are taken.
    pub(super) fn allocate(&mut self) -> Option<Ipv4Addr> {
        let first = self.gateway().to_bits().saturating_add(1);
        let last = self.range.broadcast().to_bits().saturating_sub(1);
        let start = self.next.clamp(first, last);
        let round = (start..=last).chain(first..start).map(Ipv4Addr::from_bits);
        let address = round.into_iter().find(|address| !self.taken.contains(address))?;
        self.taken.insert(address);
        self.next = self.after(address);
        Some(address)
    }

    /// Where to look next; past the end means from the beginning.
    fn after(&self, address: Ipv4Addr) -> u32 {
        let after = address.to_bits().saturating_add(1);
        if after < self.range.broadcast().to_bits() { after } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    //! No address twice, none that is special, and none again at once.

    use std::net::Ipv4Addr;

    use super::Addresses;

    fn small() -> Addresses {
        Addresses::new("10.9.8.0/29".parse().unwrap())
    }

    fn last_octets(addresses: &mut Addresses, n: usize) -> Vec<u8> {
        (0..n).map_while(|_| addresses.allocate()).map(|address| address.octets()[3]).collect()
    }

    #[test]
    fn gives_every_address_but_network_gateway_and_broadcast() {
        let mut addresses = small();
        assert_eq!(addresses.gateway(), Ipv4Addr::new(10, 9, 8, 1));
        assert_eq!(last_octets(&mut addresses, 9), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_released_address_waits_for_its_turn() {
        let mut addresses = small();
        assert_eq!(last_octets(&mut addresses, 2), [2, 3]);
        addresses.release(Ipv4Addr::new(10, 9, 8, 2));
        assert_eq!(last_octets(&mut addresses, 9), [4, 5, 6, 2]);
    }

    #[test]
    fn an_adopted_address_is_not_given_away() {
        let mut addresses = small();
        addresses.take(Ipv4Addr::new(10, 9, 8, 6));
        addresses.take(Ipv4Addr::new(10, 9, 8, 3));
        assert_eq!(last_octets(&mut addresses, 9), [4, 5, 2]);
    }

    #[test]
    fn an_address_from_elsewhere_does_no_harm() {
        let mut addresses = small();
        addresses.take(Ipv4Addr::new(192, 168, 0, 7));
        assert_eq!(last_octets(&mut addresses, 9).len(), 5);
    }
}
