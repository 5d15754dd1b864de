//! Agents are remembered, and none is tried with a key that nobody knows.

use mesh_coordinator::id::PublicKey;
use mesh_coordinator::view::NodeStatus;
use mesh_identity::keys::KeyPair;
use mesh_identity::operator::{Context, Contexts, KnownAgent};

use super::{alive, save, to_try};
use crate::mesh::Mesh as _;
use crate::mesh::fake::{Fake, MESH, node_key};

fn agent(n: u8, address: &str) -> KnownAgent {
    KnownAgent { address: address.to_owned(), key: node_key(n) }
}

fn context(agents: Vec<KnownAgent>) -> Context {
    Context {
        name: "prod".parse().unwrap(),
        mesh: MESH,
        mesh_name: "prod".parse().unwrap(),
        operator_name: "admin".parse().unwrap(),
        operator: KeyPair::from_seed(&[3; 32]),
        agents,
    }
}

#[test]
fn an_agent_named_by_hand_is_tried_with_its_own_key_first() {
    let known = context(vec![agent(1, "a:1"), agent(2, "b:1")]);
    let keys = |forced| -> Vec<PublicKey> {
        to_try(&known, Some(forced)).into_iter().map(|agent| agent.key).collect()
    };
    assert_eq!(keys("b:1"), [node_key(2), node_key(1)]);
    assert_eq!(keys("c:1").len(), 2);
    let all: Vec<_> = to_try(&known, None).into_iter().map(|agent| agent.address).collect();
    assert_eq!(all, ["a:1", "b:1"]);
}

#[tokio::test]
async fn the_living_are_remembered_first_and_a_working_address_is_kept() {
    let fake = Fake::new();
    fake.nodes.borrow_mut()[1].status = NodeStatus::Down;
    fake.nodes.borrow_mut()[2].addresses = vec!["inside:1".to_owned(), "outside:1".to_owned()];
    let known = context(vec![agent(3, "outside:1"), agent(9, "gone:1")]);
    let overview = fake.overview().await.unwrap();
    let agents = alive(&fake, &known, &overview).await.unwrap();
    assert_eq!(
        agents,
        [agent(1, "10.0.0.1:7443"), agent(3, "outside:1"), agent(2, "10.0.0.2:7443")]
    );
}

#[test]
fn remembering_agents_leaves_the_current_mesh_and_the_others_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("operator.json");
    let mut contexts = Contexts::default();
    let other = Context {
        name: "test".parse().unwrap(),
        mesh: mesh_coordinator::id::MeshId(mesh_coordinator::id::Hash([8; 32])),
        mesh_name: "test".parse().unwrap(),
        ..context(vec![agent(4, "d:1")])
    };
    contexts.add(context(vec![agent(1, "a:1")]));
    contexts.add(other);
    contexts.save(&path).unwrap();
    save(&path, &context(Vec::new()), vec![agent(2, "b:1")]).unwrap();
    let after = Contexts::load(&path).unwrap();
    assert_eq!(after.select(None).unwrap().mesh_name.as_str(), "test");
    assert_eq!(after.select(Some("prod")).unwrap().agents, [agent(2, "b:1")]);
    assert_eq!(after.select(Some("test")).unwrap().agents, [agent(4, "d:1")]);
}
