//! What becomes of a node when another agent lives under its identity, because somebody copied its disk (L-twin).
//!
//! As candidates the two are two: each names its boot. As witnesses they are one, with two disks, and what one of them granted the other
//! does not know. So both hold and witness nothing. Members hear only the later one, so the former one is who finds out, and tells all;
//! they pass it on to the later one.

use std::time::Duration;

use super::{Node, Output};
use crate::event::Severity;
use crate::fact::Fact;
use crate::id::NodeId;
use crate::lease::exclusive::BootId;
use crate::message::Message;
use crate::rules::Rule;
use crate::time::Instant;

/// So often it is said again, since messages may be lost, and the other one may start again.
const TELL_PAUSE: Duration = Duration::from_secs(5);

/// What people are told, after the name of the node.
pub(super) const TWIN: &str = "another agent lives under its identity: its disk was copied. Exclusive slots neither run nor are witnessed \
    there until one of the two is gone and the agent of the other was restarted";

impl Node {
    /// The nodes under whose identity another agent lives, this one included, by their own word.
    pub(super) fn twins(&self) -> impl Iterator<Item = NodeId> {
        let own = (self.config.me, &self.config.facts);
        let all = self.facts.iter().map(|(node, facts)| (*node, facts)).chain([own]);
        all.filter(|(_, facts)| facts.has_twin).map(|(node, _)| node)
    }

    /// This node found out itself. Returns whether claims have to be looked at.
    pub(super) fn find_twin(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        self.twin_tell = Some(now);
        self.meet_twin(out)
    }

    /// A member says that two agents live under the identity of `node`. Returns whether claims have to be looked at.
    pub(super) fn on_twin(
        &mut self,
        from: NodeId,
        node: NodeId,
        boot: BootId,
        out: &mut Vec<Output>,
    ) -> bool {
        if node == self.config.me {
            return boot != self.config.boot && self.meet_twin(out);
        }
        if from == node {
            out.push(Output::Send { to: node, message: Message::Twin { node, boot } });
        }
        false
    }

    /// Holds and witnesses nothing from now on. Returns whether that is new.
    pub(super) fn meet_twin(&mut self, out: &mut Vec<Output>) -> bool {
        if self.config.facts.has_twin || !self.rules.hold(Rule::TwinsRefuse) {
            return false;
        }
        self.config.facts.has_twin = true;
        self.leases.disown();
        out.push(Output::Publish(Fact::Node(self.config.facts.clone())));
        self.alarms.push((Severity::Error, format!("{}: {TWIN}", self.name_of(self.config.me))));
        true
    }

    /// Who found out tells all, and again.
    pub(super) fn tell_of_twin(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.twin_tell.is_none_or(|at| now < at) || !self.config.facts.has_twin {
            return;
        }
        self.twin_tell = Some(now + TELL_PAUSE);
        let message = Message::Twin { node: self.config.me, boot: self.config.boot };
        let tell = |to| Output::Send { to, message: message.clone() };
        out.extend(self.membership.alive().map(tell));
    }
}
