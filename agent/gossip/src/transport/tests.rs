//! The link refuses what is not from a member, for us, now and once; and the codec returns what it was given.

use std::net::SocketAddr;
use std::sync::Arc;

use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use mesh_coordinator::id::Incarnation;
use mesh_coordinator::prng::Prng;
use mesh_telemetry::{Reason, Refusals};

use super::codec::Codec;
use super::link::{Arrival, Link, Parties};
use super::packet::{Header, MESSAGE_LEN_MAX};
use crate::tests::world::{Agent, Eyes, World, node, until_all_meet};

const FROM: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

async fn link(eyes: Arc<Eyes>, n: u8, life: u64) -> Link {
    let parties = Parties {
        node: node(n),
        directory: Arc::<Eyes>::clone(&eyes),
        sealer: eyes,
        addresses: Arc::default(),
        tally: Arc::default(),
        refusals: Refusals::new(),
    };
    let link = Link::open(SocketAddr::from(([127, 0, 0, 1], 0)), parties).await.unwrap();
    link.begin(Incarnation(life));
    link
}

/// Two members that know each other's life.
async fn pair(world: &Arc<World>) -> (Link, Link) {
    let a = link(Eyes::new(world, 1), 1, 11).await;
    let b = link(Eyes::new(world, 2), 2, 22).await;
    a.addresses.tell(node(2), FROM.into(), Incarnation(22));
    b.addresses.tell(node(1), FROM.into(), Incarnation(11));
    (a, b)
}

fn refused(link: &Link) -> u64 {
    let refused = link.tally.read().datagrams_refused;
    // Datagrams of former lives are normal, and no attack.
    assert!(link.refusals.count(Reason::Datagram) <= refused);
    refused
}

/// What `from` would send to node `n`.
fn packets(from: &Link, n: u8, message: &[u8]) -> Vec<Vec<u8>> {
    from.seal_for_test(node(n), message)
}

#[tokio::test]
async fn a_long_message_arrives_whole_in_any_order() {
    let world = World::of(&[1, 2]);
    let (a, b) = pair(&world).await;
    let message: Vec<u8> = (0..MESSAGE_LEN_MAX).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut packets = packets(&a, 2, &message);
    packets.reverse();
    assert_eq!(packets.len(), 52);
    let mut whole = Vec::new();
    for packet in &packets {
        assert!(packet.len() <= 1_400);
        if let Arrival::Message(message) = b.open_packet(packet, FROM.into()) {
            whole.push(message);
        }
    }
    assert!(whole == [message]);
    assert_eq!(refused(&b), 0);
    assert_eq!(b.addresses.of(node(1)), [FROM.into()]);
}

#[tokio::test]
async fn a_repeated_packet_is_refused() {
    let world = World::of(&[1, 2]);
    let (a, b) = pair(&world).await;
    let packet = packets(&a, 2, b"hello").remove(0);
    assert!(matches!(b.open_packet(&packet, FROM.into()), Arrival::Message(_)));
    assert!(matches!(b.open_packet(&packet, FROM.into()), Arrival::Nothing));
    assert_eq!(refused(&b), 1);
}

#[tokio::test]
async fn a_packet_sent_back_to_its_author_is_refused() {
    let world = World::of(&[1, 2]);
    let (a, _b) = pair(&world).await;
    let packet = packets(&a, 2, b"hello").remove(0);
    let (header, sealed) = Header::split(&packet).unwrap();
    let reflected = Header { sender: node(2), ..header }.packet(sealed);
    assert!(matches!(a.open_packet(&reflected, FROM.into()), Arrival::Nothing));
    assert_eq!(refused(&a), 1);
}

#[tokio::test]
async fn no_change_of_any_byte_gets_through() {
    let world = World::of(&[1, 2]);
    let (a, b) = pair(&world).await;
    let packet = packets(&a, 2, b"hello").remove(0);
    for place in 0..packet.len() {
        let mut altered = packet.clone();
        altered[place] ^= 0x20;
        assert!(matches!(b.open_packet(&altered, FROM.into()), Arrival::Nothing), "byte {place}");
        assert!(matches!(b.open_packet(&packet[..place], FROM.into()), Arrival::Nothing));
    }
    let n_changes = u64::try_from(2 * packet.len()).unwrap();
    assert_eq!((refused(&b), b.refusals.count(Reason::Datagram)), (n_changes, n_changes));
    assert!(matches!(b.open_packet(&packet, FROM.into()), Arrival::Message(_)), "not used up");
}

