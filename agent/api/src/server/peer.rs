//! What other agents ask.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use mesh_coordinator::id::SlotId;
use mesh_coordinator::message::Message;
use mesh_ports::control::Control as _;
use mesh_ports::peer::Event;
use mesh_ports::runtime::Images as _;
use mesh_proto::v1;
use mesh_proto::v1::peer_server::Peer;
use mesh_proto::v1::tunnel_piece::Piece;
use mesh_telemetry::Reason;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::order::Bearer;
use super::watch::Whose;
use super::{Service, Wiring, images, joining, leases, replica};
use crate::convert::{self, Malformed, message, required, value};
use crate::pipe::{PIECES, Pipe};
use crate::status;

/// How long the replica of a tunnel may take to accept: it is on this host.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an image may take to be fetched when a peer asks for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

/// Answers that come piece by piece.
pub(super) type Pieces<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<W: Wiring> Peer for Service<W> {
    type WatchStream = Pieces<v1::Beat>;
    type TunnelStream = Pieces<v1::TunnelPiece>;
    type ReadBlobStream = Pieces<v1::BlobPiece>;
    type CatalogueStream = Pieces<v1::JoinPiece>;
    type EventsStream = Pieces<v1::EventItem>;
    type LeasesStream = Pieces<v1::LeaseSeen>;
    type LogsStream = Pieces<v1::LogLine>;
    type ExecStream = Pieces<v1::ExecPiece>;

    async fn deliver(
        &self,
        request: Request<Streaming<v1::Envelope>>,
    ) -> Result<Response<v1::Nothing>, Status> {
        let from = self.0.gate.member(&request)?;
        let parts = &self.0.parts;
        let called_by = request.extensions().get().copied();
        let caller = || Whose(parts.directory.as_ref(), called_by);
        let mut envelopes = request.into_inner();
        while let Some(envelope) = envelopes.message().await? {
            let (message, rejected) = match message::from_wire(envelope, parts.records.as_ref()) {
                Ok(read) => read,
                Err(error) => {
                    // A newer agent may say what this one does not know: the other messages still count.
                    self.0.refusals.refuse(Reason::MessageMalformed, caller(), error);
                    continue;
                }
            };
            for bad in rejected {
                let words = format_args!("record {}: {}", bad.signed.digest(), bad.reason);
                self.0.refusals.refuse(Reason::RecordSignature, caller(), words);
            }
            if matches!(&message, Message::Announce(claim) if claim.is_foreign(from)) {
                let words = "it claims a slot that belongs to another node";
                self.0.refusals.refuse(Reason::FactSignature, caller(), words);
                continue;
            }
            let said = Event::Said { from, message };
            parts.events.send(said).await.map_err(|_closed| Status::unavailable("stopping"))?;
        }
        Ok(Response::new(v1::Nothing {}))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.0.gate.member(&request)?;
        let shared = std::sync::Arc::clone(&self.0);
        let mut interval = tokio::time::interval(shared.beat_interval);
        // After a pause of this host one heartbeat says as much as many.
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let beats =
            futures_util::stream::unfold((interval, shared), |(mut interval, shared)| async {
                interval.tick().await;
                let incarnation = (shared.parts.incarnation)().0;
                let wall_ms = shared.parts.clock.own().0;
                let beat = v1::Beat { incarnation, version: shared.version.clone(), wall_ms };
                Some((Ok(beat), (interval, shared)))
            });
        Ok(Response::new(Box::pin(beats)))
    }

    async fn tunnel(
        &self,
        request: Request<Streaming<v1::TunnelPiece>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        let from = self.0.gate.member(&request)?;
        let mut incoming = request.into_inner();
        let first = timeout(BACKEND_TIMEOUT, incoming.message()).await;
        let first = first.map_err(|_elapsed| too_slow("nothing was opened"))??;
        let Some(Piece::Open(open)) = first.and_then(|piece| piece.piece) else {
            let words = "a tunnel begins with what it leads to";
            return Err(status::malformed(Malformed::new("piece", words)));
        };
        let slot = value::slot("slot", open.slot).map_err(status::malformed)?;
        let target = value::port_number("target", open.target).map_err(status::malformed)?;
        let mut tcp = self.backend(&slot, target).await?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let opened = v1::TunnelPiece { piece: Some(Piece::Opened(v1::Nothing {})) };
        sender.try_send(Ok(opened)).map_err(|_cannot_be_full| Status::unavailable("stopping"))?;
        let mut pipe = Pipe::new(incoming, PollSender::new(sender), Ok);
        self.0.tasks.spawn("tunnel", async move {
            if let Err(error) = tokio::io::copy_bidirectional(&mut tcp, &mut pipe).await {
                // The replica must not take a broken connection for a finished one.
                drop(tcp.set_zero_linger());
                debug!(peer = %from, %error, "a tunnel broke");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces))))
    }

    async fn has_blob(
        &self,
        request: Request<v1::BlobRequest>,
    ) -> Result<Response<v1::BlobAnswer>, Status> {
        self.0.gate.member(&request)?;
        let wanted = request.into_inner();
        value::digest("digest", &wanted.digest).map_err(status::malformed)?;
        let reading = timeout(self.0.call_timeout, self.0.parts.images.read_blob(&wanted.digest));
        let present = reading.await.is_ok_and(|read| read.is_ok());
        Ok(Response::new(v1::BlobAnswer { present }))
    }

    async fn read_blob(
        &self,
        request: Request<v1::BlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        self.0.gate.member(&request)?;
        let wanted = request.into_inner();
        value::digest("digest", &wanted.digest).map_err(status::malformed)?;
        let pieces = self.0.parts.images.read_blob(&wanted.digest).await;
        let pieces = ReceiverStream::new(pieces.map_err(|error| status::image(&error))?);
        let mut left_out = wanted.offset;
        let pieces = pieces.filter_map(move |mut data| {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let skipped = left_out.min(length);
            left_out = left_out.saturating_sub(skipped);
            let rest = data.split_off(usize::try_from(skipped).unwrap_or(data.len()));
            std::future::ready((!rest.is_empty()).then_some(Ok(v1::BlobPiece { data: rest })))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn fetch_image(
        &self,
        request: Request<v1::FetchImageRequest>,
    ) -> Result<Response<v1::Nothing>, Status> {
        let from = self.0.gate.member(&request)?;
        let digest = request.into_inner().digest;
        value::digest("digest", &digest).map_err(status::malformed)?;
        match timeout(FETCH_TIMEOUT, images::fetch_image(&self.0, from, &digest)).await {
            Ok(fetched) => fetched.map(|()| Response::new(v1::Nothing {})),
            Err(_elapsed) => Err(Status::deadline_exceeded("the image takes too long")),
        }
    }

    async fn catalogue(
        &self,
        request: Request<v1::Nothing>,
    ) -> Result<Response<Self::CatalogueStream>, Status> {
        self.0.gate.member(&request)?;
        let records = self.0.soon(self.0.parts.control.records()).await?;
        Ok(Response::new(joining::pieces(&records)))
    }

    async fn events(
        &self,
        request: Request<v1::EventsQuery>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        self.0.gate.member(&request)?;
        let query = request.into_inner();
        let tail = usize::try_from(query.tail).unwrap_or(usize::MAX);
        let events = self.0.parts.control.events(tail, query.follow).await;
        let items = ReceiverStream::new(events).map(|event| Ok(convert::event::to_wire(&event)));
        Ok(Response::new(Box::pin(items)))
    }

    async fn leases(
        &self,
        request: Request<v1::LeasesQuery>,
    ) -> Result<Response<Self::LeasesStream>, Status> {
        self.0.gate.member(&request)?;
        let app = convert::leases::query(request.get_ref()).map_err(status::malformed)?;
        Ok(Response::new(leases::here(&self.0, app)))
    }

    async fn challenge(
        &self,
        request: Request<v1::Nothing>,
    ) -> Result<Response<v1::ChallengeAnswer>, Status> {
        self.0.gate.member(&request)?;
        Ok(Response::new(replica::challenge_here(&self.0)))
    }

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        self.0.gate.member(&request)?;
        replica::logs(&self.0, request.into_inner(), Bearer::Member).await.map(Response::new)
    }

    async fn exec(
        &self,
        request: Request<Streaming<v1::ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.0.gate.member(&request)?;
        replica::exec(&self.0, request.into_inner(), Bearer::Member).await.map(Response::new)
    }
}

impl<W: Wiring> Service<W> {
    /// A connection to a ready replica on this node.
    async fn backend(&self, slot: &SlotId, target: u16) -> Result<TcpStream, Status> {
        let gone = || Status::not_found("no such replica is ready here");
        let found: Option<SocketAddr> = self.0.parts.control.backend(slot, target).await;
        let address = found.ok_or_else(gone)?;
        let connecting = timeout(BACKEND_TIMEOUT, TcpStream::connect(address)).await;
        let tcp = connecting.map_err(|_elapsed| gone())?.map_err(|error| {
            Status::not_found(format!("the replica does not accept connections: {error}"))
        })?;
        tcp.set_nodelay(true).map_err(|_gone| gone())?;
        Ok(tcp)
    }
}

fn too_slow(words: &str) -> Status {
    status::refused(Reason::TooSlow, Status::deadline_exceeded(words))
}

/// The first piece of a command's input: what is to be run.
pub(super) async fn first_input(
    input: &mut Streaming<v1::ExecInput>,
    limit: Duration,
) -> Result<v1::ExecOpen, Status> {
    let first = timeout(limit, input.message()).await;
    let first = first.map_err(|_elapsed| too_slow("no command came"))??;
    let first =
        required("input", first.and_then(|input| input.piece)).map_err(status::malformed)?;
    match first {
        v1::exec_input::Piece::Open(open) => Ok(open),
        v1::exec_input::Piece::Stdin(_)
        | v1::exec_input::Piece::End(_)
        | v1::exec_input::Piece::Resize(_) => {
            let words = "a command's input begins with the command";
            Err(status::malformed(Malformed::new("input", words)))
        }
    }
}
