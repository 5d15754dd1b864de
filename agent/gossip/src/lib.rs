//! Membership and published claims by chitchat, over a sealed datagram transport.
