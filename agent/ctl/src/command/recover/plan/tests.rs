//! A new root takes over what the old one has set up, but for what is named.

use mesh_coordinator::catalogue::{
    Body, Invitation, KeptRecord, Operator, OperatorRemoval, Record, Role, Run,
};
use mesh_coordinator::id::{AppUid, NodeId, PublicKey};
use mesh_coordinator::time::WallTime;
use mesh_identity::keys::KeyPair;

use super::Plan;
use crate::command::recover::Args;
use crate::failure::Failure;
use crate::intent::Author;
use crate::mesh::fake::{Fake, MESH, NOW, OPERATOR, entry, node_key};
use crate::roll::Roll;

/// The recovery key of the mesh in memory.
const RECOVERY: PublicKey = PublicKey([8; 32]);

fn key(n: u8) -> PublicKey {
    KeyPair::from_seed(&[n; 32]).public()
}

fn says(fake: &Fake, author: PublicKey, body: Body) -> Record {
    let record = Author { mesh: MESH, key: author, now: WallTime(5) }.follow(None, body);
    fake.records.borrow_mut().push(record.clone());
    record
}

fn appoints(fake: &Fake, author: PublicKey, name: &str, n: u8, role: Role) -> Record {
    let name = name.parse().unwrap();
    says(fake, author, Body::Operator(Operator { key: key(n), name, role, keep: Vec::new() }))
}

fn removes(fake: &Fake, author: PublicKey, victim: PublicKey, keep: &[&Record]) -> Record {
    let keep = keep.iter().map(|it| KeptRecord { hash: entry((*it).clone()).hash }).collect();
    says(fake, author, Body::OperatorRemoval(OperatorRemoval { key: victim, keep }))
}

/// The plan for a line, by whoever has the recovery key `me`.
async fn plan(
    fake: &Fake,
    me: PublicKey,
    drop: &[&str],
    restore: &[&str],
) -> Result<Plan, Failure> {
    fake.me.set(me);
    let roll = Roll::read(fake).await.unwrap();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let args = Args {
        key_file: None,
        name: None,
        drop: names(drop),
        restore: names(restore),
        pin: None,
        dry_run: false,
        yes: true,
    };
    let n = if me == RECOVERY { 100 } else { 102 };
    Plan::of(&args, &roll, (&key(n), &key(n + 1)), NOW)
}

fn kept(plan: &Plan, record: &Record) -> bool {
    let Body::Recovery(recovery) = &plan.record.body else { panic!("{:?}", plan.record) };
    let hash = entry(record.clone()).hash;
    recovery.keep.iter().any(|kept| kept.hash == hash)
}

#[tokio::test]
async fn what_the_old_root_has_set_up_stays() {
    let fake = Fake::new();
    let ben = appoints(&fake, OPERATOR, "ben", 50, Role::Admin);
    let stopped = says(&fake, OPERATOR, Body::Run(Run { app: AppUid([1; 16]), running: false }));
    let plan = plan(&fake, RECOVERY, &[], &[]).await.unwrap();
    assert!(kept(&plan, &ben));
    assert!(!kept(&plan, &stopped), "of an app that is no more nothing has to stay");
    assert_eq!(plan.lost, Vec::<String>::new());
    let mut operators = plan.operators.clone();
    operators.sort();
    assert_eq!(operators, ["ada (the root)", "ben (admin)"]);
    assert_eq!((plan.record.author, plan.record.stamp.generation), (RECOVERY, 1));
    assert!(plan.meaning().contains("refused for good"), "{}", plan.meaning());
}

