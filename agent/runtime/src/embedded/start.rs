//! From the port's container to a shim that says it runs.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Stdio;

use mesh_coordinator::lease::exclusive::Fence;
use mesh_ports::clock::LeaseClock as _;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{
    Container, ContainerError, ContainerId, ImageError, Running, StartError,
};
use mesh_telemetry::Chain;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tracing::{info, warn};

use super::clear::clear;
use super::place::{Place, Status, name_fault};
use super::{Driver, adopt, blocking, end, fence, guard};
use crate::env;
use crate::image::{self, Rootfs};
use crate::record::{
    self, Answer, Fenced, Plan, Program, Record, State, StoredLimits, StoredTag, VERSION, file,
};

/// More than an answer ever is.
const ANSWER_LEN_MAX: u64 = 64 * 1024;

/// Where programs are looked for when the image says nothing, as with Docker.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which variable tells a workload its fencing token.
const TOKEN: &str = "MESH_FENCING_TOKEN";

pub(super) async fn start<N: ContainerNetwork>(
    driver: &Driver<N>,
    container: &Container,
) -> Result<Running, StartError> {
    let id = &container.id;
    if let Some(reason) = name_fault(id) {
        return Err(StartError::Invalid { reason });
    }
    let lapsed = |fence: &Fence| StartError::Lapsed { id: id.clone(), token: fence.token };
    if let Some(fence) = &container.fence
        && fence::is_past(fence, driver.inner.clock.reading())
    {
        return Err(lapsed(fence));
    }
    let slot = driver.slot(id);
    let _operation = slot.operation.lock().await;
    let status = driver.status(id).await;
    let is_new =
        match status.map_err(|error| fault(format!("look at the container {id}"), error))? {
            Status::Running(state) => return again(driver, container, &state).await,
            Status::Lost => {
                adopt::end_lost(driver, id).await.map_err(|error| unfinished(id, error))?;
                false
            }
            Status::Absent => true,
            Status::Ended(_) => {
                // What had a lease and survives may be cut off, and must not be connected again.
                if driver.place(id).fence.exists() {
                    clear(driver, id).await.map_err(|error| unfinished(id, error))?;
                }
                false
            }
        };
    // Whoever starts it again knows that the run before has ended: its watcher has nothing more to tell.
    slot.ask();
    let started = make_and_run(driver, container).await;
    match &started {
        Ok(state) => {
            info!(container = %id, pid = state.init.pid, name = container.tag.name, "started");
            adopt::watch(driver, id, state);
        }
        Err(_) => {
            if end::unanswered(driver, id).await {
                forget_fence(driver, id).await;
            }
            if is_new {
                undo(driver, id).await;
            }
        }
    }
    started.map(|state| state.running())
}

fn unfinished(id: &ContainerId, error: ContainerError) -> StartError {
    fault(format!("end what an earlier run of {id} left"), error)
}

/// What is running already is what was wanted, if it runs by the same lease.
async fn again<N: ContainerNetwork>(
    driver: &Driver<N>,
    container: &Container,
    state: &State,
) -> Result<Running, StartError> {
    let Some(wanted) = container.fence else { return Ok(state.running()) };
    let id = &container.id;
    match fence::extend(driver, id, wanted).await {
        Ok(()) => Ok(state.running()),
        Err(ContainerError::Fence { id, token }) => Err(StartError::OtherLease { id, token }),
        Err(error) => Err(fault(format!("extend the lease of {id}"), error)),
    }
}

