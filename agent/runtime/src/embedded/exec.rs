//! Commands and health checks in a running container: a process of their own each, held on a leash.
//!
//! The leash is a named pipe in the command's directory. This side opens it before the process starts and keeps it open as
//! long as somebody wants the command; when it closes, for whatever reason, the other side kills the command.

mod carry;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mesh_coordinator::spec::HealthTest;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{ContainerError, ContainerId, Exec, ExecStreams, Health, Window};
use mesh_telemetry::Chain;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::mpsc;
use tracing::warn;

use super::place::Status;
use super::pty::{self, Master};
use super::start::shim_command;
use super::{Driver, blocking, host};
use crate::record::{self, Command, State, VERSION, file};

/// Pieces of input or output under way; with [`PIECE_LEN`] a megabyte at most.
const PIECES: usize = 64;
const PIECE_LEN: usize = 16 * 1024;

/// So much of the end of a health check's output is kept: a line to show.
const TAIL_LEN: usize = 512;

/// A command that runs.
struct Started {
    child: Child,
    /// Held as long as the command is wanted.
    leash: File,
    _dir: Directory,
}

/// Removed when the command is over.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Small; what cannot be removed goes with the container.
        let (Ok(()) | Err(_)) = fs::remove_dir_all(&self.0);
    }
}

pub(super) async fn exec<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    exec: Exec,
) -> Result<ExecStreams, ContainerError> {
    let (streams, master) = match exec.terminal {
        None => ([Stdio::piped(), Stdio::piped(), Stdio::piped()], None),
        Some(size) => {
            let (master, streams) = terminal(driver, id, size).await?;
            (streams, Some(master))
        }
    };
    let started = start_command(driver, id, &exec, streams).await?;
    let (to, input) = mpsc::channel(PIECES);
    let (pieces, output) = mpsc::channel(PIECES);
    let id = id.clone();
    driver.inner.tasks.spawn("exec", async move {
        let carried = match master {
            None => carry::pipes(started, input, pieces).await,
            Some(master) => carry::terminal(started, master, input, pieces).await,
        };
        if let Err(error) = carried {
            warn!(container = %id, error = %Chain(&error), "a command was lost");
        }
    });
    Ok(ExecStreams { input: to, output })
}

/// A terminal in the container, and its other end as the three streams of a command.
async fn terminal<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    size: Window,
) -> Result<(Master, [Stdio; 3]), ContainerError> {
    let init = running(driver, id).await?.init.pid;
    let opened = blocking(move || {
        let (master, stdin) = pty::open(init, size)?;
        let (stdout, stderr) = (stdin.try_clone()?, stdin.try_clone()?);
        Ok((master, [stdin, stdout, stderr].map(Stdio::from)))
    });
    let opened = opened.await.and_then(|(master, streams)| Ok((Master::of(master)?, streams)));
    opened.map_err(|error| host(format!("open a terminal in {id}"), error))
}

/// The state of a container that runs.
async fn running<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
) -> Result<State, ContainerError> {
    let status = driver.status(id).await;
    match status.map_err(|error| host(format!("run a command in {id}"), error))? {
        Status::Running(state) => Ok(state),
        Status::Absent => Err(ContainerError::Unknown(id.clone())),
        Status::Ended(_) | Status::Lost => Err(ContainerError::NotRunning(id.clone())),
    }
}

pub(super) async fn probe<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    test: &HealthTest,
    timeout: Duration,
) -> Health {
    let args = match test {
        HealthTest::Exec(args) => args.clone(),
        HealthTest::Shell(line) => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
        }
    };
    let environment = std::collections::BTreeMap::new();
    let exec = Exec { args, environment, user: None, working_dir: None, terminal: None };
    let deadline = tokio::time::Instant::now() + timeout;
    let (started, mut said) = match start_check(driver, id, &exec).await {
        Ok(started) => started,
        Err(error) => return Health::Failed(format!("cannot be run: {}", Chain(&error))),
    };
    let Started { mut child, leash, _dir } = started;
    let ended = async {
        loop {
            tokio::select! {
                biased;
                () = said.listen() => {}
                status = child.wait() => return status,
            }
        }
    };
    match tokio::time::timeout_at(deadline, ended).await {
        Ok(Ok(status)) if status.success() => Health::Passed,
        Ok(Ok(status)) => {
            let code = status.code().unwrap_or(255);
            Health::Failed(match said.last_line() {
                Some(line) => format!("exit code {code}: {line}"),
                None => format!("exit code {code}"),
            })
        }
        Ok(Err(error)) => Health::Failed(format!("its end was lost: {error}")),
        Err(_late) => {
            drop(leash);
            carry::reap(&mut child).await;
            Health::TimedOut
        }
    }
}

