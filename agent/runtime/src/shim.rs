//! The process that owns one container and outlives the agent.
//!
//! ```text
//! agent ── agent shim <dir> ── fork ── shim ── libcontainer ── the container's first process
//!    │  reads one line ◀── answer ──────┤  ▲ two pipes: its output
//!    └─ pidfd: has it ended? ──────────▶│  └ pidfd: has it ended?
//!                                       └─ log/output.log (see `keeper.rs`), then exit.json, then the end
//! ```
//!
//! The shim is the agent's own program started again, because libcontainer clones its caller, which is undefined with more than
//! one thread: here there is one, and neither tokio nor a tracing subscriber (whose lines would land in the container's standard
//! error). It takes no requests. To stop a container its processes are signalled; when the shim itself is killed, the kernel
//! kills the container's first process with it (`PR_SET_PDEATHSIG`), so no container runs without its shim.
//!
//! A container that runs by a lease has its shim as a guard: it reads the fence that the agent has written, asks the container to
//! stop and kills it, with the agent alive or not. The guard of the host, see [`host`], does the same where a shim cannot.
//!
//! A directory with an `exec.json` is a command to run in a container, see [`exec`].

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use self::fault::Fault;
use crate::record::{self, Answer, Plan, VERSION, file};
use crate::sys::{self, Side};

mod bundle;
mod exec;
mod executor;
mod fault;
mod host;
mod inside;
mod keeper;
mod program;
mod rootfs;
mod run;
mod socket;
mod supervise;
mod user;

pub(crate) use self::host::{HOST, LOCK};
pub(crate) use self::inside::Root;
pub(crate) use self::keeper::beat::{BEAT_LEN, Beat};
pub(crate) use self::keeper::fence::{
    END_AT, FENCES_LEN, Held, Moment, SLOTS_AT, Told, fences, page,
};
pub(crate) use self::keeper::guard::boot;
pub(crate) use self::keeper::host::{BEAT, EXTENSION};
pub(crate) use self::keeper::lease;
pub(crate) use self::keeper::sys::now;
pub(crate) use self::keeper::{cut, left};
pub(crate) use self::keeper::{dropped, path as log_path};
pub(crate) use self::program::install;
pub(crate) use self::rootfs::unmount;

/// The whole life of `agent shim <dir>`; call it first in `main`, while the process has one thread.
#[must_use]
pub fn shim_main(dir: &Path) -> ExitCode {
    // Before anything is closed: what is open holds the lock of the container that has just ended.
    if std::env::var_os(keeper::ENDED).is_some() {
        return code(
            read_plan(dir).map_err(io::Error::other).and_then(|plan| supervise::end(dir, &plan)),
        );
    }
    sys::close_inherited();
    if let Some(told) = std::env::var_os(HOST) {
        return host::run(dir, &told);
    }
    if dir.join(file::EXEC).exists() {
        return exec::run(dir);
    }
    // The parent ends at once, so that whoever called never has to wait for the shim.
    match sys::fork_single_threaded() {
        Ok(Side::Parent) => ExitCode::SUCCESS,
        Ok(Side::Child) => shim(dir),
        Err(error) => {
            run::answer(&Answer::Host(format!("fork: {error}")));
            ExitCode::FAILURE
        }
    }
}

fn shim(dir: &Path) -> ExitCode {
    let started = read_plan(dir).and_then(|plan| {
        let run = run::start(dir, &plan)?;
        Ok((plan, run))
    });
    let (plan, run) = match started {
        Ok(started) => started,
        Err(fault) => {
            run::answer(&fault.into_answer());
            return ExitCode::FAILURE;
        }
    };
    run::answer(&Answer::Started(run.state.clone()));
    code(supervise::to_the_end(dir, &plan, run))
}

/// Nobody waits for it: what went wrong is in the shim's log.
fn code(outcome: io::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let (Ok(()) | Err(_)) = writeln!(io::stderr(), "{error}");
    ExitCode::FAILURE
}

fn read_plan(dir: &Path) -> Result<Plan, Fault> {
    let plan: Option<Plan> =
        record::read(dir, file::PLAN).map_err(|error| Fault::host("read the plan", error))?;
    let plan = plan.ok_or_else(|| Fault::Host("there is no plan".to_owned()))?;
    if plan.version == VERSION {
        Ok(plan)
    } else {
        Err(Fault::Host(format!("the plan has version {}, not {VERSION}", plan.version)))
    }
}
