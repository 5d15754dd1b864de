//! One host: its namespace, its disk, its agent.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{self, Container};
use super::shell::PATH;
use super::{Programs, clean, shell};

/// The lines of a log that are shown when an agent does not start.
const LOG_LINES: usize = 15;

/// A host of a lab.
#[derive(Debug)]
pub struct Host {
    number: usize,
    dir: PathBuf,
    namespace: String,
    child: Option<Child>,
    /// Settings of the agent beyond the usual ones.
    pub settings: BTreeMap<String, String>,
}

impl Host {
    pub(super) fn new(
        lab: &Path,
        number: usize,
        namespace: &str,
        programs: &Programs,
    ) -> Result<Self> {
        let dir = lab.join(number.to_string());
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let host = Self {
            number,
            namespace: namespace.to_owned(),
            child: None,
            settings: BTreeMap::new(),
            dir,
        };
        install(&programs.path("agent"), &host.program(), &[])?;
        Ok(host)
    }

    /// Its name in the mesh.
    #[must_use]
    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    /// Its number, which is also the end of its address.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// The agent's file, of this host alone so that it can be replaced.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.dir.join("bin/agent")
    }

    /// What the agent wrote.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The agent as it is started on this host; `nsenter` becomes the agent, so its process is the agent's.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(self.program()).args(args);
        let address = format!("10.77.0.{}", self.number);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("MESH_DATA_DIR", self.data())
            .env("MESH_RUN_DIR", self.run_dir())
            .env("MESH_CONFIG", self.dir.join("agent.toml"))
            .env("MESH_ADVERTISE", address)
            .env("MESH_CPU", "2")
            .env("MESH_MEMORY", (1_u64 << 30).to_string())
            .env("HOME", &self.dir)
            .envs(&self.settings)
            .stdin(Stdio::null())
            .current_dir("/");
        command
    }

    /// Runs the agent's program to its end.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn agent(&self, args: &[&str]) -> Result<String> {
        shell::output(&mut self.command(args))
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When one runs already, or the program cannot be started.
    pub fn start(&mut self, args: &[&str]) -> Result<()> {
        ensure!(self.child.is_none(), "host {} has an agent already", self.number);
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = self.command(args);
        // Who interrupts the tests must not interrupt the agents: they would say goodbye.
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        self.child = Some(command.spawn().context("cannot start an agent")?);
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref();
        let child = child.with_context(|| format!("host {} has no agent", self.number))?;
        Ok(Pid::from_raw(i32::try_from(child.id())?))
    }

    /// Sends the agent a signal.
    ///
    /// # Errors
    /// When there is no agent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid()?, signal).with_context(|| format!("cannot signal host {}", self.number))
    }

    /// Kills the agent and nothing else.
    ///
    /// # Errors
    /// When there is no agent.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.reap()
    }

    /// Stops the agent as a service manager does; its containers go on.
    ///
    /// # Errors
    /// When there is no agent, or it does not end.
    pub fn stop_agent(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.reap()
    }

    fn reap(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.wait().context("cannot wait for an agent")?;
        }
        Ok(())
    }

    /// That the agent has not ended.
    ///
    /// # Errors
    /// When it has.
    pub fn check_alive(&self) -> Result<()> {
        let pid = self.pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.is_empty() || status.contains("State:\tZ") {
            bail!("the agent of host {} has ended\n{}", self.number, self.log_end());
        }
        Ok(())
    }

    /// The agent's process: the number, and when it began.
    ///
    /// # Errors
    /// When there is no agent.
    pub fn agent_pid(&self) -> Result<i32> {
        Ok(self.pid()?.as_raw())
    }

    /// Puts another build in the place of the agent's file: the same program with `mark` at its end.
    ///
    /// # Errors
    /// When the file cannot be replaced.
    pub fn replace_program(&self, programs: &Programs, mark: &[u8]) -> Result<()> {
        install(&programs.path("agent"), &self.program(), mark)
    }

    /// The last lines that the agent wrote.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// The node's id, which the agent says when it starts.
    #[must_use]
    pub fn node(&self) -> Option<String> {
        clean::node_of(&self.dir)
    }

    /// The containers that run on this host, by id.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        self.node().map_or_else(Vec::new, |node| process::containers(&node))
    }

    /// The containers of an app.
    #[must_use]
    pub fn containers_of(&self, app: &str) -> Vec<Container> {
        let prefix = format!("{app}-");
        self.containers().into_iter().filter(|one| one.id.starts_with(&prefix)).collect()
    }

    /// Kills everything that runs on this host.
    ///
    /// # Errors
    /// When something does not die.
    pub fn kill_all(&mut self) -> Result<()> {
        let node = self.node();
        let agent = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let list = || {
            let mut pids = process::working_in(&self.dir);
            pids.extend(agent);
            pids.extend(node.iter().flat_map(|node| process::of_node(node)));
            pids
        };
        if agent.is_some() {
            process::kill_until_none(list)?;
        }
        self.reap()
    }

    /// Whatever a boot forgets: mounts, control groups, and the run directory.
    pub(super) fn forget_boot(&self) -> Result<()> {
        clean::unmount_below(&self.dir)?;
        if let Some(node) = self.node() {
            clean::remove_groups(&node);
        }
        let run = self.run_dir();
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| format!("cannot empty {}", run.display()))?;
        }
        Ok(())
    }

    /// The host's disk is gone.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn destroy_disk(&self) -> Result<()> {
        self.forget_boot()?;
        fs::remove_dir_all(self.data()).context("cannot destroy a disk")
    }

    /// Ends the agent, whatever state it is in.
    pub(super) fn end(&mut self) {
        let (Ok(()) | Err(_)) = self.kill_all();
    }

    /// What of containers is left on this host: processes, mounts, control groups, files, interfaces.
    ///
    /// # Errors
    /// When the host cannot be looked at.
    pub fn traces(&self) -> Result<Vec<String>> {
        let mut left = self.remains()?;
        let own = self.node().unwrap_or_default();
        let is_agents = |what: &String| {
            what.ends_with("interface mesh0") || what.ends_with(&own) || what.ends_with("/shims")
        };
        left.retain(|what| !is_agents(what));
        Ok(left)
    }

    /// The same, and what the agent itself makes on its host, but for its data directory.
    ///
    /// # Errors
    /// When the host cannot be looked at.
    pub fn remains(&self) -> Result<Vec<String>> {
        let mut left: Vec<String> =
            self.containers().into_iter().map(|one| format!("process {one:?}")).collect();
        left.extend(clean::mounts_below(&self.dir)?.into_iter().map(|at| format!("mount {at}")));
        let groups = self.node().map_or_else(Vec::new, |node| clean::groups(&node));
        left.extend(groups.iter().map(|group| format!("control group {}", group.display())));
        for entry in fs::read_dir(self.data().join("containers")).into_iter().flatten().flatten() {
            left.push(format!("file {}", entry.path().display()));
        }
        let links = shell::run("ip", &["-n", &self.namespace, "-o", "link"])?;
        let links = links.lines().filter_map(|line| line.split(": ").nth(1));
        let is_hosts = |link: &str| link.starts_with("eth0") || link == "lo";
        left.extend(links.filter(|link| !is_hosts(link)).map(|link| format!("interface {link}")));
        Ok(left)
    }
}

/// Puts a program beside its place and moves it there, as one does with a program that runs. It is large, so that it is only
/// copied where it must be.
fn install(from: &Path, to: &Path, mark: &[u8]) -> Result<()> {
    let dir = to.parent().context("a program is in a directory")?;
    fs::create_dir_all(dir)?;
    let draft = to.with_extension("new");
    if !mark.is_empty() || fs::hard_link(from, &draft).is_err() {
        fs::copy(from, &draft).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    if !mark.is_empty() {
        let mut file: File = OpenOptions::new().append(true).open(&draft)?;
        file.write_all(mark)?;
    }
    fs::rename(&draft, to).context("cannot put a program in its place")
}