/// Starts a health check, whose output goes into one pipe.
async fn start_check<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    exec: &Exec,
) -> Result<(Started, Said), ContainerError> {
    let attempt = || format!("run a health check in {id}");
    let (reader, writer) = io::pipe().map_err(|error| host(attempt(), error))?;
    let copy = writer.try_clone().map_err(|error| host(attempt(), error))?;
    let said = Said::from(reader).map_err(|error| host(attempt(), error))?;
    let streams = [Stdio::null(), copy.into(), writer.into()];
    Ok((start_command(driver, id, exec, streams).await?, said))
}

/// The end of what a health check wrote.
struct Said {
    pipe: Option<pipe::Receiver>,
    tail: BytesMut,
}

impl Said {
    fn from(reader: io::PipeReader) -> io::Result<Self> {
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        Ok(Self { pipe: Some(pipe), tail: BytesMut::new() })
    }

    /// Takes in one piece. Never ends once there is no more.
    async fn listen(&mut self) {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let mut piece = BytesMut::with_capacity(PIECE_LEN);
        match pipe.read_buf(&mut piece).await {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(_) => self.keep(&piece),
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(piece);
        let excess = self.tail.len().saturating_sub(TAIL_LEN);
        self.tail.advance(excess);
    }

    /// The last line with anything on it. What the check wrote before its end is in the pipe by then, which holds no more than
    /// [`PIECES`] full reads; a process that it left behind may go on writing.
    fn last_line(&mut self) -> Option<String> {
        for _ in 0..PIECES {
            let Some(pipe) = &mut self.pipe else { break };
            let mut piece = BytesMut::with_capacity(PIECE_LEN);
            match pipe.try_read_buf(&mut piece) {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(_) => self.keep(&piece),
            }
        }
        let text = String::from_utf8_lossy(&self.tail);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }
}

async fn start_command<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    exec: &Exec,
    [stdin, stdout, stderr]: [Stdio; 3],
) -> Result<Started, ContainerError> {
    let attempt = || format!("run a command in {id}");
    running(driver, id).await?;
    let place = driver.place(id);
    let number = driver.inner.commands.fetch_add(1, Ordering::Relaxed);
    // The process id too, because the numbers start again with the agent.
    let name = format!("{}{}-{number}", file::EXEC_DIR, std::process::id());
    let dir = place.run.join(name);
    let pairs = exec.environment.iter();
    let command = Command {
        version: VERSION,
        container: place.dir.clone(),
        args: exec.args.clone(),
        env: pairs.map(|(name, value)| format!("{name}={value}")).collect(),
        user: exec.user.clone(),
        working_dir: exec.working_dir.clone(),
        terminal: exec.terminal.is_some(),
    };
    let (dir, leash) =
        blocking(move || prepare(dir, &command)).await.map_err(|error| host(attempt(), error))?;
    let child = shim_command(&driver.inner.config.shim, &dir.0)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| host(attempt(), error))?;
    Ok(Started { child, leash, _dir: dir })
}

fn prepare(dir: PathBuf, command: &Command) -> io::Result<(Directory, File)> {
    fs::create_dir(&dir)?;
    let dir = Directory(dir);
    let leash = dir.0.join(file::LEASH);
    mkfifo(&leash, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // For both directions, because to open one end of a pipe waits for the other.
    let leash = open_both(&leash)?;
    record::write(&dir.0, file::EXEC, command)?;
    Ok((dir, leash))
}

fn open_both(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}
