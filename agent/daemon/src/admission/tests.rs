//! A token lets in as many as it says, until it says; who is not let in is counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mesh_coordinator::catalogue::{
    Body, Catalogue, Entry, Invitation, Record, RecordKey, Run, Stamp,
};
use mesh_coordinator::clocks::Span;
use mesh_coordinator::event::Event;
use mesh_coordinator::id::{AppUid, Hash, MeshId, NodeId, PublicKey, Signature, SlotId};
use mesh_coordinator::time::WallTime;
use mesh_coordinator::view::{LeaseQuery, LeaseView, Overview, Why};
use mesh_engine::Clock;
use mesh_engine::directory::Live;
use mesh_identity::invite::{self, Invitee};
use mesh_identity::keys::{KeyPair, NodeIdentity};
use mesh_identity::record;
use mesh_ports::control::{
    Admission as _, Control, JoinError, JoinRequest, LocalReplica, SubmitError, Submitted,
};
use mesh_ports::directory::Signer as _;
use mesh_store::MemStore;
use mesh_telemetry::{Reason, Refusals};
use tokio::sync::mpsc;

use super::{Door, check_expiry, count};

const MESH: MeshId = MeshId(Hash([7; 32]));

/// An engine that knows what it was told and takes what is submitted.
#[derive(Debug, Default)]
struct Engine(Mutex<Vec<Entry>>);

impl Control for Engine {
    async fn submit(&self, entries: Vec<Entry>) -> Result<Submitted, SubmitError> {
        self.0.lock().unwrap().extend(entries);
        Ok(Submitted { stored_on: Vec::new(), n_peers: 0, refused: Vec::new() })
    }

    async fn record(&self, key: RecordKey) -> Option<Entry> {
        self.0.lock().unwrap().iter().find(|entry| entry.record.body.key() == key).cloned()
    }

