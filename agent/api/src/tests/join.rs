//! A node that nobody knows can ask to be admitted, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use mesh_coordinator::catalogue::Role;
use mesh_coordinator::id::{PublicKey, Signature};
use mesh_identity::keys::KeyPair;
use mesh_identity::{record, tls};
use mesh_ports::control::{Admitted, JoinRequest};

use super::world::{World, entry, keys};
use crate::client::{Error, join};

async fn ask(world: &World, own: &Arc<KeyPair>, name: &str) -> Result<Admitted, Error> {
    let agent = &world.agents[0];
    let request = JoinRequest {
        key: own.public(),
        name: name.parse().unwrap(),
        invitation: PublicKey([1; 32]),
        invited: Signature([2; 64]),
        address: entry(own, 1),
    };
    let tls = tls::client_config(own, agent.keys.public()).unwrap();
    let address = agent.address.to_string();
    join(&address, tls, &request, &record::Codec, Duration::from_secs(5)).await
}

#[tokio::test]
async fn a_catalogue_longer_than_a_piece_arrives_whole() {
    let world = World::of(1).await;
    let author = keys(100);
    let mut records = Vec::new();
    for number in 0..=255 {
        records.push(entry(&author, number));
    }
    // As records are small, many times the same.
    let records: Vec<_> = std::iter::repeat_n(records, 30).flatten().collect();
    world.agents[0].admission.0.lock().unwrap().clone_from(&records);
    let admitted = ask(&world, &keys(150), "good").await.unwrap();
    assert_eq!(admitted.records.len(), records.len());
    assert!(admitted.records == records);
}

#[tokio::test]
async fn refusals_come_with_their_reason() {
    let world = World::of(1).await;
    let error = ask(&world, &keys(150), "taken").await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { reason } if reason.contains("is taken")), "{error}");
    let error = ask(&world, &keys(150), "other").await.unwrap_err();
    assert!(matches!(&error, Error::Refused { reason } if reason.contains("token")), "{error}");
    world.directory.removed.lock().unwrap().push(keys(151).public());
    ask(&world, &keys(151), "good").await.expect_err("a removed node stays out");
    let operator = world.operator(152, Role::Admin);
    ask(&world, &operator, "good").await.expect_err("an operator is no node");
}
