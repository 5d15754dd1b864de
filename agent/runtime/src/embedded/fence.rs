//! What guards are told: the files of runs by a lease, see `shim/keeper/fence.rs` for what is in them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh_coordinator::lease::exclusive::{Fence, Token};
use mesh_coordinator::time::Reading;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerError, ContainerId};

use super::place::{Place, Status};
use super::{Driver, blocking, guard, host};
use crate::cgroup::Group;
use crate::shim::lease::{self, Line, State};
use crate::shim::{self, END_AT, EXTENSION, FENCES_LEN, Held, Moment, SLOTS_AT, Told};

/// The files of a node's runs. No container can be called like this.
const DIR: &str = ".fences";

/// One writer at a time: two at once could tear both of what a guard reads.
static WRITER: Mutex<()> = Mutex::new(());

/// Where a driver has them.
pub(super) fn dir(run: &Path) -> PathBuf {
    run.join(DIR)
}

/// Where one of them is.
pub(super) fn file(run: &Path, id: &ContainerId) -> PathBuf {
    dir(run).join(format!("{id}.{EXTENSION}"))
}

/// How a renewal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// The guard reads it at its next wake, or knows better already.
    Told,
    /// There is no such lease, or none any more.
    Refused,
}

/// Whether there is no time left to run in.
pub(super) fn is_past(fence: &Fence, now: Reading) -> bool {
    now.may_be_past(fence.stop) || now.may_be_past(fence.kill)
}

/// Makes the file of a run that is about to begin: whole, or not at all.
pub(super) fn make(place: &Place, fence: &Fence, group: &Group, boot: u128) -> io::Result<()> {
    let text = |path: &Path| path.to_str().map(str::to_owned);
    let groups: Option<Vec<String>> = group.guarded().into_iter().map(text).collect();
    let network = place.network();
    let texts = groups.zip(network.to_str());
    let page = texts
        .and_then(|(groups, network)| shim::page(&told(fence, boot), &groups.join("\n"), network));
    let page = page.ok_or_else(|| io::Error::other("the names of its groups are too long"))?;
    let temporary = place.fence.with_extension("new");
    fs::write(&temporary, page)?;
    fs::rename(temporary, &place.fence)
}

/// What the guard of a run was told last; `None` when there is none, or of another boot.
pub(super) fn read(path: &Path, boot: u128) -> io::Result<Option<Fence>> {
    match File::open(path) {
        Ok(file) => Ok(last(&file, boot)?.map(|told| fence(&told))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn last(file: &File, boot: u128) -> io::Result<Option<Told>> {
    let mut bytes = [0; FENCES_LEN];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Held::begin(shim::fences(&bytes), boot).map(|held| held.told()))
}

/// Removes the file of a run of which nothing is left; fine when there is none.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn renew(path: &Path, fence: &Fence, boot: u128, now: Moment) -> io::Result<Renewal> {
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Renewal::Refused),
        Err(error) => return Err(error),
    };
    let (later, last) = (told(fence, boot), last(&file, boot)?);
    let Some(last) = last.filter(|last| last.token == later.token && !now.may_be_past(last.kill))
    else {
        return Ok(Renewal::Refused);
    };
    if last == later || !later.renews(&last) {
        return Ok(Renewal::Told);
    }
    let mut bytes = [0; FENCES_LEN];
    file.read_exact_at(&mut bytes, 0)?;
    // In the place of the other one: until this one is whole, the last one holds.
    let mut places = SLOTS_AT.into_iter().zip(shim::fences(&bytes));
    let place = places.find(|(_, there)| *there != Some(last)).map_or(0, |(at, _)| at);
    let offset = u64::try_from(place).map_err(io::Error::other)?;
    file.write_all_at(&later.encode(), offset)?;
    Ok(Renewal::Told)
}

/// Tells the guard and the workload that it ends, since it is asked to by somebody else than its guard.
pub(super) fn tell_of_end(place: &Place, boot: u128) -> io::Result<()> {
    match end(&place.fence, boot)? {
        // The file now, whenever the guard looks: the signal comes next.
        Some(told) => {
            lease::tell(&place.lease(), &Line { told, state: State::Ending, now: shim::now() })
        }
        None => Ok(()),
    }
}

/// Writes that a run ends; returns what its guard was told last, and `None` when it has no lease.
fn end(path: &Path, boot: u128) -> io::Result<Option<Told>> {
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(told) = last(&file, boot)? else { return Ok(None) };
    file.write_all_at(&told.encode_end(), u64::try_from(END_AT).map_err(io::Error::other)?)?;
    Ok(Some(told))
}

pub(super) async fn extend<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    fence: Fence,
) -> Result<(), ContainerError> {
    let attempt = || format!("extend the lease of {id}");
    let status = driver.status(id).await;
    match status.map_err(|error| host(attempt(), error))? {
        Status::Running(_) => {}
        Status::Absent => return Err(ContainerError::Unknown(id.clone())),
        Status::Ended(_) | Status::Lost => return Err(ContainerError::NotRunning(id.clone())),
    }
    let (path, boot) = (driver.place(id).fence, driver.boot());
    let renewed = blocking(move || renew(&path, &fence, boot, shim::now())).await;
    guard::look_after(driver);
    match renewed.map_err(|error| host(attempt(), error))? {
        Renewal::Told => Ok(()),
        Renewal::Refused => Err(ContainerError::Fence { id: id.clone(), token: fence.token }),
    }
}

fn told(fence: &Fence, boot: u128) -> Told {
    let Fence { token, stop, kill } = *fence;
    Told { boot, token: token.0, stop: moment(stop), kill: moment(kill) }
}

fn fence(told: &Told) -> Fence {
    let Told { boot: _, token, stop, kill } = *told;
    Fence { token: Token(token), stop: reading(stop), kill: reading(kill) }
}

fn moment(reading: Reading) -> Moment {
    // Rounded to what is never later; centuries do not matter.
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Moment { boot: nanos(reading.boot()), raw: nanos(reading.raw()) }
}

const fn reading(moment: Moment) -> Reading {
    Reading::new(Duration::from_nanos(moment.boot), Duration::from_nanos(moment.raw))
}

#[cfg(test)]
mod tests;
