//! Operators come, change and go, and what they have set up stays.

use insta::assert_snapshot;
use mesh_coordinator::catalogue::{
    Body, Invitation, Operator, OperatorRemoval, Record, RecordKey, Role,
};
use mesh_coordinator::id::{NodeId, PublicKey};
use mesh_coordinator::time::WallTime;
use mesh_identity::keys::KeyPair;

use super::{Ran, run, run_with, with_hello};
use crate::intent::Author;
use crate::mesh::fake::{Fake, MESH, NOW, entry, node_key};

fn key(n: u8) -> PublicKey {
    KeyPair::from_seed(&[n; 32]).public()
}

fn says(fake: &Fake, author: PublicKey, body: Body) -> Record {
    let record = Author { mesh: MESH, key: author, now: WallTime(5) }.follow(None, body);
    fake.records.borrow_mut().push(record.clone());
    record
}

async fn add(fake: &Fake, name: &str, role: &str, n: u8) -> Ran {
    run(fake, &format!("agentctl operator add {name} --role {role} --key {}", key(n))).await
}

/// What was kept by the last removal.
fn kept(fake: &Fake) -> Vec<String> {
    let records = fake.records.borrow();
    let removal = records.iter().rev().find_map(|record| {
        if let Body::OperatorRemoval(removal) = &record.body { Some(removal) } else { None }
    });
    let OperatorRemoval { keep, .. } = removal.expect("somebody was removed");
    let all = records.iter().map(|record| (entry(record.clone()).hash, record));
    let of = |hash| all.clone().find(|(known, _)| *known == hash).map(|(_, record)| record);
    let mut kinds: Vec<String> = keep
        .iter()
        .filter_map(|kept| of(kept.hash))
        .map(|record| format!("{:?}", record.body.key()))
        .map(|key| key.split('(').next().unwrap_or_default().to_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds.len(), keep.len(), "only what is there is listed");
    kinds
}

#[tokio::test]
async fn a_new_operator_is_written_and_gets_a_line_to_type() {
    let fake = Fake::new();
    let ran = add(&fake, "ben", "deployer", 50).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let expected = Operator {
        key: key(50),
        name: "ben".parse().unwrap(),
        role: Role::Deployer,
        keep: Vec::new(),
    };
    assert_eq!(fake.last().body, Body::Operator(expected));
    assert!(ran.err.contains("ben is a deployer of prod"), "{}", ran.err);
    let again = add(&fake, "ben", "deployer", 50).await;
    assert!(again.code == 0 && again.err.contains("already"), "{}", again.err);
    assert_eq!(fake.records.borrow().len(), 1);
}

#[tokio::test]
async fn operators_are_listed_with_those_who_appointed_them() {
    let fake = Fake::new();
    add(&fake, "ben", "admin", 50).await;
    fake.me.set(key(50));
    add(&fake, "cleo", "viewer", 51).await;
    run(&fake, "agentctl operator rm cleo -y").await;
    // Days of the week pass, and snapshots do not.
    for record in fake.records.borrow_mut().iter_mut() {
        record.stamp.written = WallTime(1_800_000_000_000);
    }
    assert_snapshot!(run(&fake, "agentctl operator ls --all").await.all());
    let json = run(&fake, "agentctl operator ls --output json").await;
    assert!(json.out.contains("\"you\": true") && !json.out.contains("cleo"), "{}", json.out);
}

#[tokio::test]
async fn a_role_is_changed_by_name() {
    let fake = Fake::new();
    add(&fake, "ben", "viewer", 50).await;
    let ran = run(&fake, "agentctl operator add ben --role admin").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(matches!(fake.last().body, Body::Operator(ben) if ben.role == Role::Admin));
    assert_eq!(fake.last().stamp.generation, 2);
}

#[tokio::test]
async fn what_cannot_be_an_operator_is_refused_with_the_reason() {
    let fake = Fake::new();
    add(&fake, "ben", "viewer", 50).await;
    let node = format!("agentctl operator add eve --role viewer --key {}", node_key(1));
    let cases = [
        ("agentctl operator add bem --role viewer".to_owned(), 2, "did you mean ben?"),
        (format!("agentctl operator add ben --role viewer --key {}", key(51)), 2, "another key"),
        (node, 2, "key of a node"),
        ("agentctl operator rm bem -y".to_owned(), 2, "did you mean ben?"),
        ("agentctl operator rm ada -y".to_owned(), 2, "is yourself"),
        ("agentctl operator rm ben".to_owned(), 2, "repeat it with -y"),
    ];
    for (line, code, reason) in cases {
        let ran = run(&fake, &line).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        assert!(ran.err.contains(reason), "{line}: {}", ran.err);
    }
    run(&fake, "agentctl operator rm ben -y").await;
    let again = add(&fake, "benny", "viewer", 50).await;
    assert!(
        again.code == 1 && again.err.contains("this key was ben and was removed"),
        "{}",
        again.err
    );
    assert_eq!(fake.records.borrow().len(), 2);
}

