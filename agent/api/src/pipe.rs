//! A TCP-like connection inside a call: bytes both ways, each direction closed on its own.
//!
//! The call's two streams are read and written directly, with no task and no copy between, so that a slow reader holds back the
//! writer at the other end. A direction ends with an `end` piece; one that ends without it was broken off, and the reader gets
//! an error instead of a shorter text.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use mesh_proto::v1;
use mesh_proto::v1::tunnel_piece::Piece;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::PollSender;
use tonic::Status;

/// The bytes in a piece at most.
const PIECE_LEN: usize = 32 << 10;

/// Pieces on their way to the call: with [`PIECE_LEN`], enough to keep a connection busy.
pub(crate) const PIECES: usize = 8;

type Incoming = Pin<Box<dyn Stream<Item = Result<v1::TunnelPiece, Status>> + Send>>;

/// One end of a connection inside a call. `T` is what the call's outgoing stream is made of.
pub(crate) struct Pipe<T: Send + 'static> {
    incoming: Incoming,
    outgoing: PollSender<T>,
    wrap: fn(v1::TunnelPiece) -> T,
    current: Bytes,
    /// The other end has said that nothing more comes.
    ended: bool,
}

impl<T: Send + 'static> Pipe<T> {
    pub(crate) fn new(
        incoming: impl Stream<Item = Result<v1::TunnelPiece, Status>> + Send + 'static,
        outgoing: PollSender<T>,
        wrap: fn(v1::TunnelPiece) -> T,
    ) -> Self {
        Self { incoming: Box::pin(incoming), outgoing, wrap, current: Bytes::new(), ended: false }
    }

    fn send(&mut self, piece: Piece) -> io::Result<()> {
        let item = (self.wrap)(v1::TunnelPiece { piece: Some(piece) });
        self.outgoing.send_item(item).map_err(|_closed| io::ErrorKind::BrokenPipe.into())
    }

    /// The next bytes; empty at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() && !self.ended {
            let reset = |reason: &str| io::Error::new(io::ErrorKind::ConnectionReset, reason);
            match ready!(self.incoming.poll_next_unpin(cx)) {
                Some(Ok(v1::TunnelPiece { piece: Some(Piece::Data(data)) })) => self.current = data,
                Some(Ok(v1::TunnelPiece { piece: Some(Piece::End(v1::Nothing {})) })) => {
                    self.ended = true;
                }
                Some(Ok(v1::TunnelPiece {
                    piece: Some(Piece::Open(_) | Piece::Opened(_)) | None,
                })) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Some(Err(status)) => return Poll::Ready(Err(reset(status.message()))),
                None => return Poll::Ready(Err(reset("the other end is gone"))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Send + 'static> AsyncRead for Pipe<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_piece(cx))?;
        let length = self.current.len().min(buf.remaining());
        buf.put_slice(self.current.get(..length).unwrap_or_default());
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: Send + 'static> AsyncWrite for Pipe<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = |_closed| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(cx)).map_err(gone)?;
        let data = buf.get(..buf.len().min(PIECE_LEN)).unwrap_or_default();
        self.send(Piece::Data(Bytes::copy_from_slice(data)))?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let gone = |_closed| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(cx)).map_err(gone)?;
        self.send(Piece::End(v1::Nothing {}))?;
        Poll::Ready(Ok(()))
    }
}

impl<T: Send + 'static> fmt::Debug for Pipe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("ended", &self.ended).finish_non_exhaustive()
    }
}
