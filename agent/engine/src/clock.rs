//! The agent's clocks: a steady one that decides, the wall clock, and what the mesh makes of the wall clocks of all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_coordinator::clocks::{Clocks, Finding, Span};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::time::{Instant, Moment, WallTime};
use mesh_ports::clock::{LeaseClock, WallClock};

/// All clocks of one agent. Clones hear the same peers.
#[derive(Debug, Clone)]
pub struct Clock {
    start: tokio::time::Instant,
    /// Added to the wall clock, in milliseconds; lets tests live in another year.
    wall_offset_ms: i64,
    /// What the peers' clocks say.
    peers: Arc<Mutex<Clocks>>,
}

impl Clock {
    /// Clocks that begin now. `wall_offset_ms` is added to what the host's wall clock says.
    #[must_use]
    pub fn new(wall_offset_ms: i64) -> Self {
        Self { start: tokio::time::Instant::now(), wall_offset_ms, peers: Arc::default() }
    }

    /// The steady clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_start(self.start.elapsed())
    }

    /// The moment of the steady clock as tokio's timers want it.
    #[must_use]
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        self.start + at.since_start()
    }

    /// What all clocks show: the lease clocks as `leases` reads them.
    #[must_use]
    pub fn moment(&self, leases: &impl LeaseClock) -> Moment {
        Moment { now: self.now(), reading: leases.reading(), wall: self.mesh() }
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        #[expect(
            clippy::disallowed_types,
            reason = "the one place that reads the wall clock, for stamps and display"
        )]
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let ms =
            u64::try_from(since_epoch.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX);
        WallTime(ms.saturating_add_signed(self.wall_offset_ms))
    }

    /// A peer says what its wall clock says.
    pub fn hear(&self, node: NodeId, wall: WallTime) {
        self.peers().hear(self.now(), node, wall);
    }

    /// Between which two moments the time of the mesh is: one moment, unless this node hears as many clocks that say one thing as
    /// that say another.
    #[must_use]
    pub fn span(&self) -> Span {
        self.peers().span(self.now(), self.wall())
    }

    /// What is to be told anew about this node's wall clock. Only members count.
    pub(crate) fn judge(&self, is_member: impl Fn(NodeId) -> bool) -> Option<Finding> {
        let (now, own) = (self.now(), self.wall());
        let mut peers = self.peers();
        peers.retain(now, is_member);
        peers.judge(now, own)
    }

    fn peers(&self) -> MutexGuard<'_, Clocks> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WallClock for Clock {
    fn own(&self) -> WallTime {
        self.wall()
    }

    fn mesh(&self) -> WallTime {
        let own = self.wall();
        self.peers().span(self.now(), own).near(own)
    }

    fn logs_off_ms(&self) -> i64 {
        // What tests add to the agent's clock is not in what the shims stamp.
        self.peers().told().off_ms.saturating_sub(self.wall_offset_ms)
    }
}
