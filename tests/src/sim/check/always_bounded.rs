//! No storms: what a node sends, and how often it wakes, is bounded at all times.

use mesh_coordinator::node::Output;

use super::World;
use crate::sim::clock::SECOND;

const CHECK: &str = "bounded: neither storms nor busy loops";
/// Messages of one node within a second to each of a mesh: a re-election of everything in a mesh of ten, told to everybody, twice.
const MESSAGES_TO_ONE_MAX: u64 = 150;
/// A smaller mesh is taken for one of this size.
const MESH_MIN: usize = 10;
/// Wakes of one node within a second.
const WAKES_MAX: u64 = 200;
/// Outputs of one input, for each of a mesh.
const OUTPUTS_TO_ONE_MAX: usize = 100;

/// What a node did within the present second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    second: u64,
    messages: u64,
    wakes: u64,
}

impl World {
    fn rate(&mut self, host: usize) -> &mut Rate {
        let second = self.now / SECOND;
        let rate = self.checks.rates.entry(host).or_default();
        if rate.second != second {
            *rate = Rate { second, ..Rate::default() };
        }
        rate
    }

    pub(crate) fn check_wake(&mut self, host: usize) {
        let rate = self.rate(host);
        rate.wakes += 1;
        let wakes = rate.wakes;
        self.coverage.wakes_max = self.coverage.wakes_max.max(wakes);
        if wakes > WAKES_MAX {
            self.fail(CHECK, format!("n{host} woke {wakes} times within a second"));
        }
    }

    pub(crate) fn check_outputs(&mut self, host: usize, out: &[Output]) {
        let sent = out.iter().filter(|output| matches!(output, Output::Send { .. })).count() as u64;
        let n_hosts = self.hosts.len().max(MESH_MIN);
        let messages_max = MESSAGES_TO_ONE_MAX * n_hosts as u64;
        let rate = self.rate(host);
        rate.messages += sent;
        let messages = rate.messages;
        self.coverage.messages_max = self.coverage.messages_max.max(messages);
        if messages > messages_max || out.len() > OUTPUTS_TO_ONE_MAX * n_hosts {
            self.fail(CHECK, format!("n{host} sent {messages} messages within a second"));
        }
    }
}
