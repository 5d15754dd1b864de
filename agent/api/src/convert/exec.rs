//! Commands in containers, and lines of their logs.

use mesh_coordinator::time::WallTime;
use mesh_ports::runtime::{Exec, ExecInput, ExecOutput, LogLine, LogQuery, Output, Window};
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
    let terminal = open.terminal.map(window).transpose()?;
    Ok(Exec {
        args: open.args,
        environment: sorted(open.environment),
        user: open.user,
        working_dir: open.working_dir,
        terminal,
    })
}

fn window(window: v1::Window) -> Result<Window, Malformed> {
    let side = |name, value: u32| match u16::try_from(value) {
        Ok(value @ 1..) => Ok(value),
        Ok(0) | Err(_) => Err(Malformed::new(name, "a terminal has 1 to 65535 of them")),
    };
    Ok(Window { columns: side("columns", window.columns)?, rows: side("rows", window.rows)? })
}

fn window_to_wire(window: Window) -> v1::Window {
    v1::Window { columns: window.columns.into(), rows: window.rows.into() }
}

/// What comes behind the command; `None` is the end of its standard input.
pub(crate) fn input(piece: v1::exec_input::Piece) -> Result<Option<ExecInput>, Malformed> {
    use v1::exec_input::Piece;
    match piece {
        Piece::Stdin(data) => Ok(Some(ExecInput::Data(data))),
        Piece::Resize(size) => Ok(Some(ExecInput::Resize(window(size)?))),
        Piece::End(_) => Ok(None),
        Piece::Open(_) => Err(Malformed::new("open", "it comes only once")),
    }
}

pub(crate) fn input_to_wire(input: ExecInput) -> v1::exec_input::Piece {
    match input {
        ExecInput::Data(data) => v1::exec_input::Piece::Stdin(data),
        ExecInput::Resize(size) => v1::exec_input::Piece::Resize(window_to_wire(size)),
    }
}

pub(crate) fn exec_to_wire(exec: &Exec, request: v1::SignedRequest) -> v1::ExecOpen {
    v1::ExecOpen {
        request: Some(request),
        args: exec.args.clone(),
        environment: exec.environment.clone().into_iter().collect(),
        user: exec.user.clone(),
        working_dir: exec.working_dir.clone(),
        terminal: exec.terminal.map(window_to_wire),
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
