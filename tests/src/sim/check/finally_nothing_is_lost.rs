//! At the end, with everything mended: what operators were promised is there, and what they removed is not.

use mesh_coordinator::catalogue::Body;
use mesh_coordinator::node::Node;

use super::World;

const LOST: &str = "P1: no acknowledged record is lost";
const BACK: &str = "no removed app comes back";
const EMPTY: &str = "somebody is left at the end";

impl World {
    pub(crate) fn check_end(&mut self) {
        let Some(node) = self.survivor() else {
            return self.fail(EMPTY, "nobody is".to_owned());
        };
        let catalogue = node.catalogue();
        let lost = self.operator.owed().find(|acked| {
            let held = catalogue.record(&acked.entry.record.body.key());
            held.is_none_or(|held| held.order() < acked.entry.order())
        });
        if let Some(acked) = lost {
            let text = format!("{:?}, stored on {:?}", acked.entry.record, acked.stored_on);
            return self.fail(LOST, text);
        }
        let back = self.operator.owed().find_map(|acked| {
            let Body::AppRemoval { app, name } = &acked.entry.record.body else { return None };
            let stands = node.state().removed_apps.contains(app)
                && !node.state().apps.contains_key(app)
                && node.state().removals.contains_key(name);
            (!stands).then(|| format!("{name}"))
        });
        if let Some(text) = back {
            self.fail(BACK, text);
        }
    }

    /// A member that runs at the end.
    fn survivor(&self) -> Option<&Node> {
        let awake = |host: &usize| self.hosts[*host].is_awake() && !self.is_removed(*host);
        (0..self.hosts.len()).find(awake).and_then(|host| self.hosts[host].node())
    }
}
