//! A node that looked at everything would decide what it decides by looking at what has changed.

use super::World;
use crate::sim::clock::SECOND;

const QUARTER: usize = 4;
const BLIND: &str = "a node looks at whatever has changed";

impl World {
    /// Looks at one quarter of the hosts after the other: to look at everything takes long.
    pub(crate) fn check_oversight(&mut self) {
        let first = (self.now / SECOND) as usize % QUARTER;
        for host in (first..self.hosts.len()).step_by(QUARTER) {
            let it = &self.hosts[host];
            let node = it.node().filter(|_| it.is_awake());
            let overlooked = node.and_then(|node| node.overlooked(it.clock.moment(self.now)));
            if let Some(text) = overlooked {
                self.fail(BLIND, format!("n{host}: {text}"));
            }
        }
    }
}
