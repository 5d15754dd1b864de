//! D1, D6, P2, P3: an exclusive slot never has two running containers, its tokens rise, and nobody lets go of what still runs.
//!
//! Operators here place one app on two sides of a split with services that are exclusive on one side only; what runs without a lease
//! because of that is not looked at.

use mesh_coordinator::lease::exclusive::{Fence, Request};
use mesh_coordinator::message::Message;

use super::World;
use crate::sim::host::{Container, Process};
use crate::sim::queue::Key;

const UNFENCED: &str = "H6: nothing starts before its guard knows the deadline";
const TWO: &str = "D1: an exclusive slot never runs twice";
const BACK: &str = "P3: tokens rise with every holder";
const EARLY: &str = "D6: nobody lets go of what still runs";

impl World {
    /// H6: an agent asks for a start. Whatever becomes of the agent, the guard knows when that is over, and there is time left.
    pub(crate) fn check_guarded(&mut self, host: usize, key: &Key) {
        let it = &self.hosts[host];
        let fence = it.containers.get(key).and_then(|container| container.fence);
        let is_over = |fence: Fence| it.clock.reading(self.now).may_be_past(fence.stop);
        let spec = self.definition(host, key);
        let is_exclusive = spec.is_some_and(|spec| spec.guarantee.is_exclusive());
        if is_exclusive && fence.is_none_or(is_over) {
            self.fail(UNFENCED, format!("n{host} starts {key:?} until {fence:?}"));
        }
    }

    /// A container has begun: is it the only one of its slot?
    pub(crate) fn check_alone(&mut self, host: usize, key: &Key) {
        let Some(fence) = self.hosts[host].containers.get(key).and_then(|it| it.fence) else {
            let spec = self.definition(host, key);
            if spec.is_some_and(|spec| spec.guarantee.is_exclusive()) {
                self.fail(UNFENCED, format!("n{host} begins {key:?} without a lease"));
            }
            return;
        };
        self.coverage.leased += 1;
        self.check_still_alone(host, key);
        let now = (fence.token, host);
        let last = self.checks.tokens.insert(key.0.clone(), now).unwrap_or(now);
        if last.0 > now.0 || (last.0 == now.0 && last.1 != host) {
            self.fail(BACK, format!("{now:?} after {last:?}: {key:?}"));
        }
    }

    /// A container runs by its lease: does no other one of its slot? Those of a sleeping host do nothing; and those that slept beyond their
    /// lease are on their way out.
    pub(crate) fn check_still_alone(&mut self, host: usize, key: &Key) {
        let now = self.now;
        let runs = |it: &&Container| {
            it.process == Process::Running && it.fence.is_some() && it.late_until < now
        };
        let itself = self.hosts[host].containers.get(key).filter(runs);
        let Some(fence) = itself.and_then(|it| it.fence) else { return };
        let awake = self.hosts.iter().enumerate().filter(|(_, it)| it.asleep.is_none());
        let mut others =
            awake.flat_map(|(other, it)| it.containers.iter().map(move |it| (other, it)));
        let other = others.find(|(other, (its, container))| {
            let is_itself = *other == host && *its == key;
            its.0 == key.0 && !is_itself && runs(container)
        });
        if let Some((other, _)) = other {
            let token = fence.token;
            let text = format!("n{host} runs {key:?} by token {token}, and n{other} runs it");
            self.fail(TWO, text);
        }
    }

    /// Whoever releases a lease has nothing left that runs by it.
    pub(crate) fn check_let_go(&mut self, host: usize, message: &Message) {
        let Message::Ask(requests) = message else { return };
        for (lease, request) in requests {
            let Request::Release { token } = request else { continue };
            let runs = self.hosts[host].containers.iter().any(|((its, _), container)| {
                *its == lease.slot && container.process == Process::Running
            });
            if runs {
                self.fail(EARLY, format!("n{host} releases {token} of {lease:?}, which runs"));
            }
        }
    }
}
