//! At the end, with everything mended: what operators were promised is there, and what they removed is not.

use mesh_coordinator::catalogue::{Body, Refusal};
use mesh_coordinator::node::Node;

use super::World;
use crate::sim::operator::Acked;

const LOST: &str = "P1: no acknowledged record is lost";
const BACK: &str = "no removed app comes back";
const EMPTY: &str = "somebody is left at the end";

impl World {
    pub(crate) fn check_end(&mut self) {
        let members: Vec<&Node> = self.survivors().collect();
        if members.is_empty() {
            return self.fail(EMPTY, "nobody is".to_owned());
        }
        let wrong = members.into_iter().find_map(|node| self.wrong_with(node));
        if let Some((check, text)) = wrong {
            self.fail(check, text);
        }
    }

    /// What a member should know and does not, or the other way round.
    fn wrong_with(&self, node: &Node) -> Option<(&'static str, String)> {
        // An operator's removal voids what it does not list: what its author's agent had not heard of. That is what it promises.
        let owed = || {
            let stands = |acked: &&Acked| {
                !matches!(node.catalogue().judge(&acked.entry), Err(Refusal::RemovedAuthor))
            };
            self.operator.owed().filter(stands)
        };
        let lost = owed().find(|acked| {
            let held = node.catalogue().record(&acked.entry.record.body.key());
            held.is_none_or(|held| held.order() < acked.entry.order())
        });
        if let Some(acked) = lost {
            let text = format!("{:?}, stored on {:?}", acked.entry.record, acked.stored_on);
            return Some((LOST, text));
        }
        owed().find_map(|acked| {
            let Body::AppRemoval { app, name } = &acked.entry.record.body else { return None };
            let stands = node.state().removed_apps.contains(app)
                && !node.state().apps.contains_key(app)
                && node.state().removals.contains_key(name);
            (!stands).then(|| (BACK, format!("{name}")))
        })
    }

    /// The members that run at the end.
    fn survivors(&self) -> impl Iterator<Item = &Node> {
        let awake = |host: &usize| self.hosts[*host].is_awake() && !self.is_removed(*host);
        (0..self.hosts.len()).filter(awake).filter_map(|host| self.hosts[host].node())
    }
}
