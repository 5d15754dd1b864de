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

use bytes::{Bytes, BytesMut};
use mesh_coordinator::spec::HealthTest;
use mesh_ports::network::ContainerNetwork;
use mesh_ports::runtime::{
    ContainerError, ContainerId, Exec, ExecOutput, ExecStreams, Health, Output,
};
use mesh_telemetry::Chain;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
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
    let started = start_command(driver, id, &exec, Stdio::piped).await?;
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
    let Ok(started) = start_command(driver, id, &exec, Stdio::null).await else {
        return Health::Failed;
    };
    let Started { mut child, leash, _dir } = started;
    match tokio::time::timeout_at(deadline, child.wait()).await {
        Ok(Ok(status)) if status.success() => Health::Passed,
        Ok(_) => Health::Failed,
        Err(_late) => {
            drop(leash);
            reap(&mut child).await;
            Health::TimedOut
        }
    }
}

async fn start_command<N: ContainerNetwork>(
    driver: &Driver<N>,
    id: &ContainerId,
    exec: &Exec,
    stream: fn() -> Stdio,
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
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
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
