//! What a lease does, for people.

use super::{Lease, State};
use crate::time::Reading;
use crate::view::Pursuit;

impl Lease {
    /// How far it has come; `None` while nobody seeks it.
    #[must_use]
    pub fn pursuit(&self, now: Reading) -> Option<Pursuit> {
        match &self.state {
            State::Idle => None,
            State::Waiting { until } => Some(Pursuit::Waiting { left: now.until_maybe(*until) }),
            State::Preparing(_) => Some(Pursuit::Asking),
            State::Holding(holding) => {
                let over = holding.session.end.map(|end| end.over);
                let over = over.filter(|over| !now.may_be_past(*over));
                Some(over.map_or(Pursuit::Asking, |over| Pursuit::Holding {
                    token: holding.session.value.token,
                    left: now.until_maybe(over),
                }))
            }
        }
    }
}
