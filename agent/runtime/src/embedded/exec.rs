//! Commands and health checks in a running container: a process of their own each, held on a leash.
//!
//! The leash is a named pipe in the command's directory. This side opens it before the process starts and keeps it open as
//! long as somebody wants the command; when it closes, for whatever reason, the other side kills the command.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use mesh_coordinator::spec::HealthTest;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{
    ContainerError, ContainerId, Exec, ExecOutput, ExecStreams, Health, Output,
};
use mesh_telemetry::Chain;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tracing::warn;

use super::place::Status;
use super::start::shim_command;
use super::{Driver, blocking, host};
use crate::record::{self, Command, VERSION, file};

/// Pieces of input or output under way; with [`PIECE_LEN`] a megabyte at most.
const PIECES: usize = 64;
const PIECE_LEN: usize = 16 * 1024;

/// So much of the end of a health check's output is kept: a line to show.
const TAIL_LEN: usize = 512;

/// How long output may still come after a command has ended, from processes that it left behind.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long the end of a command may take that was let go.
const LET_GO_MAX: Duration = Duration::from_secs(10);

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
    let streams = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
    let started = start_command(driver, id, &exec, streams).await?;
    let (stdin, input) = mpsc::channel(PIECES);
    let (pieces, output) = mpsc::channel(PIECES);
    let id = id.clone();
    driver.inner.tasks.spawn("exec", async move {
        if let Err(error) = carry(started, input, pieces).await {
            warn!(container = %id, error = %Chain(&error), "a command was lost");
        }
    });
    Ok(ExecStreams { stdin, output })
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
    let exec = Exec { args, environment, user: None, working_dir: None };
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
            reap(&mut child).await;
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
    match driver.status(id).await.map_err(|error| host(attempt(), error))? {
        Status::Running(_) => {}
        Status::Absent => return Err(ContainerError::Unknown(id.clone())),
        Status::Ended(_) | Status::Lost => return Err(ContainerError::NotRunning(id.clone())),
    }
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

/// Carries a command's streams until it ends or nobody wants its output.
async fn carry(
    started: Started,
    input: mpsc::Receiver<Bytes>,
    pieces: mpsc::Sender<ExecOutput>,
) -> io::Result<()> {
    let Started { mut child, leash, _dir } = started;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let status = {
        let outputs = async {
            tokio::join!(
                pump(stdout, Output::Stdout, &pieces),
                pump(stderr, Output::Stderr, &pieces)
            )
        };
        tokio::pin!(outputs);
        let feeding = feed(stdin, input);
        tokio::pin!(feeding);
        let (mut drained, mut fed) = (false, false);
        let status = loop {
            tokio::select! {
                biased;
                () = pieces.closed() => break None,
                status = child.wait() => break Some(status?),
                _ends = &mut outputs, if !drained => drained = true,
                () = &mut feeding, if !fed => fed = true,
            }
        };
        if status.is_some() && !drained {
            // A process that the command left behind may hold its output open for ever.
            let (Ok(_) | Err(_)) = tokio::time::timeout(DRAIN_MAX, &mut outputs).await;
        }
        status
    };
    drop(leash);
    match status {
        Some(status) => {
            let code = status.code().unwrap_or(255);
            // Whoever asked may have gone in the meantime.
            let (Ok(()) | Err(_)) = pieces.send(ExecOutput::Exited(code)).await;
        }
        None => reap(&mut child).await,
    }
    Ok(())
}

/// Waits for a command that was let go; it kills itself.
async fn reap(child: &mut Child) {
    if tokio::time::timeout(LET_GO_MAX, child.wait()).await.is_err() {
        warn!("a command does not end; killing its keeper");
        // The kernel kills the command with its keeper.
        let (Ok(()) | Err(_)) = child.kill().await;
    }
}

async fn pump<R: AsyncRead + Unpin>(
    reader: Option<R>,
    output: Output,
    pieces: &mpsc::Sender<ExecOutput>,
) {
    let Some(mut reader) = reader else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_LEN);
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if pieces.send(ExecOutput::Data(output, buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

async fn feed(stdin: Option<ChildStdin>, mut input: mpsc::Receiver<Bytes>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(piece) = input.recv().await {
        // A command may close its input early; what comes then is dropped, as by a shell.
        if stdin.write_all(&piece).await.is_err() {
            return;
        }
    }
}
