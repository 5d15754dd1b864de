//! A host as its owner sees it: root's shell in front of files that are the host's own.
//!
//! What an installer writes goes to file systems of the host's mount namespace; the programs of the machine are there as they
//! are. Nothing manages services here, so `systemctl` is the stand-in of [`super::service`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::shell::PATH;
use super::{Lab, clean, process};

/// Where the source of the project is on each of these hosts, and where a user types.
const CHECKOUT: &str = "/root/mesh";
/// No line that is typed takes longer.
const SECONDS_MAX: &str = "150";
/// File systems of the host's own. `/mnt` is its disk, `/run` what a boot forgets; the folders in `$1` outlive both.
const FILES: &str = r#"
set -e
mount -t tmpfs none /mnt
mount -t tmpfs none /run
mount -t tmpfs none /usr/local
mkdir -p /mnt/etc /mnt/work /run/systemd/system /usr/local/bin /usr/local/sbin "$1/lib" "$1/root"
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/work /etc
mount --bind "$1/lib" /var/lib
mount --bind "$1/root" /root
release=/root/mesh/target/$(uname -m)-unknown-linux-gnu/release
mkdir -p /root/mesh/deploy "$release"
# In front of a terminal curl does not show how far it has come, and here none is.
printf 'silent\nshow-error\n' >/root/.curlrc
mount --bind "$2" /root/mesh/deploy
mount --bind "$3" "$release"
printf '#!/bin/sh\nexec %s --systemctl "$@"\n' "$4" >/usr/local/sbin/systemctl
chmod 755 /usr/local/sbin/systemctl
echo ready
exec sleep 3600
"#;
/// A boot finds nothing mounted and nothing in `/run`.
const BOOT: &str = "sed -n 's|^[^ ]* \\([^ ]*agentmesh/[^ ]*\\) .*|\\1|p' /proc/mounts | sort -r | \
    while read -r at; do umount -l \"$at\"; done; rm -rf /run/agentmesh*";

/// What was shown to whoever typed a line.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The exit code.
    pub code: i32,
    /// Both outputs, as they came.
    pub text: String,
}

/// A host with a shell.
#[derive(Debug)]
pub struct Server {
    number: usize,
    user: String,
    dir: PathBuf,
    namespace: PathBuf,
    /// Holds the mount namespace.
    holder: Child,
}

