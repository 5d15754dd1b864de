//! From a plan to a running program.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdout, pipe2, setsid};

use super::executor::Restricted;
use super::fault::Fault;
use super::inside::Root;
use super::keeper::guard::Guard;
use super::{bundle, rootfs, socket, user};
use crate::capacity;
use crate::cgroup::{Group, KILL_MAX, SHIMS, Tree};
use crate::process::{Process, boot_id};
use crate::record::{self, Answer, OCI_ID, Plan, State, VERSION, file};
use crate::seccomp::Filters;
use crate::sys;

/// How long a former shim of the same container may take to go away after it has said how its run ended.
const LOCK_ROUNDS: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How readily the kernel kills this process for want of memory.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// A running container.
pub(super) struct Run {
    pub(super) state: State,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Held as long as this shim lives: one shim per container.
    pub(super) lock: File,
    /// Where it runs by a lease.
    pub(super) guard: Option<Guard>,
}

/// Makes and starts the container. When it fails, no process is left.
pub(super) fn start(dir: &Path, plan: &Plan) -> Result<Run, Fault> {
    // Fails only for the leader of a group, which a forked child is not.
    let (Ok(_) | Err(_)) = setsid();
    // Containers are given Docker's, and what is made for them is readable by whoever runs in them, however strict the unit is.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let lock = lock(dir)?;
    // Only now: until the lock was ours, they may have been those of a run that another agent started.
    record::forget(dir, file::STATE)
        .and_then(|()| record::forget(dir, file::EXIT))
        .map_err(|error| Fault::host("forget the run before", error))?;
    let tree = Tree::discover().map_err(|error| Fault::host("find the cgroups", error))?;
    tree.prepare(&plan.cgroup_parent)
        .and_then(|()| tree.enter(&format!("{}/{SHIMS}", plan.cgroup_parent)))
        .map_err(|error| Fault::host("leave the agent's cgroup", error))?;

    let parent = tree.group(&plan.cgroup_parent);
    if let Err(error) = parent.bound(capacity::ceiling(&parent)) {
        // Each container still has its own limits, and the agent goes last when memory is short. The next start tries again.
        let (Ok(()) | Err(_)) =
            writeln!(io::stderr(), "all containers together are not limited: {error}");
    }
    let group = tree.group(&plan.cgroup);
    // What a shim left that was killed before it could say what it had started.
    group
        .kill(KILL_MAX)
        .and_then(|()| group.remove())
        .map_err(|error| Fault::host("end what an earlier run left", error))?;
    let mut guard = guard(plan)?;
    let root = rootfs::mount_root(dir, plan)?;
    rootfs::write_names(dir, plan)?;
    let host = bundle::Host { unified: tree.is_unified(), limits_swap: parent.limits_swap() };
    let process = process(&root, plan)?;
    let spec = bundle::spec(dir, &root, plan, &host, &process);
    let bundle = plan.run.join(file::BUNDLE);
    bundle::write(&bundle, &spec).map_err(|error| Fault::host("write the bundle", error))?;

    let started = build(dir, plan, &bundle, !tree.is_unified()).and_then(|built| {
        if let Some(guard) = &mut guard {
            enforce(guard, &group, built.state.init.pid)?;
        }
        built.start()
    });
    if started.is_err() {
        // What started it is told; that something is left would be told by the next start.
        let (Ok(()) | Err(_)) = group.kill(KILL_MAX);
        let (Ok(()) | Err(_)) = group.remove();
    }
    let (state, stdout, stderr) = started?;
    Ok(Run { state, stdout, stderr, lock, guard })
}

/// The guard of a run by a lease, with what the workload is told of it. Nothing of the run is there yet.
fn guard(plan: &Plan) -> Result<Option<Guard>, Fault> {
    let Some(fence) = &plan.fence else { return Ok(None) };
    let made = fs::create_dir_all(&fence.lease)
        .and_then(|()| fs::set_permissions(&fence.lease, fs::Permissions::from_mode(0o755)))
        .and_then(|()| Ok((File::open(&fence.file)?, socket::listen(&fence.lease)?)))
        .and_then(|(file, socket)| {
            Guard::open(file, i32::from(fence.signal), fence.lease.clone(), socket)
        });
    let mut guard = made.map_err(|error| Fault::host("guard the lease", error))?;
    guard.tell();
    Ok(Some(guard))
}

/// The last look before the program runs: whatever kept this process waiting, nothing begins whose time is over. From here on it
/// is killed in time, by the host guard if this process stands still before it is the guard.
fn enforce(guard: &mut Guard, group: &Group, init: u32) -> Result<(), Fault> {
    if let Err(error) = group.join_unified(init) {
        // The other way to kill it is enough.
        let (Ok(()) | Err(_)) = writeln!(io::stderr(), "no group of version 2: {error}");
    }
    if guard.is_open() { Ok(()) } else { Err(Fault::Lapsed) }
}

