//! Connections without a key, with a wrong one, with garbage, with nothing, and too many of them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use mesh_coordinator::catalogue::Role;
use mesh_identity::tls;
use mesh_ports::peer::Peers as _;
use mesh_telemetry::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, SignatureScheme};

use super::{Siege, impatient};
use crate::client::Error;
use crate::http2::PREFACE;
use crate::server::Limits;
use crate::tests::security::channel;
use crate::tests::world::{eventually, keys, limits};

/// Reads until the connection ends.
async fn ends(tcp: &mut TcpStream) {
    let mut words = [0; 1024];
    while !matches!(tcp.read(&mut words).await, Ok(0) | Err(_)) {}
}

/// A client that presents no key.
#[derive(Debug)]
struct Keyless;

impl ResolvesClientCert for Keyless {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn who_proves_no_key_is_refused() {
    let mut siege = Siege::new().await;
    let mut plain = siege.tcp().await;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n").await.unwrap();
    ends(&mut plain).await;
    siege.held(Reason::NoKey).await;

    let pinned = tls::client_config(&keys(150), siege.agent().keys.public()).unwrap();
    let mut keyless = ClientConfig::clone(&pinned);
    keyless.client_auth_cert_resolver = Arc::new(Keyless);
    // Whether the client is through before it is refused depends on who is faster.
    if let Ok(mut tls) = siege.tls_with(Arc::new(keyless)).await {
        tls.read(&mut [0]).await.unwrap_err();
    }
    siege.held(Reason::NoKey).await;
}

#[tokio::test]
async fn who_only_looks_whether_somebody_listens_is_no_attacker() {
    let siege = Siege::new().await;
    let before = siege.agent().handle.n_connections();
    drop(siege.tcp().await);
    // It wants another key at the other end, and leaves when it sees this one.
    let wrong = tls::client_config(&keys(150), keys(151).public()).unwrap();
    siege.tls_with(wrong).await.unwrap_err();
    eventually(|| siege.agent().handle.n_connections() == before).await;
    assert!(siege.good.who().await.unwrap().refused.is_empty());
}

#[tokio::test]
async fn the_key_of_a_removed_operator_is_refused_in_the_handshake() {
    let mut siege = Siege::new().await;
    let thief = siege.world.operator(100, Role::Admin);
    siege.world.directory.removed.lock().unwrap().push(thief.public());
    siege.tls(&thief).await.read(&mut [0]).await.unwrap_err();
    siege.held(Reason::RemovedOperator).await;
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_the_connection() {
    let mut siege = Siege::new().await;
    let member = Arc::clone(&siege.world.agents[1].keys);
    for own in [&member, &keys(150)] {
        let mut tls = siege.tls(own).await;
        tls.write_all(&[0xff; 1000]).await.unwrap();
        assert!(matches!(tls.read(&mut [0; 1000]).await, Ok(_) | Err(_)));
        siege.held(Reason::MessageMalformed).await;

        let mut tls = siege.tls(own).await;
        tls.write_all(PREFACE).await.unwrap();
        tls.write_all(&[0xff; 1000]).await.unwrap();
        siege.held(Reason::MessageMalformed).await;
    }
}

#[tokio::test]
async fn a_peer_that_proves_its_key_and_writes_garbage_is_counted() {
    let siege = Siege::new().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ghost = siege.world.ghost(&listener.local_addr().unwrap().to_string());
    let acceptor = TlsAcceptor::from(tls::server_config(&keys(200), Arc::new(|_| true)).unwrap());
    siege.agent().peers.watch([ghost].into());
    let (tcp, _) = listener.accept().await.unwrap();
    let mut tls = acceptor.accept(tcp).await.unwrap();
    tls.write_all(&[0xff; 1000]).await.unwrap();
    tls.flush().await.unwrap();
    eventually(|| siege.agent().refusals.count(Reason::MessageMalformed) == 1).await;
    siege.good.who().await.unwrap();

    // And one that is somebody else. It is tried again and again, so the count goes on.
    drop(tls);
    let other = TlsAcceptor::from(tls::server_config(&keys(201), Arc::new(|_| true)).unwrap());
    let (tcp, _) = listener.accept().await.unwrap();
    assert!(other.accept(tcp).await.is_err());
    eventually(|| siege.agent().refusals.count(Reason::Stranger) == 1).await;
    siege.good.who().await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_is_cut_off() {
    let mut siege = Siege::of(impatient()).await;
    let mut mute = siege.tcp().await;
    ends(&mut mute).await;
    siege.held(Reason::TooSlow).await;

    let operator = siege.world.operator(100, Role::Viewer);
    let mut slow = siege.tls(&operator).await;
    slow.write_all(&PREFACE[..5]).await.unwrap();
    assert!(matches!(slow.read(&mut [0; 1000]).await, Ok(_) | Err(_)));
    siege.held(Reason::TooSlow).await;

    // A stranger that speaks HTTP/2 and does not want to join.
    let stranger = channel(siege.agent(), &keys(150)).await;
    siege.held(Reason::TooSlow).await;
    drop(stranger);
}

#[tokio::test]
async fn more_connections_than_one_address_may_have_are_refused() {
    // Two for the clients that must be answered meanwhile.
    let mut siege = Siege::of(Limits { connections_per_address: 4, ..limits() }).await;
    let operator = siege.world.operator(100, Role::Viewer);
    let clients = [
        siege.world.connect(&operator).await,
        siege.world.connect(&operator).await,
        siege.world.connect(&operator).await,
    ];
    eventually(|| siege.agent().handle.n_connections() == 4).await;
    ends(&mut siege.tcp().await).await;
    let counted = || siege.agent().refusals.count(Reason::TooManyConnections) == 1;
    eventually(counted).await;
    for client in &clients {
        client.who().await.unwrap();
    }
    drop(clients);
    eventually(|| siege.agent().handle.n_connections() == 1).await;
    siege.held(Reason::TooManyConnections).await;
}

/// As a container floods the agent of its own host: the agent has the same address.
#[tokio::test]
async fn strangers_of_an_address_make_room_for_its_members() {
    let mut siege = Siege::of(Limits { connections_per_address: 4, ..limits() }).await;
    let mut mute = vec![siege.tcp().await, siege.tcp().await, siege.tcp().await];
    eventually(|| siege.agent().handle.n_connections() == 4).await;
    let member = Arc::clone(&siege.world.agents[1].keys);
    let peer = channel(siege.agent(), &member).await;
    ends(&mut mute[0]).await;
    eventually(|| siege.agent().handle.n_connections() == 4).await;
    drop((peer, mute));
    eventually(|| siege.agent().handle.n_connections() == 1).await;
    siege.held(Reason::TooManyConnections).await;
}

#[tokio::test]
async fn strangers_make_room_for_each_other() {
    let mut siege = Siege::of(Limits { strangers: 2, ..limits() }).await;
    let mut mute = vec![siege.tcp().await, siege.tcp().await];
    eventually(|| siege.agent().handle.n_connections() == 3).await;
    mute.push(siege.tcp().await);
    ends(&mut mute[0]).await;
    drop(mute);
    eventually(|| siege.agent().handle.n_connections() == 1).await;
    siege.held(Reason::TooManyConnections).await;
}

#[tokio::test]
async fn what_a_removed_operator_hears_is_the_same_as_before() {
    let siege = Siege::new().await;
    let thief = siege.world.operator(100, Role::Admin);
    let client = siege.world.connect(&thief).await;
    siege.world.directory.removed.lock().unwrap().push(thief.public());
    assert_eq!(client.who().await, Err(Error::Removed));
    assert_eq!(siege.agent().refusals.count(Reason::RemovedOperator), 1);
}
