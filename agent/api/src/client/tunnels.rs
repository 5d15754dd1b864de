//! Connections to replicas on other nodes, through their agents.

use std::time::Duration;

use mesh_coordinator::id::{NodeId, SlotId};
use mesh_ports::network::{Stream, TunnelError, Tunnels};
use mesh_proto::v1;
use mesh_proto::v1::tunnel_piece::Piece;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::Code;

use super::PeerPool;
use crate::convert::value::slot_to_wire;
use crate::pipe::{PIECES, Pipe};

/// How long the other agent may take to connect its replica: it is on the same host, so this is mostly the way there and back.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

impl Tunnels for PeerPool {
    async fn open(
        &self,
        node: NodeId,
        slot: &SlotId,
        target: u16,
    ) -> Result<Box<dyn Stream>, TunnelError> {
        let unreachable = |_no_connection| TunnelError::Unreachable(node);
        let mut client = self.peer(node).await.map_err(unreachable)?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let open = v1::TunnelOpen { slot: Some(slot_to_wire(slot)), target: target.into() };
        let first = v1::TunnelPiece { piece: Some(Piece::Open(open)) };
        sender.try_send(first).map_err(|_cannot_be_full| TunnelError::Unreachable(node))?;
        let answer = async {
            let mut incoming = client.tunnel(ReceiverStream::new(pieces)).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, tonic::Status>((incoming, first.and_then(|piece| piece.piece)))
        };
        match tokio::time::timeout(OPEN_TIMEOUT, answer).await {
            Ok(Ok((incoming, Some(Piece::Opened(v1::Nothing {}))))) => {
                Ok(Box::new(Pipe::new(incoming, PollSender::new(sender), |piece| piece)))
            }
            Ok(Ok((_incoming, _not_opened))) => Err(TunnelError::Gone(node)),
            Ok(Err(status)) if status.code() == Code::NotFound => Err(TunnelError::Gone(node)),
            Ok(Err(_status)) => Err(TunnelError::Unreachable(node)),
            Err(_elapsed) => Err(TunnelError::Unreachable(node)),
        }
    }
}
