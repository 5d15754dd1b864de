//! Killing all that is left of a container, and what becomes of what survives that.
//!
//! What runs by a lease counts as ended only when nothing of it is left, whoever asks and however its shim has ended. A process that
//! waits in the kernel for a disk or a mount is not: it is told of, its network is cut, and whoever wanted it gone asks again.

use std::time::Duration;

use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerError, ContainerId};

use super::{Driver, blocking, host};
use crate::cgroup::{Group, KILL_MAX};
use crate::shim::{cut, left};

/// How long what runs by a lease may survive being killed before it is cut off and told of: what the shortest lease leaves for it.
const LEASED_MAX: Duration = Duration::from_secs(1);

/// How long to wait for the cut: it takes milliseconds, unless the kernel is busy with its networks. Then it goes on by itself.
const CUT_MS_MAX: i32 = 1_000;

/// Kills all that is left of a container; fine when nothing is.
///
/// # Errors
/// When something is left nevertheless: [`ContainerError::Stuck`] of what runs by a lease.
pub(super) async fn clear<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Result<(), ContainerError> {
    let (group, place) = (driver.group(id), driver.place(id));
    let survives = blocking(move || {
        if !place.fence.exists() {
            return group.kill(KILL_MAX).map(|()| None);
        }
        match group.kill(LEASED_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                let groups = group.guarded().into_iter().map(Into::into).collect();
                let place = cut::Place { groups, network: Some(place.network()) };
                let network = cut::cut_off(place, CUT_MS_MAX);
                // Nothing is said of what has gone meanwhile.
                Ok(words(&group).map(|left| (left, network)))
            }
            other => other.map(|()| None),
        }
    });
    let survives = survives.await;
    match survives.map_err(|error| host(format!("kill the container {id}"), error))? {
        None => Ok(()),
        Some((left, network)) => Err(ContainerError::Stuck { id: id.clone(), left, network }),
    }
}

fn words(group: &Group) -> Option<String> {
    let pids = group.processes().into_iter().filter_map(|pid| i32::try_from(pid).ok());
    left::words(&pids.collect::<Vec<i32>>())
}