#[tokio::test]
async fn a_deployer_is_told_so_before_anything_is_asked() {
    let fake = Fake::new();
    add(&fake, "ben", "deployer", 50).await;
    add(&fake, "cleo", "viewer", 51).await;
    fake.me.set(key(50));
    for line in ["agentctl operator rm cleo", "agentctl operator add cleo --role admin"] {
        let ran = run(&fake, line).await;
        assert_eq!(ran.code, 1, "{line}");
        assert!(ran.err.contains("needs the role admin"), "{line}: {}", ran.err);
    }
    assert_eq!(fake.records.borrow().len(), 2);
}

#[tokio::test]
async fn a_change_that_would_have_no_effect_is_not_written() {
    let fake = Fake::new();
    add(&fake, "ben", "admin", 50).await;
    add(&fake, "cleo", "viewer", 51).await;
    fake.me.set(key(50));
    let ran = run(&fake, "agentctl operator add ada --role viewer").await;
    assert!(ran.code == 1 && ran.err.contains("the root of a mesh is an admin"), "{}", ran.err);
    let ran = run(&fake, "agentctl operator add ben --role viewer").await;
    assert!(ran.code == 1 && ran.err.contains("another admin has to write it"), "{}", ran.err);
    assert_eq!(fake.records.borrow().len(), 2);
    let ran = run(&fake, "agentctl operator add cleo --role admin").await;
    assert_eq!(ran.code, 0, "whom the root made an operator, another admin may raise: {}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn what_a_demoted_operator_has_set_up_stays() {
    let fake = with_hello().await;
    add(&fake, "ben", "admin", 50).await;
    fake.me.set(key(50));
    run(&fake, "agentctl place hello:1 --name blog --replicas 1").await;
    add(&fake, "cleo", "viewer", 51).await;
    fake.me.set(crate::mesh::fake::OPERATOR);
    let ran = run(&fake, "agentctl operator add ben --role viewer").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let Body::Operator(ben) = fake.last().body else { panic!("{:?}", fake.last()) };
    assert_eq!((ben.role, ben.keep.len()), (Role::Viewer, 2), "the release, and cleo");
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_operator_has_set_up_stays() {
    let fake = with_hello().await;
    let (ben, stolen) = (key(50), key(60));
    add(&fake, "ben", "admin", 50).await;
    fake.me.set(ben);
    run(&fake, "agentctl place hello:1 --name blog --replicas 1").await;
    run(&fake, "agentctl place hello:1 --name gone --replicas 1").await;
    run(&fake, "agentctl scale gone=2").await;
    run(&fake, "agentctl scale hello=3").await;
    run(&fake, "agentctl rm gone -y").await;
    run(&fake, "agentctl node label alpha disk=ssd").await;
    add(&fake, "cleo", "deployer", 51).await;
    add(&fake, "dan", "deployer", 52).await;
    run(&fake, "agentctl operator rm dan -y").await;
    let lasting = WallTime(NOW.0 + 3_600_000);
    for (n, expires) in [(61, lasting), (60, lasting), (62, WallTime(1))] {
        let redeemer = NodeId::of(&node_key(1));
        says(&fake, ben, Body::Invitation(Invitation { key: key(n), redeemer, expires, uses: 3 }));
    }
    let delta = mesh_coordinator::catalogue::Member {
        key: node_key(4),
        name: "delta".parse().unwrap(),
        invitation: Some(stolen),
        invited: Some(mesh_coordinator::id::Signature([1; 64])),
    };
    says(&fake, node_key(1), Body::Member(delta));
    fake.me.set(crate::mesh::fake::OPERATOR);
    // Hello is scaled again by somebody else, so that what ben said of it holds no more.
    run(&fake, "agentctl scale hello=1").await;

    let ran = run_with(&fake, Some(true), "agentctl operator rm ben").await;
    assert_snapshot!(ran.all());
    let expected = ["App", "AppRemoval", "Labels", "Operator", "Operator", "OperatorRemoval"];
    assert_eq!(kept(&fake), expected, "{}", ran.err);
    // The invitation by which delta came holds, used up; the other ones are void.
    let ended = fake.records.borrow().iter().rev().find_map(|record| {
        let Body::Invitation(invitation) = &record.body else { return None };
        Some((record.author, invitation.clone()))
    });
    let (author, ended) = ended.unwrap();
    assert_eq!(
        (author, ended.key, ended.expires),
        (crate::mesh::fake::OPERATOR, stolen, WallTime(0))
    );
    let members = crate::roll::Roll::read(&fake).await.unwrap();
    assert!(members.state().nodes.contains_key(&NodeId::of(&node_key(4))), "delta stays");
    assert_eq!(members.state().invitations.len(), 1);
    assert!(members.catalogue().record(&RecordKey::Operator(key(51))).is_some());
}

#[tokio::test]
async fn whoever_appointed_me_can_be_removed_by_me_and_takes_nothing_along() {
    let fake = Fake::new();
    add(&fake, "ben", "admin", 50).await;
    fake.me.set(key(50));
    let ran = run(&fake, "agentctl operator rm ada -y").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let listed = run(&fake, "agentctl operator ls").await;
    assert!(listed.out.contains("ben (you)") && !listed.out.contains("\nada"), "{}", listed.out);
}
