//! Logs of replicas and commands in them: served here, or passed on to the node that the operator signed the request for.

use futures_util::StreamExt as _;
use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{NodeId, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_ports::control::{Control as _, LocalReplica};
use mesh_ports::runtime::{Exec, ExecInput, ExecStreams, LogQuery, Runtime as _};
use mesh_proto::v1;
use mesh_proto::v1::exec_input::Piece;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::order::{Bearer, Place, What};
use super::peer::{Pieces, first_input};
use super::{Shared, Wiring};
use crate::convert::{exec, request};
use crate::status;

/// A challenge of this node.
pub(super) fn challenge_here<W: Wiring>(shared: &Shared<W>) -> v1::ChallengeAnswer {
    v1::ChallengeAnswer { challenge: shared.orders.challenge().0.to_vec() }
}

/// A challenge of any node, for an operator who wants to ask it.
pub(super) async fn challenge<W: Wiring>(
    shared: &Shared<W>,
    node: NodeId,
) -> Result<v1::ChallengeAnswer, Status> {
    if node == shared.node {
        return Ok(challenge_here(shared));
    }
    let mut client = shared.parts.peers.peer(node).await.map_err(|e| status::call(&e))?;
    let answer = passed_on(shared, node, client.challenge(v1::Nothing {})).await?;
    Ok(answer.into_inner())
}

/// Lines of a replica's log.
pub(super) async fn logs<W: Wiring>(
    shared: &Shared<W>,
    wanted: v1::LogsRequest,
    bearer: Bearer,
) -> Result<Pieces<v1::LogLine>, Status> {
    let query = exec::query(&wanted);
    let arguments = request::logs_arguments(&query);
    let what = What { action: request::LOGS, arguments, least: Role::Viewer };
    match shared.orders.admit(&shared.gate, wanted.request.clone(), bearer, what)? {
        Place::Here(slot) => logs_here(shared, &slot, query).await,
        Place::There(node) => {
            let mut client = shared.parts.peers.peer(node).await.map_err(|e| status::call(&e))?;
            let answer = passed_on(shared, node, client.logs(wanted)).await?;
            Ok(Box::pin(answer.into_inner()))
        }
    }
}

async fn logs_here<W: Wiring>(
    shared: &Shared<W>,
    slot: &SlotId,
    query: LogQuery,
) -> Result<Pieces<v1::LogLine>, Status> {
    let replica = replica(shared, slot).await?;
    // Whoever asks speaks of the time of the mesh, and the lines have this host's.
    let off_ms = shared.parts.clock.logs_off_ms();
    let shift = |time: WallTime, ms| WallTime(time.0.saturating_add_signed(ms));
    let query = LogQuery { since: query.since.map(|since| shift(since, off_ms)), ..query };
    let lines = shared.parts.runtime.logs(&replica.container, query).await;
    let lines = ReceiverStream::new(lines.map_err(|error| status::container(&error))?);
    Ok(Box::pin(lines.map(move |mut line| {
        line.written = shift(line.written, off_ms.saturating_neg());
        Ok(exec::line_to_wire(line))
    })))
}

/// A command in a replica.
pub(super) async fn exec<W: Wiring>(
    shared: &Shared<W>,
    mut input: Streaming<v1::ExecInput>,
    bearer: Bearer,
) -> Result<Pieces<v1::ExecPiece>, Status> {
    let open = first_input(&mut input, shared.call_timeout).await?;
    let command = exec::exec(open.clone()).map_err(status::malformed)?;
    let arguments = request::exec_arguments(&command);
    let what = What { action: request::EXEC, arguments, least: Role::Deployer };
    match shared.orders.admit(&shared.gate, open.request.clone(), bearer, what)? {
        Place::Here(slot) => exec_here(shared, &slot, command, input).await,
        Place::There(node) => {
            let mut client = shared.parts.peers.peer(node).await.map_err(|e| status::call(&e))?;
            let first = v1::ExecInput { piece: Some(Piece::Open(open)) };
            // A caller that goes away ends the stream without an `end`, and so it arrives at the other node.
            let rest = input.take_while(|item| std::future::ready(item.is_ok()));
            let rest = rest.filter_map(|item| std::future::ready(item.ok()));
            let pieces = tokio_stream::once(first).chain(rest);
            let answer = passed_on(shared, node, client.exec(pieces)).await?;
            Ok(Box::pin(answer.into_inner()))
        }
    }
}

async fn exec_here<W: Wiring>(
    shared: &Shared<W>,
    slot: &SlotId,
    command: Exec,
    input: Streaming<v1::ExecInput>,
) -> Result<Pieces<v1::ExecPiece>, Status> {
    let replica = replica(shared, slot).await?;
    let running = shared.parts.runtime.exec(&replica.container, command).await;
    let ExecStreams { input: to, output } = running.map_err(|error| status::container(&error))?;
    shared.tasks.spawn("stdin", feed(input, to));
    // Whoever drops this stream drops the receiver, and that kills the command.
    Ok(Box::pin(ReceiverStream::new(output).map(|output| Ok(exec::piece_to_wire(output)))))
}

async fn replica<W: Wiring>(shared: &Shared<W>, slot: &SlotId) -> Result<LocalReplica, Status> {
    let found = shared.parts.control.replica(slot).await;
    found.ok_or_else(|| {
        let mut status = Status::not_found("this node has no container of that replica");
        status::name(&mut status, shared.node);
        status
    })
}

/// The beginning of an answer that another node gives; its refusals are passed on as they are, with its name.
async fn passed_on<W: Wiring, T>(
    shared: &Shared<W>,
    node: NodeId,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let answer = timeout(shared.call_timeout, call).await;
    let answer =
        answer.map_err(|_elapsed| Status::unavailable(format!("node {node} does not answer")));
    answer.and_then(|answer| answer).map_err(|mut refusal| {
        status::name(&mut refusal, node);
        status::no_refusal(refusal)
    })
}

/// Passes standard input on until it ends, the command ends or the caller is gone.
async fn feed(mut input: Streaming<v1::ExecInput>, to: mpsc::Sender<ExecInput>) {
    while let Ok(Some(v1::ExecInput { piece: Some(piece) })) = input.message().await {
        // What is no input ends it, as the end itself does.
        let Ok(Some(piece)) = exec::input(piece) else { return };
        if to.send(piece).await.is_err() {
            return;
        }
    }
}
