//! What operators want: signed records, replicated everywhere.
//!
//! A [`Catalogue`] is a set of signed records that only grows by better ones: for each key it keeps, of every author, the best
//! record (highest `gen`, then time, then hash). What holds is a pure function of that set, [`Catalogue::resolve`]: it walks the
//! chain of authority from the genesis record, leaves out what its author had no right to write, and takes the best of the rest
//! for each key. So the order in which records arrive never matters, two meshes that healed agree, and the record of an
//! operator who turns out to have been removed can be left out later without a hole where an older record was.

mod record;

pub use self::record::{
    Body, Drain, Entry, Genesis, Invitation, KeptRecord, Member, NodeAddress, NodeLabels, Operator,
    OperatorRemoval, Record, RecordKey, Release, Restart, Role, Run, Scale, Settings, SignedBytes,
    Stamp,
};
