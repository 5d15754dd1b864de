//! One connection: whose it is, and when it must end.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_coordinator::id::PublicKey;
use mesh_ports::directory::Directory;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::gate::is_stranger;
use super::registry::Place;

/// What HTTP/2 begins with. Until so much has arrived, the other end has said nothing.
const PREFACE_LEN: usize = 24;

/// Whose connection a request came over; in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) PublicKey);

/// Whose connection it is.
pub(super) struct Owner {
    pub(super) key: PublicKey,
    pub(super) directory: Arc<dyn Directory>,
}

/// One connection. Its place is given back when it is dropped.
pub(super) struct Connection {
    tls: TlsStream<TcpStream>,
    owner: Owner,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When it ends by itself: before the preface, or for a stranger; `None` for a member or an operator that has spoken.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long a stranger may stay once the preface is there; `None` for whom is known.
    stay: Option<Duration>,
    n_read: usize,
    place: Place,
}

impl Connection {
    /// `limits` are the time until the other end speaks, and how long it may stay if it is a stranger.
    pub(super) fn new(
        tls: TlsStream<TcpStream>,
        owner: Owner,
        place: Place,
        limits: (Duration, Option<Duration>),
    ) -> Self {
        let (preface, stay) = limits;
        Self {
            tls,
            owner,
            closed: Box::pin(place.close().clone().cancelled_owned()),
            deadline: Some(Box::pin(tokio::time::sleep(preface))),
            stay,
            n_read: 0,
            place,
        }
    }

    /// Ready with an error when the connection must end; wakes the task when that comes.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        let is_late = self.deadline.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready());
        if !is_late {
            return Poll::Pending;
        }
        self.deadline = None;
        let standing = self.owner.directory.standing(&self.owner.key);
        if self.n_read < PREFACE_LEN || is_stranger(&standing) {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        // The stranger has become a member meanwhile.
        self.place.belongs_to(self.owner.key, standing);
        Poll::Pending
    }

    fn note_read(&mut self, length: usize) {
        if self.n_read < PREFACE_LEN {
            self.n_read = self.n_read.saturating_add(length);
            if self.n_read >= PREFACE_LEN {
                self.deadline = self.stay.map(|left| Box::pin(tokio::time::sleep(left)));
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller(self.owner.key)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.tls).poll_read(cx, buf);
        let length = buf.filled().len().saturating_sub(before);
        self.note_read(length);
        if length > 0 && self.deadline.is_some() {
            // The deadline may be new, and somebody must wait for it.
            if let Poll::Ready(end) = self.poll_end(cx) {
                return Poll::Ready(Err(end));
            }
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
