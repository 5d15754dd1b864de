//! agentctl, as somebody at the desk types it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::shell::PATH;
use super::{Lab, PATIENCE, until};

/// No command takes longer; it is an error of its own when one does.
const SECONDS_MAX: &str = "150";

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was typed after `agentctl`.
    pub typed: String,
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained of.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    fn of(args: &[&str], ended: &Output, begun: Instant) -> Self {
        Self {
            typed: args.join(" "),
            code: ended.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&ended.stdout).into_owned(),
            err: String::from_utf8_lossy(&ended.stderr).into_owned(),
            took: begun.elapsed(),
        }
    }

    /// That the command did what it was told.
    ///
    /// # Errors
    /// When it did not.
    pub fn done(self) -> Result<Self> {
        ensure!(
            self.code == 0,
            "agentctl {} ended with {}: {}{}",
            self.typed,
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }

    /// The document that it printed.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| {
            format!("agentctl {} printed no document: {}{}", self.typed, self.out, self.err)
        })
    }
}

/// A claim on a replica, as agentctl tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The replica.
    pub slot: String,
    /// The node's name.
    pub node: String,
    /// How the node is.
    pub status: String,
    /// How far the replica is.
    pub phase: String,
    /// Whether it runs the current definition.
    pub current: bool,
    /// The failover that brought it about.
    pub failover_ms: Option<u64>,
    /// The last error.
    pub detail: String,
    /// How often the container was started again.
    pub restarts: u64,
}

impl Claim {
    fn of(slot: &str, claim: &Value) -> Self {
        let text = |name: &str| claim.get(name).and_then(Value::as_str).unwrap_or_default();
        Self {
            slot: slot.to_owned(),
            node: text("node").to_owned(),
            status: text("node_status").to_owned(),
            phase: text("phase").to_owned(),
            current: claim.get("current").and_then(Value::as_bool).unwrap_or(false),
            failover_ms: claim.get("failover_ms").and_then(Value::as_u64),
            detail: text("detail").to_owned(),
            restarts: claim.get("restarts").and_then(Value::as_u64).unwrap_or(0),
        }
    }

    /// Whether it serves on a node that lives.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.phase == "ready" && self.status != "down"
    }
}

/// The words of a line that agentctl printed for somebody to type, without the name of the program.
fn pasted(printed: &str) -> Result<Vec<&str>> {
    let line = printed.lines().find_map(|line| line.strip_prefix("agentctl "));
    Ok(line
        .with_context(|| format!("there is nothing to type in {printed:?}"))?
        .split(' ')
        .collect())
}

/// A command that goes on.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    out: PathBuf,
}

impl Follower {
    /// The code with which it ended; `None` while it goes on.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(|status| status.code().unwrap_or(-1)))
    }

    /// What it has printed until now.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The process is `timeout`, which passes this on; killed, it would leave agentctl behind.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let (Ok(()) | Err(_)) = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let (Ok(_) | Err(_)) = self.child.wait();
        let (Ok(()) | Err(_)) = std::fs::remove_file(&self.out);
    }
}

/// Whoever sits at the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person<'a> {
    /// Who made the mesh.
    Founder,
    /// Somebody with a home directory, and so keys, of their own.
    Named(&'a str),
}

impl Lab {
    /// The home directory of a person.
    fn home_of(&self, person: Person<'_>) -> PathBuf {
        match person {
            Person::Founder => self.home(),
            Person::Named(name) => self.home().join("people").join(name),
        }
    }

    fn command(&self, person: Person<'_>, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.net.desk().display()))
            // In front of a terminal it must not take that away from what it runs.
            .args(["timeout", "--foreground", "-k", "1", SECONDS_MAX])
            .arg(self.programs.path("agentctl"))
            .args(args)
            // Whoever runs the tests may have `CI` or `NO_COLOR` set, which people's programs heed.
            .env_clear()
            .env("PATH", PATH)
            // Its usual place, and by this variable the lab finds what it has left running.
            .env("AGENTCTL_CONFIG", self.home_of(person).join(".config/agentmesh/operator.json"))
            .env("HOME", self.home_of(person))
            .stdin(Stdio::null());
        command
    }