#[tokio::test]
async fn a_stranger_with_the_name_of_a_member_is_refused() {
    let world = World::of(&[1, 2]);
    let (_a, b) = pair(&world).await;
    let stranger = Arc::new(Eyes { secret: 7, ..Arc::into_inner(Eyes::new(&world, 1)).unwrap() });
    let stranger = link(stranger, 1, 99).await;
    stranger.addresses.tell(node(2), FROM.into(), Incarnation(22));
    let packet = packets(&stranger, 2, b"hello").remove(0);
    assert!(matches!(b.open_packet(&packet, FROM.into()), Arrival::Nothing));
    assert_eq!(refused(&b), 1);
    assert!(b.addresses.of(node(1)) == [FROM.into()], "nothing was learnt");
}

#[tokio::test]
async fn who_does_not_know_our_life_is_greeted_and_then_heard() {
    let world = World::of(&[1, 2]);
    let a = link(Eyes::new(&world, 1), 1, 11).await;
    let b = link(Eyes::new(&world, 2), 2, 22).await;
    let first = packets(&a, 2, b"first").remove(0);
    let Arrival::Answer(hello) = b.open_packet(&first, FROM.into()) else { panic!("no greeting") };
    assert!(b.addresses.of(node(1)).is_empty(), "what may be old teaches no address");
    assert!(matches!(a.open_packet(&hello, FROM.into()), Arrival::Nothing));
    let second = packets(&a, 2, b"second").remove(0);
    assert!(matches!(b.open_packet(&second, FROM.into()), Arrival::Message(_)));
}

#[tokio::test]
async fn what_was_recorded_before_a_restart_is_not_heard_after_it() {
    let world = World::of(&[1, 2]);
    let (a, b) = pair(&world).await;
    let packet = packets(&a, 2, b"hello").remove(0);
    assert!(matches!(b.open_packet(&packet, FROM.into()), Arrival::Message(_)));
    b.begin(Incarnation(23));
    assert!(matches!(b.open_packet(&packet, FROM.into()), Arrival::Answer(_)));
    assert_eq!(refused(&b), 1);
}

#[tokio::test]
async fn a_message_that_no_udp_could_carry_is_not_sent() {
    let world = World::of(&[1, 2]);
    let (a, _b) = pair(&world).await;
    assert_eq!(a.send(FROM.into(), &vec![0; MESSAGE_LEN_MAX + 1]).await, 0);
    assert_eq!(a.send(([127, 0, 0, 1], 10).into(), b"to nobody").await, 0);
    assert_eq!(a.tally.read().messages_undelivered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_messages_neither_stop_nor_confuse_the_codec() {
    const BEFORE_PAYLOAD: usize = 32 + 45;
    let world = World::of(&[1, 2]);
    let mut agents = Agent::start_all(&world, &[1, 2]).await;
    until_all_meet(&mut agents).await;
    drop(agents);
    let wire = world.wire.lock().unwrap().clone();
    let messages = wire.iter().filter_map(|(_, _, sealed)| sealed.get(BEFORE_PAYLOAD..));
    let messages: Vec<&[u8]> = messages.filter(|message| message.len() > 4).take(200).collect();
    let mut codec = Codec::open().await.unwrap();
    let mut prng = Prng::new(1);
    for message in &messages {
        for _ in 0..10 {
            let mut altered = message.to_vec();
            let place = usize::try_from(prng.below(u64::try_from(message.len()).unwrap())).unwrap();
            altered[place] ^= 1 << prng.below(8);
            codec.decode(&altered).await.unwrap();
        }
        let envelope = codec.decode(message).await.unwrap().expect("still in step");
        // Not byte for byte: what is compressed may come out in another order.
        assert_eq!(codec.encode(envelope).await.unwrap()[..4], message[..4]);
    }
    assert!(messages.len() > 10);
}

#[tokio::test]
async fn the_codec_reads_what_it_wrote_and_survives_rubbish() {
    let mut codec = Codec::open().await.unwrap();
    for rubbish in [&b""[..], b"x", &[0; 1_000], &[0x53, 0xb0, 1, 1, 1, 2, 3]] {
        assert!(codec.decode(rubbish).await.unwrap().is_none());
    }
    let complaint =
        ChitchatEnvelope { version: ProtocolVersion::V0, message: ChitchatMessage::BadCluster };
    let bytes = codec.encode(complaint).await.unwrap();
    assert!(codec.decode(&bytes).await.unwrap().is_none(), "a complaint has no place here");
    assert!(codec.decode(b"more rubbish").await.unwrap().is_none());
}
