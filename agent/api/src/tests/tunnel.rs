//! Connections through other agents behave like connections.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_ports::network::{Stream, TunnelError, Tunnels as _};
use mesh_ports::peer::{Event, Peers as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::world::{World, slot};

/// A tunnel, and its other end at the replica.
async fn tunnel(world: &World) -> (Box<dyn Stream>, TcpStream) {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = backend.local_addr().unwrap();
    world.agents[1].control.backends.lock().unwrap().insert(slot(0), address);
    let slot = slot(0);
    let opening = world.agents[0].peers.open(world.agents[1].id, &slot, 80);
    let (near, far) = tokio::join!(opening, backend.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn each_direction_is_closed_on_its_own() {
    let world = World::of(2).await;
    let (mut near, mut far) = tunnel(&world).await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn ten_megabytes_pass_both_ways_at_once() {
    let world = World::of(2).await;
    let (near, mut far) = tunnel(&world).await;
    let data: Vec<u8> =
        (0..10_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let (mut reading, mut writing) = tokio::io::split(near);
    let echo = async {
        let (mut reading, mut writing) = far.split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let send = async {
        writing.write_all(&data).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, (), read) = tokio::join!(send, echo, reading.read_to_end(&mut back));
    assert_eq!(read.unwrap(), data.len());
    assert!(back == data);
}

#[tokio::test]
async fn a_slow_reader_holds_back_the_writer() {
    let world = World::of(2).await;
    let (near, far) = tunnel(&world).await;
    let (_reading, mut writing) = tokio::io::split(near);
    let n_written = Arc::new(AtomicUsize::new(0));
    let tally = Arc::clone(&n_written);
    world.agents[0].tasks.spawn("writer", async move {
        let piece = vec![0; 100_000];
        while writing.write_all(&piece).await.is_ok() {
            tally.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let first = n_written.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(n_written.load(Ordering::SeqCst), first, "nothing more is taken");
    assert!(first < 100_000_000, "{first}");
    drop(far);
}

#[tokio::test]
async fn slow_readers_hold_back_neither_other_tunnels_nor_heartbeats() {
    let mut world = World::of(2).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (near, far) = tunnel(&world).await;
        let (mut reading, mut writing) = far.into_split();
        // Either direction is filled until it takes no more.
        world.agents[0]
            .tasks
            .spawn("writer", async move { while writing.write_all(&[0; 10_000]).await.is_ok() {} });
        let (near_reading, mut near_writing) = tokio::io::split(near);
        world.agents[0].tasks.spawn("writer", async move {
            while near_writing.write_all(&[0; 10_000]).await.is_ok() {}
        });
        reading.readable().await.unwrap();
        reading.read_u8().await.unwrap();
        slow.push((near_reading, reading));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut near, mut far) = tunnel(&world).await;
    let mut answer = [0; 5];
    near.write_all(b"still").await.unwrap();
    far.read_exact(&mut answer).await.unwrap();
    far.write_all(&answer).await.unwrap();
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"still");
    let node = world.agents[1].id;
    world.agents[0].peers.watch([node].into());
    for _ in 0..3 {
        world.agents[0].until(|event| matches!(event, Event::Heard { .. })).await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_taken_for_one_that_ended() {
    let world = World::of(2).await;
    let (mut near, far) = tunnel(&world).await;
    far.set_zero_linger().unwrap();
    drop(far);
    near.read_u8().await.expect_err("it was reset");
    let error = near.read(&mut [0]).await.expect_err("still");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let (near, mut far) = tunnel(&world).await;
    drop(near);
    let error = far.read(&mut [0]).await.expect_err("the near end was dropped, not closed");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_replica_that_is_gone_and_a_node_that_is_gone_are_told_apart() {
    let world = World::of(2).await;
    let (peers, node) = (&world.agents[0].peers, world.agents[1].id);
    let gone = peers.open(node, &slot(9), 80).await.map(drop);
    assert!(matches!(gone, Err(TunnelError::Gone(_))), "{gone:?}");
    let ghost = world.ghost("127.0.0.1:1");
    let unreachable = peers.open(ghost, &slot(0), 80).await.map(drop);
    assert!(matches!(unreachable, Err(TunnelError::Unreachable(_))), "{unreachable:?}");
}
