//! Commands in containers, and lines of their logs.

use mesh_coordinator::time::WallTime;
use mesh_ports::runtime::{Exec, ExecOutput, LogLine, LogQuery, Output};
use mesh_proto::v1;

use super::value::{sorted, unknown};
use super::{Malformed, required};

/// The most arguments of a command, as a shell would pass them on.
const ARGS_MAX: usize = 4096;

/// What is left of an `ExecOpen` when its signed request is taken out.
pub(crate) fn exec(open: v1::ExecOpen) -> Result<Exec, Malformed> {
    if open.args.is_empty() {
        return Err(Malformed::new("args", "a command needs at least a program"));
    }
    if open.args.len() > ARGS_MAX {
        return Err(Malformed::new("args", format!("a command has at most {ARGS_MAX} arguments")));
    }
    if open.args.iter().any(|arg| arg.contains('\0')) {
        return Err(Malformed::new("args", "an argument cannot have a zero byte"));
    }
    Ok(Exec {
        args: open.args,
        environment: sorted(open.environment),
        user: open.user,
        working_dir: open.working_dir,
    })
}

pub(crate) fn exec_to_wire(exec: &Exec, request: v1::SignedRequest) -> v1::ExecOpen {
    v1::ExecOpen {
        request: Some(request),
        args: exec.args.clone(),
        environment: exec.environment.clone().into_iter().collect(),
        user: exec.user.clone(),
        working_dir: exec.working_dir.clone(),
    }
}

pub(crate) fn piece_to_wire(output: ExecOutput) -> v1::ExecPiece {
    let piece = match output {
        ExecOutput::Data(Output::Stdout, data) => v1::exec_piece::Piece::Stdout(data),
        ExecOutput::Data(Output::Stderr, data) => v1::exec_piece::Piece::Stderr(data),
        ExecOutput::Exited(code) => v1::exec_piece::Piece::Exited(code),
    };
    v1::ExecPiece { piece: Some(piece) }
}

pub(crate) fn piece(piece: v1::ExecPiece) -> Result<ExecOutput, Malformed> {
    Ok(match required("piece", piece.piece)? {
        v1::exec_piece::Piece::Stdout(data) => ExecOutput::Data(Output::Stdout, data),
        v1::exec_piece::Piece::Stderr(data) => ExecOutput::Data(Output::Stderr, data),
        v1::exec_piece::Piece::Exited(code) => ExecOutput::Exited(code),
    })
}

pub(crate) fn query(request: &v1::LogsRequest) -> LogQuery {
    LogQuery {
        // A longer tail than this machine can count is all of it.
        tail: request.tail.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX)),
        since: request.since_ms.map(WallTime),
        follow: request.follow,
    }
}

pub(crate) fn query_to_wire(query: LogQuery, request: v1::SignedRequest) -> v1::LogsRequest {
    v1::LogsRequest {
        request: Some(request),
        tail: query.tail.map(|tail| u64::try_from(tail).unwrap_or(u64::MAX)),
        since_ms: query.since.map(|since| since.0),
        follow: query.follow,
    }
}

pub(crate) fn line_to_wire(line: LogLine) -> v1::LogLine {
    let output = match line.output {
        Output::Stdout => v1::OutputStream::Stdout,
        Output::Stderr => v1::OutputStream::Stderr,
    };
    v1::LogLine { written_ms: line.written.0, output: output.into(), text: line.text }
}

pub(crate) fn line(line: v1::LogLine) -> Result<LogLine, Malformed> {
    let output = match v1::OutputStream::try_from(line.output) {
        Ok(v1::OutputStream::Stdout) => Output::Stdout,
        Ok(v1::OutputStream::Stderr) => Output::Stderr,
        Ok(v1::OutputStream::Unspecified) | Err(_) => {
            return Err(unknown("line.output", line.output));
        }
    };
    Ok(LogLine { written: WallTime(line.written_ms), output, text: line.text })
}
