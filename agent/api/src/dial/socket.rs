//! A TCP connection that remembers how it broke.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The first error of a connection, as the kernel gave it, and whether the other end refused our key.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    first: OnceLock<io::ErrorKind>,
    denied: OnceLock<()>,
}

impl Fault {
    /// What broke the connection; `None` while it is whole or when it was closed in good order.
    pub(crate) fn kind(&self) -> Option<io::ErrorKind> {
        self.first.get().copied()
    }

    /// Whether the other end refused our key.
    pub(crate) fn is_denied(&self) -> bool {
        self.denied.get().is_some()
    }

    pub(super) fn deny(&self) {
        self.denied.get_or_init(|| ());
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.first.get_or_init(|| error.kind());
        }
        result
    }
}

/// A TCP connection that notes its first error.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    fault: Arc<Fault>,
}

impl Socket {
    pub(super) const fn new(tcp: TcpStream, fault: Arc<Fault>) -> Self {
        Self { tcp, fault }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tcp).poll_read(cx, buf);
        self.fault.note(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.fault.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tcp).poll_flush(cx);
        self.fault.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tcp).poll_shutdown(cx);
        self.fault.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.fault.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

/// Lets the kernel give up a connection whose sent bytes nobody acknowledges.
pub(crate) fn set_user_timeout(tcp: &TcpStream, timeout: Duration) -> io::Result<()> {
    let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    setsockopt(tcp, TcpUserTimeout, &millis).map_err(io::Error::from)
}