/// Waits until this is the only shim of the container. A lock of the POSIX kind, because it is the process's own: a child that
/// was cloned from a former shim, and waits for its word for ever, does not hold it.
fn lock(dir: &Path) -> Result<File, Fault> {
    let path = dir.join(file::LOCK);
    let file = File::create(path).map_err(|error| Fault::host("open the lock", error))?;
    for _round in 0..LOCK_ROUNDS {
        if sys::lock(&file).is_ok() {
            return Ok(file);
        }
        sys::pause(LOCK_PAUSE);
    }
    Err(Fault::Host("another shim still runs this container".to_owned()))
}

fn process(root: &Path, plan: &Plan) -> Result<serde_json::Value, Fault> {
    let inside = Root::open(root).map_err(|error| Fault::host("open the root", error))?;
    let program = &plan.program;
    let user = user::look_up(&inside, &program.user).map_err(Fault::Invalid)?;
    inside
        .make_dir(&program.working_dir)
        .map_err(|reason| Fault::Invalid(format!("cannot make the working directory {reason}")))?;
    let name = program.args.first().map_or("", String::as_str);
    inside
        .find_program(name, &program.working_dir, search_path(&program.env))
        .map_err(Fault::Invalid)?;
    Ok(bundle::process(&program.args, &program.env, &program.working_dir, &user))
}

/// The value of `PATH`.
pub(super) fn search_path(env: &[String]) -> &str {
    env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("")
}

/// A container whose program waits to be run.
struct Built {
    container: Container,
    state: State,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Built {
    fn start(mut self) -> Result<(State, OwnedFd, OwnedFd), Fault> {
        let started = self.container.start();
        started.map_err(|error| Fault::Host(chain("start the program", &error)))?;
        // Whoever ends sessions and terminals has no business with a shim. Not before the start: what is ignored is inherited.
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
            let (Ok(()) | Err(_)) = sys::set_ignored(signal, true);
        }
        Ok((self.state, self.stdout, self.stderr))
    }
}

fn build(dir: &Path, plan: &Plan, bundle: &Path, device_nodes: bool) -> Result<Built, Fault> {
    let filters = Filters::compile(device_nodes)
        .map_err(|error| Fault::host("compile the system call filter", error))?;
    let oci = fresh_dir(&plan.run.join(file::OCI));
    let null = File::open("/dev/null");
    let pipes = pipe2(OFlag::O_CLOEXEC).and_then(|out| Ok((out, pipe2(OFlag::O_CLOEXEC)?)));
    let (oci, null, (out, err)) = match (oci, null, pipes) {
        (Ok(oci), Ok(null), Ok(pipes)) => (oci, null, pipes),
        (Err(error), _, _) | (_, Err(error), _) => {
            return Err(Fault::host("prepare the container", error));
        }
        (_, _, Err(errno)) => return Err(Fault::host("open pipes", errno)),
    };
    let oom_score = fs::read_to_string(OOM_SCORE).unwrap_or_default();
    let container = ContainerBuilder::new(OCI_ID.to_owned(), SyscallType::default())
        .with_root_path(oci)
        .map_err(|error| Fault::host("prepare the container", error))?
        .with_executor(Restricted { filters, terminal: false })
        .with_stdin(null)
        .with_stdout(out.1)
        .with_stderr(err.1)
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|error| Fault::Host(chain("make the container", &error)))?;
    // The builder has set the container's on this process too, which is to be as safe as the agent.
    let (Ok(()) | Err(_)) = fs::write(OOM_SCORE, oom_score.trim());
    let init = container.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok());
    let init = init.ok_or_else(|| Fault::Host("the container has no process".to_owned()))?;
    let state = state(plan, init).map_err(|error| Fault::host("look at the process", error))?;
    record::write(dir, file::STATE, &state)
        .map_err(|error| Fault::host("write the state", error))?;
    Ok(Built { container, state, stdout: out.0, stderr: err.0 })
}

fn fresh_dir(dir: &Path) -> io::Result<std::path::PathBuf> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(dir)?;
    Ok(dir.to_path_buf())
}

fn state(plan: &Plan, init: u32) -> io::Result<State> {
    Ok(State {
        version: VERSION,
        boot: boot_id()?,
        shim: Process::of(std::process::id())?,
        init: Process::of(init)?,
        started_ms: record::now_ms(),
        address: plan.address,
        cgroup: plan.cgroup.clone(),
    })
}

/// An error of libcontainer with its causes, each once: some of them repeat theirs.
pub(super) fn chain(attempt: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{attempt}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// Answers the driver and lets go of its pipe.
pub(super) fn answer(answer: &Answer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    // An agent that died in between finds the state on disk.
    let (Ok(()) | Err(_)) = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let (Ok(()) | Err(_)) = dup2_stdout(null);
    }
}
