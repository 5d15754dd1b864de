//! Leases of exclusive slots: the right to run what must never run twice.
//!
//! A slot has a few witnesses of its own. Whoever wants the slot asks them in two phases, as in Paxos: [`Prepare`](Request::Prepare)
//! finds out what was agreed before, [`Accept`](Request::Accept) makes the asker the holder where a majority grants it. A grant
//! holds for a time, counted by the holder from the moment *before* it asked and by the witness from the moment when it answered;
//! so the holder always ends first, whatever the messages did. Nobody agrees on anything else: no log, no leader.
//!
//! [`Witness`] is one node's word on all slots that it witnesses, [`Lease`] is one node's attempt to hold one slot, [`Timing`] has the
//! inequalities on which the argument rests. All three are pure; `LEASES.md` has the rules by their names (W1 to W4, H1 to H10) and
//! the argument.

mod attempt;
mod fence;
mod holder;
mod register;
mod roster;
mod session;
mod setup;
mod timing;
mod witness;

pub use self::fence::Fence;
pub use self::holder::{Lease, Motion};
pub use self::register::{
    Accepted, Answer, Ballot, BootId, Configuration, Holder, Key, LEAP_MAX, LeaseId, Refusal,
    Register, Request, StoreId, Token, Value, WitnessId,
};
pub use self::roster::{first_witnesses, next_witnesses};
pub use self::setup::{Former, Resume, Setup};
pub use self::timing::{Broken, Timing};
pub use self::witness::{Home, Step, Witness};

#[cfg(test)]
mod tests;
