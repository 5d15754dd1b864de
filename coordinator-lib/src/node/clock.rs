//! A wall clock that is off: nothing depends on it, and people are told.

use super::{Node, Output};
use crate::clocks::{Finding, off, words};
use crate::event::{Severity, Subject};
use crate::fact::Fact;
use crate::time::WallTime;

impl Node {
    /// Tells the others, and people once for each time that the clock is off. Never a reason to look at claims, which it says.
    pub(super) fn on_clock(
        &mut self,
        wall: WallTime,
        found: Finding,
        out: &mut Vec<Output>,
    ) -> bool {
        let before = std::mem::replace(&mut self.clock, found);
        if before.off_ms == found.off_ms {
            return false;
        }
        self.config.facts.clock_off_ms = found.off_ms;
        if self.introduced {
            out.push(Output::Publish(Fact::Node(self.config.facts.clone())));
        }
        let (severity, text) = match off(found.off_ms) {
            None => (Severity::Info, "its wall clock is right again".to_owned()),
            Some(_) if before.off_ms != 0 => return false,
            Some(off) => (Severity::Warning, format!("its wall clock is {off} the mesh's")),
        };
        self.tell(wall, severity, Subject::Node(self.config.me), text, out);
        false
    }

    /// Whose clocks are off, and what to do about it. Of a node that is down nobody knows, and nobody can look there.
    pub(super) fn clock_problems(&self) -> Vec<String> {
        let own = (self.config.me, self.clock.off_ms);
        let others = self.facts.iter().map(|(node, facts)| (*node, facts.clock_off_ms));
        let others = others.filter(|(node, _)| !self.down.contains(node));
        let said = others.chain([own]).filter_map(|(node, off_ms)| Some((node, off(off_ms)?)));
        let mut problems: Vec<String> = said
            .map(|(node, off)| {
                format!(
                    "the wall clock of {} is {off} the mesh's: look at `timedatectl` there; chrony or systemd-timesyncd keeps it right",
                    self.name_of(node)
                )
            })
            .collect();
        problems.sort();
        problems.extend(self.clock.doubt.map(|apart| {
            format!(
                "the nodes' wall clocks are {} apart, and no majority says which are right: compare `timedatectl` on each",
                words(apart)
            )
        }));
        problems
    }
}
