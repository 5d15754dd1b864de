//! What happened in walks: a run in which nothing went wrong has shown nothing.

use std::ops::AddAssign;

/// How often each thing happened.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// The slot was acquired.
    pub acquired: u64,
    /// It was acquired while its witnesses were being changed.
    pub acquired_in_change: u64,
    /// A lease ran out.
    pub lapsed: u64,
    /// A guard killed a container.
    pub killed: u64,
    /// A change of the witnesses was proposed.
    pub changes_begun: u64,
    /// One was finished.
    pub changes_done: u64,
    /// A later life of an agent went on with its token.
    pub resumed: u64,
    /// An agent died.
    pub crashes: u64,
    /// A lease was released.
    pub releases: u64,
    /// A crash cost what was not flushed.
    pub writes_lost: u64,
    /// A disk was lost.
    pub wipes: u64,
    /// After all that somebody got the slot.
    pub ended_well: u64,
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, rhs: Self) {
        self.acquired += rhs.acquired;
        self.acquired_in_change += rhs.acquired_in_change;
        self.lapsed += rhs.lapsed;
        self.killed += rhs.killed;
        self.changes_begun += rhs.changes_begun;
        self.changes_done += rhs.changes_done;
        self.resumed += rhs.resumed;
        self.crashes += rhs.crashes;
        self.releases += rhs.releases;
        self.writes_lost += rhs.writes_lost;
        self.wipes += rhs.wipes;
        self.ended_well += rhs.ended_well;
    }
}

impl Coverage {
    /// Whether everything happened at least once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let counts = [
            self.acquired,
            self.acquired_in_change,
            self.lapsed,
            self.killed,
            self.changes_begun,
            self.changes_done,
            self.resumed,
            self.crashes,
            self.releases,
            self.writes_lost,
            self.wipes,
            self.ended_well,
        ];
        counts.iter().all(|count| *count > 0)
    }
}
