//! A Docker engine on a host of its own, asked over its socket.
//!
//! The engine and all that it starts live in a mount namespace with an empty /run, so that they vanish with their last process
//! and a killed engine comes back as after a boot. The containers are in control groups below the lab's name, where
//! [`lab::clean`](crate::lab::clean) finds them.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::{self, Container, process, shell, until};

/// The longest that an engine may take for an answer; joining a Swarm takes seconds.
const LIMIT: Duration = Duration::from_mins(1);
/// The name of the image of `hello`.
pub(super) const IMAGE: &str = "hello:1";

/// Makes the rest of the machine's files private to the engine, and becomes the engine. It asks a registry for the image even
/// though it has it; that no name resolves ends this at once.
const BOOT: &str = r#"
hostname "$1"
mount -t tmpfs tmpfs /run
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
rm -f /etc/resolv.conf
echo nameserver 127.0.0.1 >/etc/resolv.conf
shift
exec dockerd "$@"
"#;

/// An engine.
#[derive(Debug)]
pub(super) struct Docker {
    lab: String,
    number: usize,
    dir: PathBuf,
    child: Option<Child>,
}

impl Docker {
    /// An engine that does not run yet.
    pub(super) fn new(lab: &str, number: usize) -> Result<Self> {
        let dir = lab::dir_of(lab).join(number.to_string());
        fs::create_dir_all(&dir)?;
        Ok(Self { lab: lab.to_owned(), number, dir, child: None })
    }

    /// The name of its host.
    pub(super) fn name(&self) -> String {
        format!("n{}", self.number)
    }

    fn group(&self) -> String {
        format!("/{}/{}", self.lab, self.number)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Starts it in a network namespace and waits until it answers.
    pub(super) fn start(&mut self, namespace: &str) -> Result<()> {
        ensure!(self.child.is_none(), "engine {} runs already", self.number);
        let log =
            OpenOptions::new().create(true).append(true).open(self.dir.join("dockerd.log"))?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}"));
        command.args(["unshare", "--mount", "--uts", "sh", "-ec", BOOT, "dockerd", &self.name()]);
        command.args(["--log-level", "warn", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.args(["--host", &format!("unix://{}", self.socket().display())]);
        command.args(["--data-root", &self.dir.join("data").display().to_string()]);
        command.args(["--cgroup-parent", &self.group()]);
        // Whoever kills what works below the directory looks for its path with a slash at the end.
        command.env(process::DIR_VARIABLE, format!("{}/", self.dir.display()));
        for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env_remove(proxy);
        }
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("cannot start dockerd")?);
        until(LIMIT, &format!("engine {} answers", self.number), || {
            Ok(self.ask("GET", "/_ping", Body::None).is_ok())
        })
        .with_context(|| self.log_end())
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
    }

    /// Gives it the image of `hello`.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        let archive = fs::read(archive).context("cannot read the archive")?;
        // ENTRYPOINT ["/hello"]
        let change = "ENTRYPOINT%20%5B%22%2Fhello%22%5D";
        let path = format!("/images/create?fromSrc=-&repo=hello&tag=1&changes={change}");
        self.ask("POST", &path, Body::Tar(&archive)).map(drop)
    }

    /// Asks it for a document.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        let text = self.ask("GET", path, Body::None)?;
        serde_json::from_str(&text).with_context(|| format!("{path} is no document"))
    }

    /// Tells it to do something, with nothing but the path if `body` is null; what it answers.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Body::None } else { Body::Json(body) };
        let text = self.ask("POST", path, body)?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Tells it to remove something.
    pub(super) fn delete(&self, path: &str) -> Result<()> {
        self.ask("DELETE", path, Body::None).map(drop)
    }

    fn ask(&self, method: &str, path: &str, body: Body<'_>) -> Result<String> {
        let asked = || format!("{method} {path} of engine {}", self.number);
        let mut stream = UnixStream::connect(self.socket()).with_context(asked)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let (kind, bytes) = body.bytes()?;
        // Version 1.0 of HTTP has neither connections that stay open nor answers in pieces.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(asked)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, text) = answer.split_once("\r\n\r\n").with_context(asked)?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{}: {status}: {}", asked(), text.trim());
        Ok(text.to_owned())
    }

    /// The containers that run, as the kernel knows them.
    pub(super) fn containers(&self) -> Vec<Container> {
        let group = format!("{}/", self.group());
        let found = process::in_group(&group).into_iter().filter_map(|pid| {
            let groups = process::read(pid, "cgroup");
            let id = groups.lines().find_map(|line| line.split_once(&group))?.1.to_owned();
            Some(Container { id, pid, started: process::started_as_first(pid)? })
        });
        found.collect()
    }

    /// Kills the engine and everything that it started.
    pub(super) fn kill_all(&mut self) -> Result<()> {
        let group = format!("{}/", self.group());
        process::kill_until_none(|| {
            let mut pids = process::working_in(&self.dir);
            pids.extend(process::in_group(&group));
            pids
        })?;
        if let Some(mut child) = self.child.take() {
            child.wait().context("cannot wait for dockerd")?;
        }
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.kill_all();
    }
}

/// What is sent along.
#[derive(Debug)]
enum Body<'a> {
    None,
    Json(&'a Value),
    Tar(&'a [u8]),
}

impl Body<'_> {
    fn bytes(&self) -> Result<(&'static str, Vec<u8>)> {
        Ok(match self {
            Self::None => ("application/json", Vec::new()),
            Self::Json(value) => ("application/json", serde_json::to_vec(value)?),
            Self::Tar(bytes) => ("application/x-tar", bytes.to_vec()),
        })
    }
}

/// An archive with nothing but `hello` in it, in the directory of a lab.
pub(super) fn archive(dir: &Path, hello: &Path) -> Result<PathBuf> {
    let archive = dir.join("docker-hello.tar");
    let from = hello.parent().context("a program is in a directory")?;
    shell::run(
        "tar",
        &["-C".as_ref(), from.as_os_str(), "-cf".as_ref(), archive.as_os_str(), "hello".as_ref()],
    )?;
    Ok(archive)
}
