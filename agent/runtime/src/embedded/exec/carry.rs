//! Carries what goes into a command and what comes out of it until it ends, or until nobody wants it any more.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use mesh_ports::runtime::{ExecInput, ExecOutput, Output};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::mpsc;
use tracing::warn;

use super::super::pty::{Master, Size};
use super::{PIECE_LEN, Started};

/// How long output may still come after a command has ended, from processes that it left behind.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long the end of a command may take that was let go.
const LET_GO_MAX: Duration = Duration::from_secs(10);

type Input = mpsc::Receiver<ExecInput>;
type Pieces = mpsc::Sender<ExecOutput>;

/// A command with three pipes.
pub(super) async fn pipes(mut started: Started, input: Input, pieces: Pieces) -> io::Result<()> {
    let child = &mut started.child;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let outputs = async {
        tokio::join!(pump(stdout, Output::Stdout, &pieces), pump(stderr, Output::Stderr, &pieces));
    };
    until_the_end(started, outputs, feed(stdin, None, input), &pieces).await
}

/// A command with a terminal.
pub(super) async fn terminal(
    started: Started,
    master: Master,
    input: Input,
    pieces: Pieces,
) -> io::Result<()> {
    let Master { output, input: keys, size } = master;
    let output = pump(Some(output), Output::Stdout, &pieces);
    until_the_end(started, output, feed(Some(keys), Some(size), input), &pieces).await
}

async fn until_the_end(
    started: Started,
    outputs: impl Future<Output = ()>,
    feeding: impl Future<Output = ()>,
    pieces: &Pieces,
) -> io::Result<()> {
    let Started { mut child, leash, _dir } = started;
    let status = {
        tokio::pin!(outputs);
        tokio::pin!(feeding);
        let (mut drained, mut fed) = (false, false);
        let status = loop {
            tokio::select! {
                biased;
                () = pieces.closed() => break None,
                status = child.wait() => break Some(status?),
                () = &mut outputs, if !drained => drained = true,
                () = &mut feeding, if !fed => fed = true,
            }
        };
        if status.is_some() && !drained {
            // A process that the command left behind may hold its output open for ever.
            let (Ok(()) | Err(_)) = tokio::time::timeout(DRAIN_MAX, &mut outputs).await;
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
pub(super) async fn reap(child: &mut Child) {
    if tokio::time::timeout(LET_GO_MAX, child.wait()).await.is_err() {
        warn!("a command does not end; killing its keeper");
        // The kernel kills the command with its keeper.
        let (Ok(()) | Err(_)) = child.kill().await;
    }
}

async fn pump<R: AsyncRead + Unpin>(reader: Option<R>, output: Output, pieces: &Pieces) {
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

async fn feed<W: AsyncWrite + Unpin>(writer: Option<W>, terminal: Option<Size>, mut input: Input) {
    let Some(mut writer) = writer else { return };
    while let Some(piece) = input.recv().await {
        let taken = match (piece, &terminal) {
            // A command may close its input early; what comes then is dropped, as by a shell.
            (ExecInput::Data(piece), _) => writer.write_all(&piece).await,
            (ExecInput::Resize(size), Some(terminal)) => terminal.set(size),
            (ExecInput::Resize(_), None) => Ok(()),
        };
        if taken.is_err() {
            return;
        }
    }
}
