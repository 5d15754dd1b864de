//! TLS 1.3 between keys that know each other: raw public keys (RFC 7250) on both sides, no certificates at all.
//!
//! A connection is as good as the two keys at its ends, so there is nothing to issue, to renew or to expire, and no clock is
//! looked at. Every connection makes a full handshake: a resumed session would not ask `admit` again, and a removed member must
//! be refused at its next handshake.

mod key;
mod verifier;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use mesh_coordinator::id::PublicKey;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, ServerConfig};

use self::verifier::{Admission, Pinned};
use crate::keys::KeyPair;

/// The protocol inside: HTTP/2, for gRPC.
const ALPN: &[u8] = b"h2";

/// Decides at the handshake whose connections are accepted.
pub type Admit = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// The settings do not fit together, which would be a fault of this crate. *Nothing was opened.*
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS")]
pub struct TlsError {
    /// What the library said.
    #[from]
    source: rustls::Error,
}

/// The server at the other end has another key than the expected one.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server has the key {found}, and {expected} was expected")]
pub struct WrongServerKey {
    /// The key that was asked for.
    pub expected: PublicKey,
    /// The key that answered.
    pub found: PublicKey,
}

// The library prints causes by their debug form, and this is what an operator will read.
impl fmt::Debug for WrongServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Settings of a server that proves `own` and accepts the keys that `admit` says yes to.
///
/// # Errors
/// When the library refuses the settings.
pub fn server_config(own: &KeyPair, admit: Admit) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = Admission::new(admit, provider.signature_verification_algorithms);
    let certified = Arc::new(key::certified(own)?);
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(NoClock))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Settings of a client that proves `own` and speaks only to the server whose key is `expected`.
///
/// # Errors
/// When the library refuses the settings.
pub fn client_config(own: &KeyPair, expected: PublicKey) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Pinned::new(expected, provider.signature_verification_algorithms);
    let certified = Arc::new(key::certified(own)?);
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(NoClock))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The name to give to the library, which asks for one: it is neither sent nor compared.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::from(Ipv4Addr::UNSPECIFIED)
}

/// The key that the other end of a connection has proved; `None` before the handshake is complete.
#[must_use]
pub fn peer_key(connection: &CommonState) -> Option<PublicKey> {
    match connection.peer_certificates()? {
        [only] => key::from_spki(only),
        _ => None,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Nothing here expires, so the time is always the same.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}

#[cfg(test)]
mod tests;
