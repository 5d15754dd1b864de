//! Accepts connections and makes their handshakes, within bounds of number and of time.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::id::PublicKey;
use mesh_ports::directory::{Directory, Standing};
use mesh_telemetry::{Reason, Refusals, Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{CertificateError, CommonState, Error as TlsError};
use tracing::{debug, warn};

use super::connection::{Caller, Connection, Owner};
use super::gate::is_removed;
use super::registry::{Place, Registry};
use super::{Config, Limits};

/// The pause after the host could not accept: it is out of descriptors or memory, and asking again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long whoever is refused has to read why.
const REFUSED_STAYS: Duration = Duration::from_secs(1);
/// So often its words are taken in and thrown away meanwhile, at most a kilobyte each time.
const REFUSED_READS_MAX: usize = 64;

/// How long bytes that were sent may stay unacknowledged.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts connections.
#[derive(Clone)]
pub(super) struct Listener {
    tls: TlsAcceptor,
    peer_key: fn(&CommonState) -> Option<PublicKey>,
    limits: Limits,
    registry: Arc<Registry>,
    directory: Arc<dyn Directory>,
    refusals: Refusals,
    accepted: mpsc::Sender<Connection>,
}

impl Listener {
    pub(super) fn new(
        config: &Config,
        registry: Arc<Registry>,
        parties: (Arc<dyn Directory>, Refusals),
        accepted: mpsc::Sender<Connection>,
    ) -> Self {
        let (directory, refusals) = parties;
        Self {
            tls: TlsAcceptor::from(Arc::clone(&config.tls)),
            peer_key: config.peer_key,
            limits: config.limits.clone(),
            registry,
            directory,
            refusals,
            accepted,
        }
    }

    /// The task's whole life.
    pub(super) async fn run(self, tcp: TcpListener, tasks: Tasks) {
        loop {
            match tcp.accept().await {
                Ok((stream, address)) => match self.registry.enter(address.ip()) {
                    Some(place) => {
                        let greeting = self.clone().greet(stream, address, place);
                        tasks.spawn("greet", greeting);
                    }
                    // Counted there.
                    None => drop(stream),
                },
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Makes the handshake and hands the connection over to be served.
    async fn greet(self, stream: TcpStream, address: SocketAddr, place: Place) {
        let handshake_timeout = self.limits.handshake_timeout;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| crate::dial::set_user_timeout(&stream, SEND_TIMEOUT));
        if let Err(error) = prepared {
            debug!(%address, %error, "the connection is gone before its handshake");
            return;
        }
        let handshake = timeout(handshake_timeout, self.tls.accept(stream).into_fallible());
        let handshake = place.close().run_until_cancelled(handshake);
        let refuse = |reason, words: &dyn Display| self.refusals.refuse(reason, address, words);
        let tls = match handshake.await {
            Some(Ok(Ok(tls))) => tls,
            Some(Ok(Err((error, stream)))) => {
                match refusal(&error) {
                    Some(reason) => refuse(reason, &error),
                    None => debug!(%address, %error, "the connection is gone in its handshake"),
                }
                return let_read(stream).await;
            }
            Some(Err(_elapsed)) => return refuse(Reason::TooSlow, &"a handshake took too long"),
            // Counted where it was pushed out.
            None => return debug!(%address, "a handshake made room for another connection"),
        };
        let Some(key) = (self.peer_key)(tls.get_ref().1) else {
            return refuse(Reason::NoKey, &"a connection proved no key");
        };
        let standing = self.directory.standing(&key);
        if is_removed(&standing) {
            return refuse(Reason::RemovedOperator, &key);
        }
        let caller = Caller { key, address };
        let (directory, refusals) = (Arc::clone(&self.directory), self.refusals.clone());
        let owner = Owner { caller, directory, refusals };
        let stay = match standing {
            // It is told that it was removed, which takes one call.
            Standing::Parted(_) => Some(handshake_timeout),
            Standing::Unknown => Some(self.limits.stranger_timeout),
            Standing::Member(_)
            | Standing::Operator(_)
            | Standing::Recovery
            | Standing::Removed => None,
        };
        place.belongs_to(key, standing);
        let connection = Connection::new(tls, owner, place, (handshake_timeout, stay));
        // Nobody serves any more when the server stops; the connection is closed by being dropped.
        drop(self.accepted.send(connection).await);
    }
}

/// What a handshake that failed counts as; `None` when the other end left it, which is no attack: it may have lost its patience,
/// or looked whether somebody listens here.
fn refusal(error: &io::Error) -> Option<Reason> {
    let error = error.get_ref()?.downcast_ref::<TlsError>()?;
    let not_admitted = CertificateError::ApplicationVerificationFailure;
    if matches!(error, TlsError::AlertReceived(_)) {
        None
    } else if *error == TlsError::InvalidCertificate(not_admitted) {
        Some(Reason::RemovedOperator)
    } else {
        Some(Reason::NoKey)
    }
}

/// Lets the other end read the alert that says why its handshake was refused. A client of TLS 1.3 has sent its first request by
/// then; to close while that is unread resets the connection, and a reset throws away what the client has not read.
async fn let_read(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut words = [0; 1024];
        for _ in 0..REFUSED_READS_MAX {
            if stream.read(&mut words).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // It has gone, or it says more than anybody needs to hear.
    let (Ok(_) | Err(_)) = timeout(REFUSED_STAYS, drain).await;
}