    /// Runs agentctl at the desk.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ctl(&self, args: &[&str]) -> Result<Answer> {
        self.ctl_as(Person::Founder, args)
    }

    /// Runs agentctl at the desk for one person.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ctl_as(&self, person: Person<'_>, args: &[&str]) -> Result<Answer> {
        let begun = Instant::now();
        let ended = self.command(person, args).output().context("cannot run agentctl")?;
        Ok(Answer::of(args, &ended, begun))
    }

    /// Runs agentctl with one host's agent and no other.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ctl_at(&self, host: usize, args: &[&str]) -> Result<Answer> {
        self.ctl_as_at(Person::Founder, host, args)
    }

    /// The same for one person.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ctl_as_at(&self, person: Person<'_>, host: usize, args: &[&str]) -> Result<Answer> {
        let agent = format!("10.77.0.{host}:7420");
        let all: Vec<&str> = ["--agent", &agent].into_iter().chain(args.iter().copied()).collect();
        self.ctl_as(person, &all)
    }

    /// Runs agentctl with one host's agent, at a terminal on which somebody types `keys`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn typed_at(&self, host: usize, args: &[&str], keys: &str) -> Result<Answer> {
        let agent = format!("--agent=10.77.0.{host}:7420");
        let args: Vec<&str> = [agent.as_str()].into_iter().chain(args.iter().copied()).collect();
        self.at_terminal("", &args, keys)
    }

    /// Runs agentctl at a terminal with so many columns, with more of an environment. What it prints is as the terminal gets it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn seen_at(&self, columns: usize, more: &str, args: &[&str]) -> Result<Answer> {
        self.at_terminal(&format!("stty columns {columns}; export TERM=xterm {more};"), args, "")
    }

    fn at_terminal(&self, before: &str, args: &[&str], keys: &str) -> Result<Answer> {
        let begun = Instant::now();
        let inner = self.command(Person::Founder, args);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{before} {line}"), "/dev/null"]);
        command.env_clear().env("TERM", "xterm");
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run script")?;
        child.stdin.take().context("no input")?.write_all(keys.as_bytes())?;
        Ok(Answer::of(args, &child.wait_with_output()?, begun))
    }

    /// A person makes a key, `admin` lets it in, and the person finds the mesh: each types what the other one's agentctl printed.
    ///
    /// # Errors
    /// When one of them is refused.
    pub fn appoint(&self, admin: Person<'_>, name: &str, role: &str) -> Result<()> {
        let person = Person::Named(name);
        let made = self.ctl_as(person, &["login", "--name", name, "--role", role])?.done()?;
        let let_in = self.ctl_as(admin, &pasted(&made.out)?)?.done()?;
        let found = self.ctl_as(person, &pasted(&let_in.out)?)?.done()?;
        let expected = format!("you are {name}, {role}");
        ensure!(found.out.contains(&expected), "{found:?}");
        Ok(())
    }

    /// Starts a command that does not end by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn follow(&self, args: &[&str]) -> Result<Follower> {
        self.follow_as(Person::Founder, args)
    }

    /// The same for one person.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn follow_as(&self, person: Person<'_>, args: &[&str]) -> Result<Follower> {
        static STARTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let out = self.dir.join(format!("desk/follow-{number}"));
        let file = std::fs::File::create(&out)?;
        let mut command = self.command(person, args);
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("cannot run agentctl")?;
        Ok(Follower { child, out })
    }

    /// All claims on the replicas of an app, as the agent of a host tells them; of any host if none is given.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn claims(&self, host: Option<usize>, app: &str) -> Result<Vec<Claim>> {
        let args = ["ps", app, "--output", "json"];
        let answer = match host {
            Some(host) => self.ctl_at(host, &args)?,
            None => self.ctl(&args)?,
        };
        let apps = answer.done()?.json()?;
        let list = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let mut claims = Vec::new();
        for app in list(&apps, "apps") {
            for service in list(&app, "services") {
                for slot in list(&service, "slots") {
                    let name = slot.get("name").and_then(Value::as_str).unwrap_or_default();
                    claims.extend(list(&slot, "claims").iter().map(|claim| Claim::of(name, claim)));
                }
            }
        }
        Ok(claims)
    }

    /// Within which time a dead node's replicas of an app are claimed elsewhere, as agentctl prints it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn bound(&self, app: &str) -> Result<Duration> {
        let apps = self.ctl(&["ps", app, "--output", "json"])?.done()?.json()?;
        let bound = apps.pointer("/apps/0/services/0/failover_bound_ms").and_then(Value::as_u64);
        bound.map(Duration::from_millis).with_context(|| format!("{app} has no bound"))
    }

    /// Waits until an app has exactly `n` replicas that serve, each on one node.
    ///
    /// # Errors
    /// When it has not.
    pub fn until_ready(&self, app: &str, n: usize) -> Result<()> {
        until(PATIENCE, &format!("{app} has {n} replicas"), || {
            let claims = self.claims(None, app)?;
            let serving = claims.iter().filter(|claim| claim.serves()).count();
            let others = claims.iter().filter(|claim| {
                !claim.serves() && claim.status != "down" && claim.phase != "stopping"
            });
            ensure!(
                serving == n && others.count() == 0,
                "{}",
                claims.iter().map(|claim| format!("{claim:?}\n")).collect::<String>()
            );
            Ok(true)
        })
    }

    /// The host on which a replica serves.
    ///
    /// # Errors
    /// When none does.
    pub fn host_of(&self, app: &str, slot: &str) -> Result<usize> {
        let claims = self.claims(None, app)?;
        let claim = claims.iter().find(|claim| claim.slot == slot && claim.serves());
        let claim = claim.with_context(|| format!("nobody serves {slot}"))?;
        let number = claim.node.strip_prefix('n').and_then(|number| number.parse().ok());
        number.with_context(|| format!("{} is no host of the lab", claim.node))
    }
}
