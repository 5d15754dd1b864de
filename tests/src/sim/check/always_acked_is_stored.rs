//! P1: what is acknowledged is on the disks that the acknowledgement names, and on a second one if there is any.

use std::collections::{BTreeMap, BTreeSet};

use mesh_coordinator::catalogue::Entry;
use mesh_coordinator::id::{Hash, NodeId};

use super::World;
use crate::sim::clock::SECOND;

const CHECK: &str = "P1: acknowledged records are stored";
/// Nothing was wrong for so long: a second disk answers.
const QUIET: u64 = 12 * SECOND;

impl World {
    pub(crate) fn check_acked(&mut self, host: usize, entry: &Entry, stored_on: &BTreeSet<NodeId>) {
        let lacking = stored_on.iter().find(|node| {
            let host = self.index.get(*node).map(|host| &self.hosts[*host]);
            host.is_some_and(|host| !host.lost && !has(&host.disk, entry))
        });
        if let Some(node) = lacking {
            self.fail(CHECK, format!("{:?} is not on the disk of {node}", entry.hash));
        }
        // The submission itself is a disturbance, of this moment.
        let quiet = self.checks.last_fault + QUIET < self.now && self.net.is_whole();
        let awake = (0..self.hosts.len()).filter(|host| self.hosts[*host].is_awake());
        let n_awake = awake.filter(|host| !self.is_removed(*host)).count();
        if quiet
            && !self.is_removed(host)
            && self.is_known(host)
            && n_awake >= 3
            && stored_on.len() == 1
            && self.plan.loss_permille == 0
        {
            self.fail(CHECK, format!("{:?} is on one disk, and others are there", entry.hash));
        }
    }
}

/// Whether a disk has the record, or a better one that stands for it.
fn has(disk: &BTreeMap<Hash, Entry>, entry: &Entry) -> bool {
    let key = entry.record.body.key();
    disk.contains_key(&entry.hash)
        || disk.values().any(|it| it.record.body.key() == key && it.order() > entry.order())
}