#[tokio::test]
async fn who_is_named_goes_and_who_was_removed_comes_back() {
    let fake = Fake::new();
    appoints(&fake, OPERATOR, "ben", 50, Role::Deployer);
    let mallory = appoints(&fake, OPERATOR, "mallory", 51, Role::Admin);
    appoints(&fake, key(51), "eve", 52, Role::Deployer);
    let removal = removes(&fake, OPERATOR, key(50), &[]);
    let plan = plan(&fake, RECOVERY, &["mallory"], &["ben"]).await.unwrap();
    assert!(!kept(&plan, &mallory) && !kept(&plan, &removal));
    assert_eq!(plan.lost.len(), 2, "{:?}", plan.lost);
    assert!(plan.lost.contains(&"the operator eve".to_owned()), "{:?}", plan.lost);
    assert!(plan.operators.contains(&"ben (deployer)".to_owned()), "{:?}", plan.operators);
}

#[tokio::test]
async fn only_what_the_root_did_is_undone() {
    let fake = Fake::new();
    appoints(&fake, OPERATOR, "ben", 50, Role::Admin);
    appoints(&fake, key(50), "eve", 52, Role::Deployer);
    for (drop, restore) in [(&["eve"][..], &[][..]), (&["nobody"], &[]), (&[], &["eve"])] {
        let refused = plan(&fake, RECOVERY, drop, restore).await.unwrap_err();
        assert_eq!(refused.code(), 2, "{refused:?}");
    }
}

#[tokio::test]
async fn whoever_removed_the_root_goes_without_being_named() {
    let fake = Fake::new();
    let ben = appoints(&fake, OPERATOR, "ben", 50, Role::Admin);
    let thief = appoints(&fake, OPERATOR, "mallory", 51, Role::Admin);
    removes(&fake, key(51), OPERATOR, &[&thief]);
    let plan = plan(&fake, RECOVERY, &[], &[]).await.unwrap();
    assert!(kept(&plan, &ben), "though the thief had voided it");
    assert!(!kept(&plan, &thief));
    let mut operators = plan.operators;
    operators.sort();
    assert_eq!(operators, ["ada (the root)", "ben (admin)"]);
}

#[tokio::test]
async fn another_key_is_told_what_it_is() {
    let fake = Fake::new();
    let text = |failure: Failure| failure.message().unwrap_or_default();
    let refused = text(plan(&fake, key(7), &[], &[]).await.unwrap_err());
    assert!(refused.contains("not the recovery key of this mesh"), "{refused}");
    let record = plan(&fake, RECOVERY, &[], &[]).await.unwrap().record;
    fake.records.borrow_mut().push(record);
    let refused = text(plan(&fake, RECOVERY, &[], &[]).await.unwrap_err());
    assert!(refused.contains("was used already"), "{refused}");
    let next = plan(&fake, key(101), &[], &[]).await.unwrap();
    assert_eq!(next.record.stamp.generation, 2);
}

#[tokio::test]
async fn join_tokens_of_the_old_root_end() {
    let fake = Fake::new();
    let token = |n: u8| {
        let redeemer = NodeId::of(&node_key(1));
        let expires = WallTime(NOW.0 + 60_000);
        says(
            &fake,
            OPERATOR,
            Body::Invitation(Invitation { key: key(n), redeemer, expires, uses: 2 }),
        )
    };
    let unused = token(60);
    let plan = plan(&fake, RECOVERY, &[], &[]).await.unwrap();
    assert!(!kept(&plan, &unused));
    assert!(plan.tokens.is_empty(), "nothing rests on it");
}

#[tokio::test]
async fn misspelt_operators_get_a_suggestion() {
    let fake = Fake::new();
    appoints(&fake, OPERATOR, "ben", 50, Role::Admin);
    appoints(&fake, OPERATOR, "mallory", 51, Role::Admin);
    removes(&fake, OPERATOR, key(51), &[]);
    let dropped = plan(&fake, RECOVERY, &["bne"], &[]).await.unwrap_err();
    let restored = plan(&fake, RECOVERY, &[], &["malory"]).await.unwrap_err();
    for (failure, meant) in [(dropped, "ben"), (restored, "mallory")] {
        let text = failure.message().unwrap();
        assert_eq!(failure.code(), 2, "{text}");
        assert!(text.contains(&format!("did you mean {meant}?")), "{text}");
        assert!(text.contains("\n  next: "), "{text}");
    }
}
