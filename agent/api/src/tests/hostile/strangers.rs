//! What a connection may ask whose key nobody knows: as much as it takes to join, and no more.

use mesh_coordinator::id::NodeId;
use mesh_proto::v1;
use mesh_proto::v1::peer_client::PeerClient;
use mesh_telemetry::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Siege;
use super::floods::{call, frame, hello};
use crate::tests::security::channel;
use crate::tests::world::{eventually, keys};

/// Whether the connection ends before it has said `n_bytes`.
async fn ends(tls: &mut TlsStream<TcpStream>) -> bool {
    let reading = async {
        let mut words = [0; 4096];
        while !matches!(tls.read(&mut words).await, Ok(0) | Err(_)) {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), reading).await.is_ok()
}

#[tokio::test]
async fn a_stranger_that_makes_many_calls_is_cut_off() {
    let mut siege = Siege::new().await;
    let mut tls = siege.tls(&keys(150)).await;
    tls.write_all(&hello()).await.unwrap();
    for number in 0..32 {
        tls.write_all(&call(number)).await.unwrap();
    }
    tls.flush().await.unwrap();
    let before = siege.agent().refusals.counts();
    assert!(before.is_empty(), "so many are its right: {before:?}");
    tls.write_all(&call(32)).await.unwrap();
    assert!(ends(&mut tls).await);
    siege.held(Reason::Stranger).await;
}

#[tokio::test]
async fn a_stranger_that_says_much_is_cut_off() {
    let mut siege = Siege::new().await;
    let mut tls = siege.tls(&keys(150)).await;
    // It takes the server's settings, and with them the right to send half a megabyte, which is less than the message it announced.
    tls.write_all(&hello()).await.unwrap();
    tls.read_exact(&mut [0; 64]).await.unwrap();
    tls.write_all(&[frame(4, 1, 0, &[]), call(0)].concat()).await.unwrap();
    for _frame in 0..10 {
        if tls.write_all(&frame(0, 0, 1, &[0; 16_000])).await.is_err() {
            break;
        }
        tls.flush().await.unwrap();
    }
    assert!(ends(&mut tls).await);
    eventually(|| !siege.agent().refusals.counts().is_empty()).await;
    siege.held(Reason::MessageTooLong).await;
}

#[tokio::test]
async fn a_member_may_say_what_it_likes_also_if_it_was_a_stranger_before() {
    let siege = Siege::new().await;
    let newcomer = keys(200);
    let mut peer = PeerClient::new(channel(siege.agent(), &newcomer).await);
    peer.watch(v1::WatchRequest {}).await.unwrap_err();
    eventually(|| siege.agent().refusals.count(Reason::Stranger) == 1).await;
    assert_eq!(siege.world.ghost("127.0.0.1:1"), NodeId::of(&newcomer.public()));
    for _call in 0..100 {
        peer.catalogue(v1::Nothing {}).await.unwrap();
    }
    assert_eq!(siege.agent().refusals.count(Reason::Stranger), 1);
}