/// Tells the guards of a run before anything of it is there, and sees to it that there are some; and takes away what those of an
/// earlier run were told.
async fn fence<N: ContainerNetwork>(
    driver: &Driver<N>,
    container: &Container,
    place: &Place,
) -> Result<Option<Fenced>, StartError> {
    let (id, path) = (&container.id, place.fence.clone());
    let Some(fence) = container.fence else {
        let forgotten = blocking(move || fence::forget(&path)).await;
        return forgotten.map(|()| None).map_err(|error| fault(format!("release {id}"), error));
    };
    let (dir, group, boot) =
        (fence::dir(&driver.inner.config.run), driver.group(id), driver.boot());
    let (attempt, own) = (|| format!("guard the container {id}"), place.clone());
    blocking(move || {
        make_private(&dir)?;
        fence::make(&own, &fence, &group, boot)
    })
    .await
    .map_err(|error| fault(attempt(), error))?;
    guard::ensure(driver).await.map_err(|error| fault(attempt(), error))?;
    Ok(Some(Fenced {
        file: place.fence.clone(),
        lease: place.lease(),
        signal: container.template.stop_signal.number(),
    }))
}

async fn make_and_run<N: ContainerNetwork>(
    driver: &Driver<N>,
    container: &Container,
) -> Result<State, StartError> {
    let id = &container.id;
    let rootfs = rootfs(driver, container).await?;
    let program = program(container, &rootfs.config)?;
    let place = driver.place(id);
    let record = Record { version: VERSION, tag: StoredTag::of(&container.tag) };
    let made = place.clone();
    blocking(move || {
        make_private(&made.dir)?;
        make_private(&made.run)?;
        record::write_durably(&made.dir, file::RECORD, &record)
    })
    .await
    .map_err(|error| fault(format!("make the directories of {id}"), error))?;

    let fence = fence(driver, container, &place).await?;
    let namespace = place.network();
    let address = driver
        .inner
        .network
        .attach(&id.0, &namespace, &container.ports)
        .await
        .map_err(|error| fault(format!("connect the container {id}"), error))?;
    let limits = container.template.limits;
    let plan = Plan {
        version: VERSION,
        run: place.run.clone(),
        network: namespace,
        address,
        layers: rootfs.layers,
        program,
        hostname: container.hostname.clone(),
        nameservers: driver.inner.config.nameservers.clone(),
        cgroup_parent: driver.inner.cgroup_parent.clone(),
        cgroup: driver.cgroup(id),
        limits: StoredLimits {
            cpu_millis: limits.cpu.map(|cpu| cpu.millis),
            memory_bytes: limits.memory.map(|bytes| bytes.0),
            pids: limits.pids,
        },
        log: driver.inner.config.log,
        keeper: driver.inner.keeper.clone(),
        fence,
    };
    let dir = place.dir.clone();
    blocking(move || record::write(&dir, file::PLAN, &plan))
        .await
        .map_err(|error| fault(format!("write the plan of {id}"), error))?;
    let _cgroups = driver.inner.cgroups.read().await;
    run_shim(driver, container, &place).await
}

async fn rootfs<N: ContainerNetwork>(
    driver: &Driver<N>,
    container: &Container,
) -> Result<Rootfs, StartError> {
    let images = std::sync::Arc::clone(&driver.inner.images);
    let image = &container.template.image;
    let digest = image.digest.clone();
    let found = tokio::task::spawn_blocking(move || images.rootfs_of(&digest)).await;
    let attempt = || format!("unpack the image {}", image.name);
    match found.map_err(|error| fault(attempt(), error))? {
        Ok(rootfs) => Ok(rootfs),
        Err(ImageError::Missing(_)) => Err(StartError::ImageMissing(image.digest.clone())),
        Err(error @ (ImageError::Invalid { .. } | ImageError::Digest { .. })) => {
            Err(StartError::Invalid { reason: format!("{}: {error}", attempt()) })
        }
        Err(error @ ImageError::Host { .. }) => Err(fault(attempt(), error)),
    }
}

async fn run_shim<N: ContainerNetwork>(
    driver: &Driver<N>,
    container: &Container,
    place: &Place,
) -> Result<State, StartError> {
    let id = &container.id;
    let attempt = || format!("start the shim of {id}");
    let answer = tokio::time::timeout(driver.inner.config.start_max, ask_shim(driver, place)).await;
    let answer = answer.map_err(|late| fault(attempt(), late))?;
    match answer.map_err(|error| fault(attempt(), error))? {
        Answer::Started(state) => Ok(state),
        Answer::Invalid(reason) => Err(StartError::Invalid { reason }),
        Answer::Host(reason) => {
            Err(fault(format!("run the container {id}"), io::Error::other(reason)))
        }
        Answer::Lapsed => {
            let token = container.fence.map(|fence| fence.token).unwrap_or_default();
            Err(StartError::Lapsed { id: id.clone(), token })
        }
    }
}

