//! What operators want: signed records, replicated everywhere.
//!
//! A [`Catalogue`] is a set of signed records that only grows by better ones: for each key it keeps, of every author, the best
//! record. What holds is a pure function of that set, [`State`]: it follows the chain of authority from the genesis record,
//! leaves out what its author had no right to write, and takes the best of the rest for each key. So the order in which records
//! arrive never matters, two sides that heal agree (promise P5), and when an operator turns out to have been removed, the older
//! record of somebody else is still there to take the place of the void one.

mod authority;
mod exchange;
mod quota;
mod record;
mod set;
mod state;
mod succession;

pub use self::authority::Refusal;
pub(crate) use self::exchange::Exchange;
pub use self::record::{
    Body, Drain, Entry, Genesis, Invitation, KeptRecord, Member, NodeAddress, NodeLabels, Operator,
    OperatorRemoval, Record, RecordKey, Recovery, Release, Restart, Role, Run, Scale, Settings,
    SignedBytes, SlotReset, Stamp,
};
pub use self::set::{BUCKETS, Catalogue, Inserted};
pub use self::state::{App, Node, State, gossip_interval};

#[cfg(test)]
pub(crate) mod sample;
