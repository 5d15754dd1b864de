//! A command in a running container, in a process of its own: child of the agent, parent of the command.
//!
//! Its standard streams become the command's, and its exit code is the command's. The agent holds one end of a pipe with a
//! name (the leash) and never writes to it: when the agent lets go or dies, the command is killed with everything that it
//! started, which is found by its session.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, read};

use super::executor::{CANNOT_RUN, NOT_FOUND, Restricted};
use super::fault::Fault;
use super::inside::Root;
use super::user::User;
use super::{bundle, run, user};
use crate::cgroup::{Group, Tree};
use crate::process::Stat;
use crate::record::{self, Command, OCI_ID, Plan, State, VERSION, file};
use crate::seccomp::Filters;
use crate::sys;

/// How often a session is looked at until none of it is left, and the pause in between.
const KILL_ROUNDS: u32 = 200;
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// The whole life of the process; its exit code is the command's.
pub(super) fn run(dir: &Path) -> ExitCode {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let code = match prepare(dir).and_then(Prepared::run) {
        Ok(code) => code,
        Err(fault) => {
            // Standard error is still the command's, and whoever runs a command looks there.
            let (Ok(()) | Err(_)) = writeln!(io::stderr(), "mesh: {fault}");
            if matches!(fault, Fault::Invalid(_)) { NOT_FOUND } else { CANNOT_RUN }
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

struct Prepared {
    plan: Plan,
    group: Group,
    device_nodes: bool,
    process: PathBuf,
    leash: OwnedFd,
    terminal: bool,
}

fn prepare(dir: &Path) -> Result<Prepared, Fault> {
    let leash = open(
        &dir.join(file::LEASH),
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let leash = leash.map_err(|errno| Fault::host("take the leash", errno))?;
    if read(&leash, &mut [0]) == Ok(0) {
        return Err(Fault::Host("whoever wanted this command is gone".to_owned()));
    }
    let command: Command = required(dir, file::EXEC)?;
    let plan: Plan = required(&command.container, file::PLAN)?;
    let state: State = required(&command.container, file::STATE)?;
    if command.version != VERSION || plan.version > VERSION {
        return Err(Fault::Host(
            "the agent and the container are of different versions".to_owned(),
        ));
    }
    let program = &plan.program;
    // As the container sees it: with whatever it has mounted since.
    let root = Path::new("/proc").join(state.init.pid.to_string()).join("root");
    let inside = Root::open(&root).map_err(|error| Fault::host("open the root", error))?;
    let wanted = command.user.as_deref().unwrap_or(&program.user);
    let user = user::look_up(&inside, wanted).map_err(Fault::Invalid)?;
    let working_dir = command.working_dir.as_deref().unwrap_or(&program.working_dir);
    let mut env = crate::env::merge(&program.env, &command.env);
    if command.terminal {
        own_terminal(&user, &mut env).map_err(|errno| Fault::host("own the terminal", errno))?;
    }
    let name = command.args.first().map_or("", String::as_str);
    inside.find_program(name, working_dir, run::search_path(&env)).map_err(Fault::Invalid)?;
    let process = dir.join("process.json");
    let description = bundle::process(&command.args, &env, working_dir, &user);
    File::create(&process)
        .and_then(|mut file| file.write_all(description.to_string().as_bytes()))
        .map_err(|error| Fault::host("write the process", error))?;
    let tree = Tree::discover().map_err(|error| Fault::host("find the cgroups", error))?;
    let group = tree.group(&state.cgroup);
    Ok(Prepared {
        plan,
        group,
        device_nodes: !tree.is_unified(),
        process,
        leash,
        terminal: command.terminal,
    })
}

/// The terminal is the user's, as after a login, or it could not be opened by its name.
fn own_terminal(user: &User, env: &mut Vec<String>) -> nix::Result<()> {
    fchown(io::stdin(), Some(Uid::from_raw(user.uid)), None)?;
    if !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    Ok(())
}

fn required<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<T, Fault> {
    let found = record::read(dir, name).map_err(|error| Fault::host(name, error))?;
    found.ok_or_else(|| Fault::Host(format!("{name} is not there")))
}

impl Prepared {
    fn run(self) -> Result<i32, Fault> {
        let pid = self.start()?;
        let ended =
            sys::pidfd_open(pid).map_err(|error| Fault::host("watch the command", error))?;
        // The ends of the pipes are the command's alone from here on, or nobody would see it close them.
        let_go_of_streams().map_err(|error| Fault::host("let go of the streams", error))?;
        sys::trim_memory();
        loop {
            let flags = PollFlags::POLLIN;
            let mut fds =
                [PollFd::new(ended.as_fd(), flags), PollFd::new(self.leash.as_fd(), flags)];
            let polled = poll(&mut fds, PollTimeout::NONE);
            let [has_ended, let_go] = fds.map(|fd| fd.any().unwrap_or(false));
            if has_ended {
                break;
            }
            if let_go && polled.is_ok() {
                kill_session(&self.group, pid);
                break;
            }
        }
        Ok(sys::wait_for(pid).0)
    }

    fn start(&self) -> Result<u32, Fault> {
        let filters = Filters::compile(self.device_nodes)
            .map_err(|error| Fault::host("compile the system call filter", error))?;
        let streams = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .and_then(|stdin| Ok((stdin, io::stdout().as_fd().try_clone_to_owned()?)))
            .and_then(|both| Ok((both, io::stderr().as_fd().try_clone_to_owned()?)));
        let ((stdin, stdout), stderr) =
            streams.map_err(|error| Fault::host("copy the streams", error))?;
        let pid = ContainerBuilder::new(OCI_ID.to_owned(), SyscallType::default())
            .with_root_path(self.plan.run.join(file::OCI))
            .map_err(|error| Fault::host("find the container", error))?
            .with_executor(Restricted { filters, terminal: self.terminal })
            .with_stdin(stdin)
            .with_stdout(stdout)
            .with_stderr(stderr)
            .as_tenant()
            .with_process(Some(self.process.clone()))
            .with_detach(true)
            .build()
            .map_err(|error| Fault::Host(run::chain("join the container", &error)))?;
        u32::try_from(pid.as_raw()).map_err(|error| Fault::host("find the command", error))
    }
}

fn let_go_of_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Kills all processes of the container that belong to the session of `leader`.
fn kill_session(group: &Group, leader: u32) {
    for _round in 0..KILL_ROUNDS {
        let of_session =
            |pid: &u32| Stat::read(*pid).is_ok_and(|stat| stat.session == leader && !stat.ended);
        let left: Vec<u32> = group.processes().into_iter().filter(of_session).collect();
        if left.is_empty() {
            return;
        }
        for pid in left {
            if let Ok(pid) = i32::try_from(pid) {
                let (Ok(()) | Err(_)) = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        sys::pause(KILL_PAUSE);
    }
}