    async fn records(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    async fn overview(&self) -> Option<Overview> {
        None
    }

    async fn why(&self, _slot: SlotId) -> Option<Why> {
        None
    }

    async fn leases(&self, _query: LeaseQuery) -> Vec<LeaseView> {
        Vec::new()
    }

    async fn events(&self, _tail: usize, _follow: bool) -> mpsc::Receiver<Event> {
        mpsc::channel(1).1
    }

    async fn replica(&self, _slot: &SlotId) -> Option<LocalReplica> {
        None
    }

    async fn backend(&self, _slot: &SlotId, _target: u16) -> Option<SocketAddr> {
        None
    }
}

fn signed(author: &KeyPair, body: Body) -> Entry {
    let stamp = Stamp { generation: 1, written: WallTime(1), tie: 0 };
    let record = Record { mesh: MESH, stamp, parent: None, author: author.public(), body };
    record::sign(&record, author).unwrap()
}

fn keys(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// A node that lets in whom an invitation for it names, which `spoil` makes another.
fn door(spoil: impl FnOnce(&mut Invitation)) -> Door<MemStore, Live, Engine> {
    let identity = Arc::new(NodeIdentity::new(keys(1)));
    let clock = Clock::new(0);
    let mut invitation = Invitation {
        key: keys(2).public(),
        redeemer: identity.node(),
        expires: WallTime(clock.wall().0 + 60_000),
        uses: 1,
    };
    spoil(&mut invitation);
    let entry = signed(&keys(3), Body::Invitation(invitation));
    Door {
        mesh: MESH,
        directory: Arc::new(Live::new(MESH, identity.node(), Catalogue::new(MESH).state())),
        identity,
        control: Engine(Mutex::new(vec![entry])),
        store: Arc::new(MemStore::new()),
        clock,
        refusals: Refusals::new(),
        turn: tokio::sync::Mutex::new(()),
    }
}

/// What a guest with the token asks.
fn guest(seed: u8) -> JoinRequest {
    let own = keys(seed);
    let name = format!("guest-{seed}").parse().unwrap();
    let invitee = Invitee { mesh: MESH, key: own.public(), name };
    JoinRequest {
        key: own.public(),
        invitation: keys(2).public(),
        invited: invite::sign(&keys(2), &invitee),
        name: invitee.name,
        address: signed(&own, Body::Run(Run { app: AppUid([1; 16]), running: true })),
    }
}

#[tokio::test]
async fn a_token_that_is_used_up_is_refused_and_counted_and_its_guest_is_not() {
    let door = door(|_| ());
    door.redeem(guest(10)).await.unwrap();
    for n in 1..=2 {
        let refused = door.redeem(guest(11)).await.unwrap_err();
        assert_eq!(refused, JoinError::UsedUp(1));
        assert_eq!(door.refusals.counts(), [("token-used-up", n)].into());
    }
    door.redeem(guest(10)).await.expect("its answer may have been lost");
    assert_eq!(door.refusals.count(Reason::TokenUsedUp), 2);
}

#[tokio::test]
async fn a_token_that_has_expired_is_refused_and_counted() {
    let door = door(|invitation| invitation.expires = WallTime(1));
    let refused = door.redeem(guest(10)).await.unwrap_err();
    assert!(matches!(refused, JoinError::Expired { expired: 1, .. }), "{refused}");
    assert_eq!(door.refusals.counts(), [("token-expired", 1)].into());
    assert_eq!(door.control.records().await.len(), 1, "nobody became a member");
}

#[tokio::test]
async fn a_token_that_is_not_for_this_guest_mesh_or_node_is_refused_and_counted() {
    let here = door(|_| ());
    let elsewhere = door(|invitation| invitation.redeemer = NodeId::of(&keys(9).public()));
    let others = JoinRequest { invited: guest(11).invited, ..guest(10) };
    let nonsense = JoinRequest { invited: Signature([0; 64]), ..guest(10) };
    let renamed = JoinRequest { name: "other".parse().unwrap(), ..guest(10) };
    let unknown = JoinRequest { invitation: keys(4).public(), ..guest(10) };
    for (place, request) in [others, nonsense, renamed, unknown].into_iter().enumerate() {
        here.redeem(request).await.unwrap_err();
        let counted = u64::try_from(place).unwrap() + 1;
        assert_eq!(here.refusals.counts(), [("token-invalid", counted)].into());
    }
    elsewhere.redeem(guest(10)).await.unwrap_err();
    assert_eq!(elsewhere.refusals.counts(), [("token-invalid", 1)].into());
    here.redeem(guest(10)).await.expect("the token is as good as before");
}

fn invitation(uses: u32) -> Invitation {
    let redeemer = NodeId::of(&PublicKey([1; 32]));
    Invitation { key: PublicKey([2; 32]), redeemer, expires: WallTime(100), uses }
}

#[test]
fn a_used_token_lets_nobody_else_in_and_its_guest_again() {
    let store = MemStore::new();
    let [first, second, third] = [5, 6, 7].map(|n| PublicKey([n; 32]));
    let counted = |guest| count(&store, &invitation(2), guest).unwrap();
    assert!(counted(&first) && counted(&second));
    assert!(!counted(&third), "it is used up");
    assert!(counted(&first), "whose answer was lost gets it again");
    assert!(!counted(&third));
    let other = Invitation { key: PublicKey([3; 32]), ..invitation(1) };
    assert!(count(&store, &other, &third).unwrap(), "another token is counted apart");
}

const fn between(earliest: u64, latest: u64) -> Span {
    Span { earliest: WallTime(earliest), latest: WallTime(latest) }
}

#[test]
fn an_expired_token_lets_nobody_in() {
    assert!(check_expiry(&invitation(1), between(100, 100)).is_ok());
    let expired = check_expiry(&invitation(1), between(101, 101));
    assert!(matches!(expired, Err(JoinError::Expired { expired: 100, now: 101 })));
    assert!(check_expiry(&invitation(1), between(100, 9_000)).is_ok(), "it is in doubt");
    let ended = Invitation { expires: WallTime(0), ..invitation(1) };
    assert!(check_expiry(&ended, between(0, 0)).is_err());
}

#[tokio::test]
async fn a_clock_that_is_off_neither_shortens_a_token_nor_lengthens_it() {
    let peers = [8, 9].map(|n| NodeId::of(&keys(n).public()));
    for off_ms in [3_600_000, -3_600_000, 31_536_000_000, -31_536_000_000] {
        let mut door = door(|_| ());
        let mesh = door.clock.wall();
        door.clock = Clock::new(off_ms);
        for peer in peers {
            door.clock.hear(peer, mesh);
        }
        door.redeem(guest(10)).await.expect("there is a minute left");
        for peer in peers {
            door.clock.hear(peer, WallTime(mesh.0 + 61_000));
        }
        let refused = door.redeem(guest(11)).await.unwrap_err();
        assert!(matches!(refused, JoinError::Expired { .. }), "{refused}");
    }
}
