//! Members that prove their keys, speak HTTP/2, and answer what an agent asks of them with garbage or not at all: it costs the
//! agent a bounded time, and others are served meanwhile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::id::NodeId;
use mesh_coordinator::message::Message;
use mesh_identity::{record, tls};
use mesh_ports::network::{TunnelError, Tunnels as _};
use mesh_ports::peer::{Blobs as _, Event, Peers as _};
use mesh_telemetry::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::floods::frame;
use crate::client::{Error, catalogue};
use crate::http2::PREFACE;
use crate::tests::fakes::digest_of;
use crate::tests::world::{World, eventually, keys, slot};

/// What comes of each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bait {
    /// Nothing, although the connection lives.
    Silence,
    /// A message that is none.
    Garbage,
}

/// No call of an agent to such a member takes longer.
const PATIENCE: Duration = Duration::from_secs(4);

/// A member that is a trap.
async fn lay(world: &World, bait: Bait) -> NodeId {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let node = world.ghost(&listener.local_addr().unwrap().to_string());
    let acceptor = TlsAcceptor::from(tls::server_config(&keys(200), Arc::new(|_| true)).unwrap());
    let tasks = world.agents[0].tasks.clone();
    let calls = tasks.clone();
    tasks.spawn("trap", async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            calls.spawn("trapped", async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let (Ok(()) | Err(_)) = answer(tls, bait).await;
                }
            });
        }
    });
    node
}

async fn answer(mut tls: TlsStream<TcpStream>, bait: Bait) -> std::io::Result<()> {
    tls.read_exact(&mut [0; PREFACE.len()]).await?;
    tls.write_all(&frame(4, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
        tls.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([d, e, f, g]);
        match kind {
            // Settings and questions whether anybody is there are answered as they should be.
            4 if flags & 1 == 0 => tls.write_all(&frame(4, 1, 0, &[])).await?,
            6 if flags & 1 == 0 => tls.write_all(&frame(6, 1, 0, &payload)).await?,
            1 if bait == Bait::Garbage => {
                let head = [&[0x88, 0x5f, 16][..], b"application/grpc"].concat();
                // A field that is longer than its message.
                let body = [0, 0, 0, 0, 2, 0x0a, 0x7f];
                tls.write_all(&[frame(1, 4, stream, &head), frame(0, 0, stream, &body)].concat())
                    .await?;
            }
            _ => {}
        }
        tls.flush().await?;
    }
}

/// Asks the trap for everything that an agent asks of others, while others are served.
async fn spring(world: &mut World, trap: NodeId) {
    let good = world.agents[1].id;
    let digest = digest_of(b"layer");
    let blob = b"layer".as_slice().into();
    world.agents[1].images.0.lock().unwrap().insert(digest.clone(), blob);
    let pool = world.agents[0].peers.clone();
    pool.watch([trap, good].into());
    for nonce in 0..10_000 {
        pool.send(trap, Message::Probe { nonce });
    }
    let begun = Instant::now();
    let asking = async {
        let mut pieces = pool.fetch(&digest).await.unwrap();
        assert_eq!(pieces.recv().await.unwrap().unwrap(), b"layer".as_slice());
        let opened = pool.open(trap, &slot(0), 80).await;
        assert!(matches!(opened, Err(TunnelError::Unreachable(_) | TunnelError::Gone(_))));
        let peer = world.directory.peers.lock().unwrap()[&trap].clone();
        let tls = tls::client_config(&world.agents[0].keys, peer.key).unwrap();
        let told = catalogue(&peer.api[0], tls, &record::Codec, Duration::from_secs(1)).await;
        assert!(matches!(told, Err(Error::Unreachable { .. } | Error::Server { .. })), "{told:?}");
    };
    timeout(PATIENCE, asking).await.expect("nobody waits longer for a trap");
    assert!(begun.elapsed() < PATIENCE);
    // The other member is heard and spoken to meanwhile, and the trap never counts as heard.
    pool.send(good, Message::Probe { nonce: 7 });
    let from = world.agents[0].id;
    let probe = Event::Said { from, message: Message::Probe { nonce: 7 } };
    world.agents[1].until(|event| *event == probe).await;
    for _beat in 0..10 {
        let heard = world.agents[0].until(|event| matches!(event, Event::Heard { .. })).await;
        assert!(matches!(heard, Event::Heard { node, .. } if node == good), "{heard:?}");
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_costs_a_bounded_time() {
    let mut world = World::of(2).await;
    let trap = lay(&world, Bait::Silence).await;
    spring(&mut world, trap).await;
    assert!(world.agents[0].refusals.counts().is_empty(), "to be silent is no attack");
}

#[tokio::test]
async fn a_peer_that_answers_garbage_is_counted_and_costs_a_bounded_time() {
    let mut world = World::of(2).await;
    let trap = lay(&world, Bait::Garbage).await;
    spring(&mut world, trap).await;
    let refusals = world.agents[0].refusals.clone();
    eventually(|| refusals.count(Reason::MessageMalformed) > 0).await;
}
