//! Who gets a connection, and who does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_coordinator::id::PublicKey;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Admit, client_config, key, peer_key, server_config, server_name};
use crate::keys::KeyPair;

fn keys(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

fn all() -> Admit {
    Arc::new(|_| true)
}

/// What one side saw: the other's key, and how the handshake went.
type Seen = io::Result<(Option<PublicKey>, Option<HandshakeKind>)>;

/// Connects the two and sends a byte each way; returns what the server and the client saw.
async fn connect(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (Seen, Seen) {
    let (near, far) = duplex(16 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(server).accept(near).await?;
        stream.write_all(b"s").await?;
        assert_eq!(stream.read_u8().await?, b'c');
        let state = stream.get_ref().1;
        assert_eq!(state.alpn_protocol(), Some(b"h2".as_slice()));
        Ok((peer_key(state), state.handshake_kind()))
    };
    let call = async {
        let mut stream = TlsConnector::from(client).connect(server_name(), far).await?;
        stream.write_all(b"c").await?;
        // A refused client learns of it here: in TLS 1.3 it is done before the server has looked at its key.
        assert_eq!(stream.read_u8().await?, b's');
        let state = stream.get_ref().1;
        Ok((peer_key(state), state.handshake_kind()))
    };
    tokio::join!(serve, call)
}

#[tokio::test]
async fn two_keys_that_expect_each_other_connect() {
    let server = server_config(&keys(1), all()).unwrap();
    let client = client_config(&keys(2), keys(1).public()).unwrap();
    let (served, called) = connect(server, client).await;
    assert_eq!(served.unwrap().0, Some(keys(2).public()));
    assert_eq!(called.unwrap().0, Some(keys(1).public()));
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_by_name() {
    let server = server_config(&keys(3), all()).unwrap();
    let client = client_config(&keys(2), keys(1).public()).unwrap();
    let (served, called) = connect(server, client).await;
    let error = called.unwrap_err().to_string();
    assert!(error.contains(&keys(1).public().to_string()), "{error}");
    assert!(error.contains(&keys(3).public().to_string()), "{error}");
    served.unwrap_err();
}

#[tokio::test]
async fn a_client_that_is_not_admitted_is_refused() {
    let welcome = keys(2).public();
    let server = server_config(&keys(1), Arc::new(move |key| *key == welcome)).unwrap();
    let stranger = client_config(&keys(3), keys(1).public()).unwrap();
    let (served, called) = connect(Arc::clone(&server), stranger).await;
    served.unwrap_err();
    assert!(called.unwrap_err().to_string().contains("AccessDenied"));
    let friend = client_config(&keys(2), keys(1).public()).unwrap();
    connect(server, friend).await.0.unwrap();
}

#[tokio::test]
async fn a_second_connection_is_admitted_anew() {
    let open = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&open);
    let admit: Admit = Arc::new(move |_| asked.load(Ordering::Relaxed));
    let server = server_config(&keys(1), admit).unwrap();
    // A client that would resume if it could.
    let mut client = ClientConfig::clone(&client_config(&keys(2), keys(1).public()).unwrap());
    client.resumption = Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    for _ in 0..2 {
        let (served, called) = connect(Arc::clone(&server), Arc::clone(&client)).await;
        assert_eq!(served.unwrap().1, Some(HandshakeKind::Full));
        assert_eq!(called.unwrap().1, Some(HandshakeKind::Full));
    }
    open.store(false, Ordering::Relaxed);
    connect(server, client).await.0.unwrap_err();
}

#[tokio::test]
async fn a_key_that_is_shown_but_not_held_is_refused() {
    // Somebody else's public key over the own private one.
    let own = key::certified(&keys(3)).unwrap();
    let shown = CertificateDer::from(key::to_spki(&keys(1).public()));
    let forged = Arc::new(CertifiedKey::new(vec![shown], Arc::clone(&own.key)));
    let resolver = rustls::server::AlwaysResolvesServerRawPublicKeys::new(forged);
    let mut server = ServerConfig::clone(&server_config(&keys(3), all()).unwrap());
    server.cert_resolver = Arc::new(resolver);
    let client = client_config(&keys(2), keys(1).public()).unwrap();
    let (_, called) = connect(Arc::new(server), client).await;
    assert!(called.unwrap_err().to_string().contains("BadSignature"));
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let server = server_config(&keys(1), all()).unwrap();
    let (near, mut far) = duplex(16 * 1024);
    // A greeting of TLS 1.2: one cipher suite, no compression, no extensions.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xC0, 0x2B, 1, 0]);
    assert_eq!(hello.len(), 5 + 45);
    far.write_all(&hello).await.unwrap();
    TlsAcceptor::from(server).accept(near).await.unwrap_err();
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
}

/// A peer of the usual kind: it wants certificates and believes all of them.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A key with a certificate, whatever that says: nobody gets as far as reading it.
#[derive(Debug)]
struct Certified(Arc<CertifiedKey>);

impl Certified {
    fn new() -> Arc<Self> {
        let key = Arc::clone(&key::certified(&keys(2)).unwrap().key);
        Arc::new(Self(Arc::new(CertifiedKey::new(vec![CertificateDer::from(vec![0x30, 0])], key))))
    }
}

impl rustls::client::ResolvesClientCert for Certified {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Certified {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_is_refused() {
    let server = server_config(&keys(1), all()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_cert_resolver(Certified::new());
    let (served, called) = connect(server, Arc::new(client)).await;
    assert!(served.unwrap_err().to_string().contains("IncorrectCertificateType"));
    called.unwrap_err();
}

#[tokio::test]
async fn a_server_with_a_certificate_is_refused() {
    let mut server = ServerConfig::clone(&server_config(&keys(1), all()).unwrap());
    server.cert_resolver = Certified::new();
    let client = client_config(&keys(2), keys(1).public()).unwrap();
    let (served, called) = connect(Arc::new(server), client).await;
    assert!(served.unwrap_err().to_string().contains("IncorrectCertificateType"));
    called.unwrap_err();
}