impl Lab {
    /// A host of the lab with files of its own, and `user` in front of it.
    ///
    /// # Errors
    /// When the machine refuses a mount.
    pub fn server(&self, number: usize, user: &str) -> Result<Server> {
        let dir = self.dir.join(number.to_string());
        let namespace = PathBuf::from("/run/netns").join(self.net.namespace(number));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", namespace.display()))
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", FILES, "sh"])
            .args([dir.join("disk"), source.join("deploy").canonicalize()?])
            .args([self.programs.path("").canonicalize()?, std::env::current_exe()?])
            .env(process::DIR_VARIABLE, dir.join(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut holder = command.spawn().context("cannot run nsenter")?;
        let mut first = String::new();
        let out = holder.stdout.take().context("no output")?;
        BufReader::new(out).read_line(&mut first)?;
        let server = Server { number, user: user.to_owned(), dir, namespace, holder };
        ensure!(first == "ready\n", "host {number} has no files of its own");
        Ok(server)
    }

    /// A server loses power: the link first and in silence, then everything that ran.
    ///
    /// # Errors
    /// When something of it does not die.
    pub fn cut_power(&self, server: &Server) -> Result<()> {
        self.net.set_link(server.number, false)?;
        process::kill_until_none(|| server.processes())
    }

    /// It boots with its disk, and its service manager starts what is enabled.
    ///
    /// # Errors
    /// When the agent does not come to serve.
    pub fn boot(&self, server: &Server) -> Result<()> {
        server.types(BOOT)?;
        if let Some(node) = clean::node_of(&server.dir) {
            clean::remove_groups(&node);
        }
        self.net.renew(server.number)?;
        let started = server.types("systemctl start agentmesh-agent")?;
        ensure!(started.code == 0, "the agent does not start at boot: {started:?}");
        Ok(())
    }
}

impl Server {
    /// Its number, which is the end of its address.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// What the agent wrote.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// All that runs there, but for what holds its files.
    fn processes(&self) -> Vec<i32> {
        let mut pids = process::working_in(&self.dir);
        let node = clean::node_of(&self.dir);
        pids.extend(node.iter().flat_map(|node| process::of_node(node)));
        pids.retain(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != self.holder.id()));
        pids
    }

    /// A program inside.
    fn inside(&self, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace.display()))
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .args(program)
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "xterm")])
            .env("USER", &self.user)
            .env(process::DIR_VARIABLE, self.dir.join(""))
            .stdin(Stdio::null());
        command
    }

    fn shell(&self, line: &str, limit: &[&str]) -> Command {
        let line = format!("cd {CHECKOUT}; exec 2>&1; {line}");
        self.inside(&[&["timeout"], limit, &["bash", "-c", &line]].concat())
    }

    /// Somebody types a line and waits until it has ended. Nobody can be asked anything.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn types(&self, line: &str) -> Result<Shown> {
        shown(&mut self.shell(line, &["-k", "1", SECONDS_MAX]), "")
    }

    /// Somebody types a line and, some time later, Ctrl-C.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn types_and_interrupts(&self, line: &str, after: Duration) -> Result<Shown> {
        let seconds = format!("{:.1}", after.as_secs_f64());
        shown(&mut self.shell(line, &["-k", "5", "-s", "INT", &seconds]), "")
    }

    /// Somebody types a line at a terminal, and then these keys.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn types_at_terminal(&self, line: &str, keys: &str) -> Result<Shown> {
        let line = format!("cd {CHECKOUT}; {line}");
        let limit = ["timeout", "--foreground", "-k", "1", SECONDS_MAX];
        shown(
            &mut self.inside(&[&limit[..], &["script", "-qec", &line, "/dev/null"]].concat()),
            keys,
        )
    }

    /// Somebody leaves a command running in another window.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn leaves_running(&self, line: &str) -> Result<Window> {
        let out = self.dir.join("window");
        let mut command = self.shell(line, &["-s", "INT", SECONDS_MAX]);
        let child =
            command.stdout(fs::File::create(&out)?).spawn().context("cannot run nsenter")?;
        Ok(Window { child, out })
    }

    /// Brings a file here from another server.
    ///
    /// # Errors
    /// When it is not there.
    pub fn copies(&self, from: &Self, file: &str) -> Result<()> {
        let name = Path::new(file).file_name().context("a file has a name")?;
        let to = self.dir.join("disk/root/mesh").join(name);
        let from = from.dir.join("disk/root").join(file);
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    /// Writes a file where a user types.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn writes(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.dir.join("disk/root/mesh").join(name), text).context("cannot write a file")
    }

    /// Puts a program where the shell finds it.
    ///
    /// # Errors
    /// When it cannot.
    pub fn has_program(&self, name: &str, text: &str) -> Result<()> {
        self.writes("program", text)?;
        let put = format!("install -m 755 program /usr/local/bin/{name}; rm program");
        let put = self.types(&put)?;
        ensure!(put.code == 0, "{put:?}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let (Ok(()) | Err(_)) = self.holder.kill();
        let (Ok(_) | Err(_)) = self.holder.wait();
    }
}

fn shown(command: &mut Command, keys: &str) -> Result<Shown> {
    let mut child = command
        .stdin(if keys.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nsenter")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(keys.as_bytes())?;
    }
    let ended = child.wait_with_output()?;
    let text = [ended.stdout, ended.stderr].concat();
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    Ok(Shown { code: ended.status.code().unwrap_or(-1), text })
}

/// A command in another window.
#[derive(Debug)]
pub struct Window {
    child: Child,
    out: PathBuf,
}

impl Window {
    /// Ends it; how often each line was shown.
    ///
    /// # Errors
    /// When its output is gone.
    pub fn close(mut self) -> Result<BTreeMap<String, usize>> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        self.child.wait()?;
        let mut lines = BTreeMap::new();
        for line in fs::read_to_string(&self.out)?.lines() {
            *lines.entry(line.to_owned()).or_insert(0) += 1;
        }
        Ok(lines)
    }
}