async fn ask_shim<N: ContainerNetwork>(driver: &Driver<N>, place: &Place) -> io::Result<Answer> {
    let mut child = shim_command(&driver.inner.config.shim, &place.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(place.dir.join(file::SHIM_LOG))?)
        .spawn()?;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_LEN_MAX).read_to_end(&mut answer).await?;
    }
    // It forked, and this half of it has ended long ago.
    let status = child.wait().await?;
    serde_json::from_slice(&answer).map_err(|error| {
        let said = String::from_utf8_lossy(&answer);
        let log = fs::read_to_string(place.dir.join(file::SHIM_LOG)).unwrap_or_default();
        let log = log.trim();
        io::Error::other(format!("the shim ({status}) answered {said:?} ({error}): {log}"))
    })
}

/// What a failed start told the guards is over with it; what it left nevertheless stays guarded, see `keeper/host.rs`.
async fn forget_fence<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId) {
    let path = driver.place(id).fence;
    if let Err(error) = blocking(move || fence::forget(&path)).await {
        warn!(container = %id, error = %Chain(&error), "the fence of a failed start stays");
    }
}

/// Removes what a start made that failed.
async fn undo<N: ContainerNetwork>(driver: &Driver<N>, id: &ContainerId) {
    if let Err(error) = end::remove_files(driver, id).await {
        warn!(container = %id, %error, "what a failed start made cannot be removed");
    }
}

/// The command that leads to `shim_main` for `dir`. The agent's environment stays here: it may hold secrets.
pub(super) fn shim_command(prefix: &[std::ffi::OsString], dir: &Path) -> Command {
    let mut words = prefix.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words).arg(dir).env_clear().process_group(0);
    command
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn fault(
    attempt: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StartError {
    StartError::Host { attempt, source: source.into() }
}

/// What to run, from the image and what the template changes of it.
fn program(container: &Container, image: &image::Config) -> Result<Program, StartError> {
    let template = &container.template;
    let mut args = template.entrypoint.clone().unwrap_or_else(|| image.entrypoint.clone());
    match (&template.command, &template.entrypoint) {
        (Some(command), _) => args.extend(command.iter().cloned()),
        (None, None) => args.extend(image.cmd.iter().cloned()),
        (None, Some(_)) => {}
    }
    if args.first().is_none_or(String::is_empty) {
        let reason = "neither the image nor the service says which program to run".to_owned();
        return Err(StartError::Invalid { reason });
    }
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let defaults = vec![PATH.to_owned(), format!("HOSTNAME={}", container.hostname)];
    let env = env::merge(&defaults, &image.env);
    let env = env::merge(&env, &pairs(&template.environment));
    let env = env::merge(&env, &pairs(&container.environment));
    let token = container.fence.map(|fence| format!("{TOKEN}={}", fence.token));
    let env = env::merge(&env, token.as_slice());
    let with_nul = args.iter().chain(&env).any(|text| text.contains('\0'));
    if with_nul {
        let reason = "an argument or a variable holds a NUL character".to_owned();
        return Err(StartError::Invalid { reason });
    }
    let working_dir = template.working_dir.clone().or_else(|| image.working_dir.clone());
    let working_dir = working_dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned());
    if !working_dir.starts_with('/') {
        let reason = format!("the working directory {working_dir:?} is not absolute");
        return Err(StartError::Invalid { reason });
    }
    let user = template.user.clone().or_else(|| image.user.clone()).unwrap_or_default();
    Ok(Program { args, env, working_dir, user })
}

#[cfg(test)]
mod tests;
