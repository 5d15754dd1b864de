//! What a lease begins with: who wants it, from whom, and what a former life of the agent has left.

use super::register::{Configuration, Holder, Token};
use super::timing::Timing;
use crate::rules::{Rule, Rules};
use crate::time::Reading;

/// What a lease is told once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Setup {
    /// Who wants the slot.
    pub me: Holder,
    /// The last lease before this one; `None` when there was none.
    pub former: Option<Former>,
    /// Its witnesses when it was created.
    pub first: Configuration,
    /// How long things take and hold, until phase 1 has found what the witnesses go by.
    pub timing: Timing,
    /// Where random choices begin.
    pub seed: u64,
    /// What a former life of this agent on the same boot still holds; `None` when it holds nothing.
    pub resume: Option<Resume>,
    /// Which rules hold.
    pub rules: Rules,
}

impl Setup {
    /// H8: what a former life held was gone on with, or is over.
    pub(super) fn forget_former(&mut self) {
        if self.rules.hold(Rule::ResumeOnce) {
            self.resume = None;
        }
    }
}

/// A lease that was given up: of the slot, or of the same slot in a former life of its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Former {
    /// No token of it was higher.
    pub token: Token,
    /// When it is over for certain: nobody becomes the first holder of the new one before.
    pub over: Reading,
}

/// What a former life of the agent holds, as its guard tells. Whoever is quick goes on with it: nobody else can have held the slot
/// since, so the token and the container stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resume {
    /// By which token.
    pub token: Token,
    /// When the guard kills.
    pub kill: Reading,
}
