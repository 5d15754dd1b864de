//! A lease that is given up by an operator.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use mesh_coordinator::catalogue::{Body, SlotReset};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::lease::exclusive::{LEAP_MAX, StoreId, Token, WitnessId};
use mesh_coordinator::view::NodeStatus;

use super::{run, run_with, with_hello};
use crate::mesh::fake::{Fake, node_key};

const RESET: &str = "agentctl slot force-reset shop/db/0";

/// A mesh on which the exclusive `db` of `shop` runs on the first node.
async fn with_shop() -> Fake {
    let fake = with_hello().await;
    let dir = tempfile::tempdir().unwrap();
    let manifest = "name: shop\nservices: {db: {image: 'hello:1', x-mesh: {guarantee: exclusive}}}";
    std::fs::write(dir.path().join("compose.yaml"), manifest).unwrap();
    let ran = run(&fake, &format!("agentctl place {}", dir.path().display())).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    fake
}

fn lose_the_first(fake: &Fake) {
    fake.nodes.borrow_mut()[0].status = NodeStatus::Down;
}

fn last(fake: &Fake) -> SlotReset {
    let Body::SlotReset(reset) = fake.last().body else { panic!("{:?}", fake.last()) };
    reset
}

#[tokio::test(start_paused = true)]
async fn a_reset_says_what_it_asserts() {
    let fake = with_shop().await;
    lose_the_first(&fake);
    assert_snapshot!(run_with(&fake, Some(true), RESET).await.all());
    let witness = |n: u8| WitnessId { node: NodeId::of(&node_key(n)), store: StoreId(n.into()) };
    let reset = last(&fake);
    assert_eq!(reset.roster, BTreeSet::from([2, 3].map(witness)), "those who live");
    assert_eq!((reset.number, reset.after), (0, Token(LEAP_MAX)));
    assert_eq!(run(&fake, &format!("{RESET} -y")).await.code, 0);
    assert_eq!(last(&fake).after, Token(LEAP_MAX * 2), "above those of the last reset");
}

#[tokio::test(start_paused = true)]
async fn nobody_resets_in_passing() {
    let fake = with_shop().await;
    lose_the_first(&fake);
    let n_records = fake.records.borrow().len();
    assert_eq!(run(&fake, RESET).await.code, 2, "nobody can be asked");
    assert_eq!(run_with(&fake, Some(false), RESET).await.code, 1);
    assert_eq!(fake.records.borrow().len(), n_records);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_or_has_no_lease_is_not_reset() {
    let fake = with_shop().await;
    let ran = run(&fake, &format!("{RESET} -y")).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("alpha, which is alive, holds it"), "{}", ran.err);
    lose_the_first(&fake);
    let ran = run(&fake, "agentctl slot force-reset hello/hello/0 -y").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("hello/hello/0 is not exclusive"), "{}", ran.err);
}
