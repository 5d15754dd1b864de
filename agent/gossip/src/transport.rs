//! chitchat's datagrams, each sealed for one member and cut to packets that no network has to fragment.
//!
//! A message goes `ChitchatEnvelope` → bytes ([`codec`]) → parts of at most 1,272 bytes → packets ([`packet`]), each sealed for
//! the member at the destination → UDP. On the way back a packet must pass, in this order: its header names our mesh and a
//! member; it opens with that member's key; what is inside repeats the header; it is of the member's current life and new
//! ([`window`]); and it names *this* node's current life ([`session`]). Then its parts are put together ([`parts`]).
//!
//! Naming our life is what makes a datagram fresh. Without it, whoever recorded the datagrams of a node that has died could
//! play them to an agent that restarts, and the dead node would seem alive. A member that does not know our life yet gets a
//! *hello* (a packet without parts) that tells it; that costs one round trip, only at first contact.

mod codec;
mod link;
mod packet;
mod parts;
mod session;
mod socket;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use self::link::{Link, Parties};
pub(crate) use self::socket::Sealed;
