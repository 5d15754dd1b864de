//! One connection: whose it is, and when it must end.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_coordinator::id::PublicKey;
use mesh_ports::directory::{Directory, Standing};
use mesh_telemetry::{Reason, Refusals};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::gate::is_stranger;
use super::registry::Place;
use super::watch::Whose;
use crate::http2::{Calls, PREFACE, Written};

/// What a stranger may say on one connection: an offer to join holds one record and is shorter by half. Each byte may have to be
/// kept until a message is whole, so this bounds what strangers can make an agent keep.
const STRANGER_BYTES_MAX: usize = 128 << 10;

/// The calls of a stranger on one connection: it asks to be admitted, once or a few times. Each takes memory until it ends.
const STRANGER_CALLS_MAX: usize = 32;

/// Whose connection a request came over; in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) key: PublicKey,
    pub(super) address: SocketAddr,
}

/// Whose connection it is.
pub(super) struct Owner {
    pub(super) caller: Caller,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) refusals: Refusals,
}

impl Owner {
    fn standing(&self) -> Standing {
        self.directory.standing(&self.caller.key)
    }

    fn refuse(&self, reason: Reason, words: &str) {
        let whose = Whose(self.directory.as_ref(), Some(self.caller));
        self.refusals.refuse(reason, whose, words);
    }
}

/// What is left to a stranger of what it may say.
struct Allowance {
    calls: Calls,
    n_calls: usize,
    n_bytes: usize,
}

impl Allowance {
    fn new() -> Self {
        let calls = Calls::default();
        Self { calls, n_calls: STRANGER_CALLS_MAX, n_bytes: STRANGER_BYTES_MAX }
    }

    /// Takes off what was read; what is overdrawn when nothing is left.
    fn spend(&mut self, words: &[u8]) -> Option<(Reason, &'static str)> {
        let left = self.n_calls.checked_sub(self.calls.read(words));
        let Some(n_calls) = left else {
            return Some((Reason::Stranger, "it makes more calls than it takes to join"));
        };
        let Some(n_bytes) = self.n_bytes.checked_sub(words.len()) else {
            return Some((Reason::MessageTooLong, "a stranger says more than it takes to join"));
        };
        (self.n_calls, self.n_bytes) = (n_calls, n_bytes);
        None
    }
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
    /// What a stranger may still say; `None` for whom is known.
    allowance: Option<Allowance>,
    /// How much of the preface has arrived.
    n_read: usize,
    written: Written,
    /// The other end is gone, or it was counted why this one ends the connection.
    is_told: bool,
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
            allowance: stay.map(|_limit| Allowance::new()),
            n_read: 0,
            written: Written::by_server(),
            is_told: false,
            place,
        }
    }

    fn refuse(&mut self, reason: Reason, words: &str) {
        self.is_told = true;
        self.owner.refuse(reason, words);
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
        let standing = self.owner.standing();
        if self.n_read < PREFACE.len() {
            self.refuse(Reason::TooSlow, "a connection on which nothing was said");
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        if is_stranger(&standing) {
            // A member that was removed has been told so, and that was counted.
            if standing == Standing::Unknown {
                self.refuse(Reason::TooSlow, "a stranger that stays longer than it takes to join");
            }
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        self.is_known_now(standing);
        Poll::Pending
    }

    /// The stranger has become a member meanwhile.
    fn is_known_now(&mut self, standing: Standing) {
        self.allowance = None;
        self.place.belongs_to(self.owner.caller.key, standing);
    }

    /// Ends what a stranger goes on to say beyond what it may.
    fn note_spent(&mut self, words: &[u8]) -> io::Result<()> {
        let Some((reason, detail)) = self.allowance.as_mut().and_then(|left| left.spend(words))
        else {
            return Ok(());
        };
        let standing = self.owner.standing();
        if is_stranger(&standing) {
            self.refuse(reason, detail);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.is_known_now(standing);
        Ok(())
    }

    /// Compares the first words with those that HTTP/2 begins with. Until all of them are there, the other end has said nothing.
    fn note_read(&mut self, words: &[u8]) -> io::Result<()> {
        let expected = PREFACE.get(self.n_read..).unwrap_or_default();
        if expected.is_empty() {
            return Ok(());
        }
        let length = words.len().min(expected.len());
        if words.get(..length) != expected.get(..length) {
            self.refuse(Reason::MessageMalformed, "it does not speak HTTP/2");
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.n_read = self.n_read.saturating_add(length);
        if length == expected.len() {
            self.deadline = self.stay.map(|left| Box::pin(tokio::time::sleep(left)));
        }
        Ok(())
    }
}

/// A stranger that neither leaves nor answers is left by the HTTP library, which tells nobody.
impl Drop for Connection {
    fn drop(&mut self) {
        let has_left = self.allowance.as_ref().is_some_and(|left| left.calls.has_left());
        let is_told = self.is_told || has_left || self.place.close().is_cancelled();
        if !is_told && self.owner.standing() == Standing::Unknown {
            self.owner.refuse(Reason::TooSlow, "a stranger that does not answer");
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.owner.caller
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
        let words = buf.filled().get(before..).unwrap_or_default();
        self.is_told |= matches!(&result, Poll::Ready(read) if read.is_err() || words.is_empty());
        if let Err(end) = self.note_read(words).and_then(|()| self.note_spent(words)) {
            return Poll::Ready(Err(end));
        }
        if !words.is_empty() && self.deadline.is_some() {
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
        let result = Pin::new(&mut self.tls).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = &result
            && let Some(fault) = self.written.read(buf.get(..*length).unwrap_or_default())
        {
            self.refuse(Reason::MessageMalformed, fault);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
