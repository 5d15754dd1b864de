//! A TLS connection that remembers when the other end refused our key, and notices when it speaks no HTTP/2.
//!
//! In TLS 1.3 a client is through its handshake before the server has looked at the client's key, so a refusal arrives as the
//! first thing that is read, deep inside the HTTP library, which does not pass it on in every case.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mesh_coordinator::id::NodeId;
use mesh_telemetry::{Reason, Refusals};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{AlertDescription, Error};

use super::socket::{Fault, Socket};
use crate::http2::Written;

/// A TLS connection that notes a refusal of our key.
#[derive(Debug)]
pub(super) struct Session {
    tls: TlsStream<Socket>,
    fault: Arc<Fault>,
    written: Written,
    witness: Option<(Refusals, NodeId)>,
}

impl Session {
    pub(super) fn new(
        tls: TlsStream<Socket>,
        fault: Arc<Fault>,
        witness: Option<(Refusals, NodeId)>,
    ) -> Self {
        Self { tls, fault, written: Written::by_client(), witness }
    }

    fn note_written(&mut self, bytes: &[u8]) {
        if let (Some(fault), Some((refusals, node))) = (self.written.read(bytes), &self.witness) {
            refusals.refuse(Reason::MessageMalformed, node, fault);
        }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && is_denial(error)
        {
            self.fault.deny();
        }
        result
    }
}

/// Whether the other end said that it does not admit our key.
pub(super) fn is_denial(error: &io::Error) -> bool {
    let denied = Error::AlertReceived(AlertDescription::AccessDenied);
    error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) == Some(&denied)
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_read(cx, buf);
        self.note(result)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = &result {
            self.note_written(buf.get(..*length).unwrap_or_default());
        }
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.tls).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tls).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(length)) = &result {
            let mut left = *length;
            for buf in bufs {
                let taken = left.min(buf.len());
                self.note_written(buf.get(..taken).unwrap_or_default());
                left = left.saturating_sub(taken);
            }
        }
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
