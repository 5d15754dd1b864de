//! D1, D6, P2, P3: an exclusive slot never has two running containers, its tokens rise, and nobody lets go of what still runs.
//!
//! Operators here place one app on two sides of a split with services that are exclusive on one side only; what runs without a lease
//! because of that is not looked at.

use mesh_coordinator::lease::exclusive::Request;
use mesh_coordinator::message::Message;

use super::World;
use crate::sim::host::Process;
use crate::sim::queue::Key;

const UNFENCED: &str = "H6: nothing starts before its guard knows the deadline";
const TWO: &str = "D1: an exclusive slot never runs twice";
const BACK: &str = "P3: tokens rise with every holder";
const EARLY: &str = "D6: nobody lets go of what still runs";

impl World {
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
        let other = self.hosts.iter().enumerate().find_map(|(other, it)| {
            let runs = it.containers.iter().any(|(its, container)| {
                let itself = other == host && its == key;
                let runs = container.process == Process::Running && container.fence.is_some();
                its.0 == key.0 && !itself && runs
            });
            runs.then_some(other)
        });
        if let Some(other) = other {
            let token = fence.token;
            self.fail(
                TWO,
                format!("n{host} begins {key:?} by token {token}, and n{other} runs it"),
            );
        }
        let now = (fence.token, host);
        let last = self.checks.tokens.insert(key.0.clone(), now).unwrap_or(now);
        if last.0 > now.0 || (last.0 == now.0 && last.1 != host) {
            self.fail(BACK, format!("{now:?} after {last:?}: {key:?}"));
        }
    }

    /// Whoever releases a lease has nothing left that runs by it.
    pub(crate) fn check_let_go(&mut self, host: usize, message: &Message) {
        let Message::Ask { slot, request: Request::Release { token } } = message else { return };
        let runs = self.hosts[host]
            .containers
            .iter()
            .any(|((its, _), container)| its == slot && container.process == Process::Running);
        if runs {
            self.fail(EARLY, format!("n{host} releases {token} of {slot:?}, which runs"));
        }
    }
}
