//! Opening a connection to an agent: names, TCP, TLS, HTTP/2, in this order and each with its own words when it fails.
//!
//! The TCP connection is our own, not the HTTP library's, for two reasons. Names are resolved without `getaddrinfo`, which a
//! static binary must not use. And what the host said about the connection ([`Fault`]) is read at the source: whether a host
//! *refused* (it lives, its agent does not) or was silent decides what moves.

mod names;
mod session;
mod socket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mesh_coordinator::id::NodeId;
use mesh_telemetry::Refusals;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError};
use tonic::transport::{Channel, Endpoint};

pub(crate) use self::names::Names;
use self::session::Session;
use self::socket::Socket;
pub(crate) use self::socket::{Fault, set_user_timeout};

/// How often an HTTP/2 connection with nothing to say is checked, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up: a cut link must not hold sends for the
/// quarter of an hour that is the kernel's default.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Calls in progress on one connection. A peer's connection carries its tunnels, so this bounds published connections per peer.
pub(crate) const CALLS_MAX: u32 = 1024;

/// Bytes on their way in one call: enough for 1 Gbit/s at 4 ms, and for 100 Mbit/s at 40 ms.
pub(crate) const STREAM_WINDOW: u32 = 512 << 10;

/// Bytes on their way in one connection: what all calls together may have, so that tunnels whose readers are slow never hold
/// back the others.
pub(crate) const CONNECTION_WINDOW: u32 = CALLS_MAX * STREAM_WINDOW;

/// Whom to connect.
pub(crate) struct Dial<'a> {
    /// `host:port`.
    pub(crate) address: &'a str,
    /// What is known of names.
    pub(crate) names: &'a Names,
    /// What proves the own key and checks the other's.
    pub(crate) tls: Arc<ClientConfig>,
    /// How long all of it may take.
    pub(crate) timeout: Duration,
    /// Who counts it when the other end speaks no HTTP/2, and which node that is; `None` where nobody counts.
    pub(crate) witness: Option<(Refusals, NodeId)>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    /// What became of it.
    pub(crate) fault: Arc<Fault>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0:?} is not written host:port")]
    Address(String),
    #[error("the name {host} is not known: {reason}")]
    Name { host: String, reason: String },
    #[error("{}", reason_of(.0))]
    Connect(io::Error),
    #[error("the key is not accepted: {}", words(.0))]
    Tls(io::Error),
    #[error("refuses this key")]
    Denied,
    #[error("it does not speak our protocol: {0}")]
    Http(tonic::transport::Error),
    #[error("does not answer")]
    Silent,
}

impl DialError {
    /// Whether somebody else than who was asked for answers there.
    pub(crate) fn is_somebody_else(&self) -> bool {
        let Self::Tls(error) = self else { return false };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        matches!(cause, Some(TlsError::InvalidCertificate(_)))
    }

    /// Whether the host itself said no: it lives, and nobody listens there.
    pub(crate) fn is_refused(&self) -> bool {
        match self {
            Self::Connect(error) | Self::Tls(error) => is_refusal(error.kind()),
            Self::Address(_) | Self::Name { .. } | Self::Denied | Self::Http(_) | Self::Silent => {
                false
            }
        }
    }
}

/// Whether an error of a connection came from the other host, and not from the network or from this host's patience.
pub(crate) fn is_refusal(kind: io::ErrorKind) -> bool {
    kind == io::ErrorKind::ConnectionRefused || kind == io::ErrorKind::ConnectionReset
}

fn reason_of(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        "refuses connections".to_owned()
    } else {
        error.to_string()
    }
}

/// What the check of the other end's key says, without what the TLS library wraps around it.
fn words(error: &io::Error) -> String {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(CertificateError::Other(cause))) => cause.0.to_string(),
        _ => error.to_string(),
    }
}

/// Connects one address.
pub(crate) async fn connect(dial: &Dial<'_>) -> Result<Link, DialError> {
    let deadline = tokio::time::Instant::now() + dial.timeout;
    let late = |_elapsed| DialError::Silent;
    let addresses =
        timeout_at(deadline, dial.names.resolve(dial.address)).await.map_err(late)??;
    let tcp = timeout_at(deadline, first(&addresses, dial.timeout)).await.map_err(late)??;
    let fault = Arc::new(Fault::default());
    let socket = Socket::new(tcp, Arc::clone(&fault));
    // The name is neither sent nor compared: who answers is proved by the key.
    let name = ServerName::from(IpAddr::from([0, 0, 0, 0]));
    let handshake = TlsConnector::from(Arc::clone(&dial.tls)).connect(name, socket);
    let tls = timeout_at(deadline, handshake).await.map_err(late)?.map_err(DialError::Tls)?;
    let mut only = Some(TokioIo::new(Session::new(tls, Arc::clone(&fault), dial.witness.clone())));
    let connector = tower::service_fn(move |_uri| {
        // A channel whose connection broke stays broken: whoever owns it connects anew, and learns why it broke.
        std::future::ready(only.take().ok_or(io::ErrorKind::NotConnected))
    });
    let connector = tower::ServiceExt::map_err(connector, io::Error::from);
    let endpoint = Endpoint::from_static("http://agent.mesh")
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let opening = endpoint.connect_with_connector(connector);
    match timeout_at(deadline, opening).await.map_err(late)? {
        Ok(channel) => Ok(Link { channel, fault }),
        Err(_denied) if fault.is_denied() => Err(DialError::Denied),
        Err(error) => Err(DialError::Http(error)),
    }
}

/// The first of `addresses` that accepts; each gets its share of the time.
async fn first(addresses: &[SocketAddr], timeout: Duration) -> Result<TcpStream, DialError> {
    let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = DialError::Silent;
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                let set = tcp.set_nodelay(true).and_then(|()| set_user_timeout(&tcp, SEND_TIMEOUT));
                return set.map(|()| tcp).map_err(DialError::Connect);
            }
            Ok(Err(error)) => failure = DialError::Connect(error),
            Err(_elapsed) => failure = DialError::Silent,
        }
    }
    Err(failure)
}
