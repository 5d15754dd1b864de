//! How often a process made the disk write what it had been told: strace counts the calls, from outside and of all threads.
//!
//! Each call of the traced process takes longer meanwhile, so that times are not measured in the same minute.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, PATIENCE, process, until};

/// The calls that return when something is on the disk.
const CALLS: &str = "fsync,fdatasync,msync,sync_file_range,sync,syncfs";

/// Somebody who counts the flushes of a host's agent.
#[derive(Debug)]
pub(super) struct Flushes {
    tracer: Option<Child>,
    out: PathBuf,
}

impl Flushes {
    /// Begins to count.
    ///
    /// # Errors
    /// When there is no strace, or it may not look at the agent.
    pub(super) fn of(lab: &Lab, host: usize) -> Result<Self> {
        let pid = lab.host(host)?.agent_pid()?;
        let out = lab.dir().join(format!("desk/flushes-{host}"));
        let mut command = Command::new("strace");
        command
            .args(["--quiet=attach", "-f", "-c", "-U", "calls,name", "-e", "signal=none"])
            .args(["-e", &format!("trace={CALLS}"), "-o"])
            .arg(&out)
            .args(["-p", &pid.to_string()])
            .env(process::DIR_VARIABLE, format!("{}/", lab.dir().display()))
            .stdin(Stdio::null());
        let tracer = command.spawn().context("cannot run strace (apt-get install strace)")?;
        let counts = Self { tracer: Some(tracer), out };
        until(PATIENCE, "strace looks at the agent", || {
            let status = process::read(pid, "status");
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            Ok(tracer.is_some_and(|pid| pid.trim() != "0"))
        })?;
        Ok(counts)
    }

    /// Counts no more: how often each call was made.
    ///
    /// # Errors
    /// When strace cannot be ended or has not said.
    pub(super) fn counted(mut self) -> Result<BTreeMap<String, u64>> {
        self.end()?;
        let told = fs::read_to_string(&self.out).context("strace has said nothing")?;
        let counts = told.lines().filter_map(|line| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        });
        Ok(counts.filter(|(name, _)| name != "total").collect())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut tracer) = self.tracer.take() else { return Ok(()) };
        // It lets go of what it looks at, and says what it has counted.
        kill(Pid::from_raw(i32::try_from(tracer.id())?), Signal::SIGINT)?;
        let status = tracer.wait()?;
        ensure!(self.out.is_file(), "strace: {status}");
        Ok(())
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.end();
    }
}
