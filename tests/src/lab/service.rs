//! `systemctl` for hosts of a lab: as much of a service manager as the unit of the agent needs.
//!
//! It takes the command, its type and the way to reload it from the unit that was installed, so that a mistake there shows.

use std::fs::{self, OpenOptions};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process;
use super::shell::PATH;
use super::wait::until;

/// Where the installer puts units.
const UNITS: &str = "/etc/systemd/system";
/// How long a service may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does what was typed after `systemctl`.
#[must_use]
#[expect(clippy::print_stderr, reason = "the answer to who typed it")]
pub(crate) fn main(words: &[String]) -> ExitCode {
    match obey(words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("systemctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(words: &[String]) -> Result<u8> {
    let (flags, words): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with('-'));
    let unit = |name: &&str| Unit::load(name);
    match words.as_slice() {
        ["daemon-reload"] => Ok(0),
        ["enable", name] => unit(name).map(|_| 0),
        ["disable", name] if flags.contains(&"--now") => unit(name)?.stop(),
        ["disable", _] => Ok(0),
        ["start", name] => unit(name)?.start(),
        ["stop", name] => unit(name)?.stop(),
        ["reload", name] => unit(name)?.reload(),
        ["is-active", name] => Ok(if unit(name)?.pid().is_some() { 0 } else { 3 }),
        _ => bail!("this host cannot do {words:?}"),
    }
}

struct Unit {
    name: String,
    text: String,
}

impl Unit {
    fn load(name: &str) -> Result<Self> {
        let path = Path::new(UNITS).join(format!("{name}.service"));
        let text = fs::read_to_string(&path)
            .with_context(|| format!("Unit {name}.service could not be found"))?;
        Ok(Self { name: name.to_owned(), text })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    fn file(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/run/{}.{kind}", self.name))
    }

    /// The main process, if it lives.
    fn pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.file("pid")).ok()?.parse().ok()?;
        let status = process::read(pid, "status");
        (!status.is_empty() && !status.contains("State:\tZ")).then_some(pid)
    }

    fn start(&self) -> Result<u8> {
        let condition = self.get("ConditionPathExists");
        if self.pid().is_some() || condition.is_some_and(|path| !Path::new(path).exists()) {
            return Ok(0);
        }
        let mut words = self.get("ExecStart").context("no ExecStart")?.split_whitespace();
        let dir = std::env::var(process::DIR_VARIABLE).context("this is no host of a lab")?;
        let log = Path::new(&dir).join("agent.log");
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let path = self.file("notify");
        let (Ok(()) | Err(_)) = fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).context("cannot make the socket for notices")?;
        notify.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut command = Command::new(words.next().context("an empty ExecStart")?);
        command
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .env("NOTIFY_SOCKET", &path)
            .env(process::DIR_VARIABLE, &dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn().context("cannot start the service")?;
        fs::write(self.file("pid"), child.id().to_string())?;
        if !self.get("Type").is_some_and(|kind| kind.starts_with("notify")) {
            return Ok(0);
        }
        until(PATIENCE, "the service says that it is ready", || {
            ensure!(child.try_wait()?.is_none(), "it has ended");
            let mut notice = [0; 512];
            let length = notify.recv(&mut notice).unwrap_or(0);
            let notice = String::from_utf8_lossy(notice.get(..length).unwrap_or_default());
            Ok(notice.lines().any(|line| line == "READY=1"))
        })?;
        Ok(0)
    }

    fn stop(&self) -> Result<u8> {
        let Some(pid) = self.pid() else { return Ok(0) };
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        until(PATIENCE, "the service has ended", || Ok(self.pid().is_none()))?;
        Ok(0)
    }

    fn reload(&self) -> Result<u8> {
        let pid = self.pid().context("the service does not run")?;
        let command = self.get("ExecReload").context("no ExecReload")?;
        let command = command.replace("$MAINPID", &pid.to_string());
        let done = Command::new("sh").args(["-c", &command]).status()?;
        Ok(u8::from(!done.success()))
    }
}
