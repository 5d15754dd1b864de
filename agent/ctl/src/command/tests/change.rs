//! Commands that change what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use insta::assert_snapshot;
use mesh_coordinator::catalogue::{Body, Release};
use mesh_coordinator::fact::Phase;
use mesh_coordinator::id::{AppUid, NodeId};
use mesh_coordinator::lease::exclusive::{StoreId, WitnessId};
use mesh_coordinator::name::AppName;
use mesh_coordinator::spec::AppSpec;
use mesh_coordinator::view::{NodeStatus, NodeView};

use super::{run, run_with, with_hello};
use crate::mesh::fake::{Fake, Fate, MESH, NOW, node, node_key};

#[tokio::test(start_paused = true)]
async fn scale_writes_a_number_and_waits_for_it() {
    let fake = with_hello().await;
    let ran = run(&fake, "agentctl scale hello=5").await;
    assert_snapshot!(ran.all());
    assert!(matches!(fake.last().body, Body::Scale(scale) if scale.replicas == 5));
    assert!(run(&fake, "agentctl scale hello/hello=5").await.out.contains("nothing to do"));
}

#[tokio::test(start_paused = true)]
async fn scaling_down_needs_leave() {
    let fake = with_hello().await;
    assert_eq!(run_with(&fake, Some(false), "agentctl scale hello=1").await.code, 1);
    assert_eq!(run_with(&fake, Some(false), "agentctl scale hello=1 -y").await.code, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_service_suggests_the_nearest() {
    let fake = with_hello().await;
    let ran = run(&fake, "agentctl scale hello/helo=5").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean hello?"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn each_restart_counts_one_more() {
    let fake = with_hello().await;
    for count in 1..=2 {
        let ran = run(&fake, "agentctl restart hello").await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        let record = fake.last();
        assert!(matches!(record.body, Body::Restart(restart) if restart.count == count));
        assert_eq!(record.stamp.generation, count);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_and_start_are_done_once() {
    let fake = with_hello().await;
    assert_eq!(run(&fake, "agentctl stop hello").await.out, "stopped hello\n");
    assert_eq!(
        run(&fake, "agentctl stop hello").await.out,
        "nothing to do: stopped hello already\n"
    );
    assert_eq!(run(&fake, "agentctl start hello").await.code, 0);
    assert_eq!(fake.records.borrow().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_removal_in_a_script_needs_the_flag() {
    let fake = with_hello().await;
    let ran = run(&fake, "agentctl rm hello").await;
    assert_snapshot!(ran.all());
    assert_eq!(run(&fake, "agentctl rm hello -y").await.code, 0);
    assert!(run(&fake, "agentctl ps").await.out.contains("no app is placed yet"));
}

/// An app with no services that needs one, of this roster.
fn rostered(store: u128) -> Release {
    let name: AppName = "shop".parse().unwrap();
    let witness = WitnessId { node: NodeId::of(&node_key(1)), store: StoreId(store) };
    let roster = BTreeSet::from([witness]);
    let app = AppUid::with_roster(MESH, &name, 0, &roster);
    let spec = AppSpec { name, services: BTreeMap::new() };
    Release { app, version: 1, spec, roster }
}

#[tokio::test(start_paused = true)]
async fn a_removal_takes_what_is_parked_under_the_name() {
    let fake = Fake::new();
    let releases = [rostered(1), rostered(2)];
    for release in &releases {
        crate::intent::submit(&fake, vec![Body::App(release.clone())]).await.unwrap();
    }
    assert_eq!(run(&fake, "agentctl rm shop -y").await.code, 0);
    let records = fake.records.borrow();
    let removed: BTreeSet<AppUid> = records
        .iter()
        .filter_map(|record| {
            let Body::AppRemoval { app, .. } = &record.body else { return None };
            Some(*app)
        })
        .collect();
    assert_eq!(removed, releases.into_iter().map(|it| it.app).collect());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_node_holds_nothing() {
    let fake = with_hello().await;
    let ran = run(&fake, "agentctl drain alpha").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "drained alpha\n"));
    assert_eq!(run(&fake, "agentctl undrain alpha").await.out, "undrained alpha\n");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_does_not_end_fails_in_time() {
    let fake = Fake::new();
    fake.leave("blog/hello/0", &node(1, "alpha"), Phase::Ready);
    fake.leave("blog/hello/1", &node(2, "beta"), Phase::Ready);
    let ran = run(&fake, "agentctl drain alpha --timeout 10s").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("after 10s there is still blog/hello/0 on alpha;"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ended_does_not_hold_up_a_drain() {
    let fake = Fake::new();
    fake.nodes.borrow_mut()[0].n_claims = 1;
    fake.leave("backup/hello/0", &node(1, "alpha"), Phase::Ended);
    let ran = run(&fake, "agentctl drain alpha --timeout 10s").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "drained alpha\n"));
    let said = "backup/hello/0 ended with exit code 0: alpha keeps the note of it";
    assert!(ran.err.contains(said), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn containers_that_are_still_stopping_are_waited_for() {
    for line in ["agentctl rm hello -y", "agentctl stop hello", "agentctl drain alpha"] {
        let fake = with_hello().await;
        fake.leave("hello/hello/0", &node(1, "alpha"), Phase::Released);
        fake.leaves_after.set(40);
        let begun = tokio::time::Instant::now();
        let ran = run(&fake, line).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        assert!(begun.elapsed() >= Duration::from_secs(9), "{line}: {:?}", begun.elapsed());
        assert!(ran.err.contains("hello/hello/0 on alpha (stopping)"), "{line}: {}", ran.err);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_that_is_longer_than_the_patience_is_told() {
    let fake = with_hello().await;
    fake.leave("hello/hello/0", &node(1, "alpha"), Phase::Released);
    let ran = run(&fake, "agentctl stop hello --timeout 5s").await;
    let said = "after 5s there is still hello/hello/0 on alpha (stopping); the mesh goes on";
    assert!(ran.code == 1 && ran.err.contains(said), "{}", ran.err);
    assert_eq!(run(&fake, "agentctl start hello").await.code, 0);
    assert_eq!(run(&fake, "agentctl stop hello --detach").await.code, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_held_is_not_waited_for() {
    let fake = with_hello().await;
    let lost = NodeView { status: NodeStatus::Down, ..node(3, "gamma") };
    fake.leave("hello/hello/0", &lost, Phase::Ready);
    let ran = run(&fake, "agentctl rm hello -y").await;
    assert!(ran.code == 0 && ran.err.contains("gamma cannot be asked"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn labels_are_set_and_removed_in_one_record() {
    let fake = Fake::new();
    run(&fake, "agentctl node label alpha disk=ssd rack=1").await;
    let ran = run(&fake, "agentctl node label alpha rack- zone=a --weight 50").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let Body::Labels(labels) = fake.last().body else { panic!("no labels") };
    let labels: Vec<_> =
        labels.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["disk=ssd", "zone=a"]);
}

#[tokio::test(start_paused = true)]
async fn removing_a_node_says_what_it_means() {
    let fake = Fake::new();
    fake.nodes.borrow_mut()[2].n_claims = 2;
    assert_snapshot!(run_with(&fake, Some(true), "agentctl node rm gamma").await.all());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lives_is_not_forgotten() {
    let fake = Fake::new();
    assert_eq!(run(&fake, "agentctl node forget gamma -y").await.code, 1);
    fake.nodes.borrow_mut()[2].status = NodeStatus::Down;
    assert_eq!(run(&fake, "agentctl node forget gamma -y").await.code, 0);
    assert!(matches!(fake.last().body, Body::MemberRemoval { destroyed: true, .. }));
}

#[tokio::test(start_paused = true)]
async fn who_joined_through_a_removed_node_stays() {
    let fake = Fake::new();
    // In the mesh of the tests beta joined through gamma, and the others did not.
    assert_eq!(run(&fake, "agentctl node rm gamma -y").await.code, 0);
    let Body::MemberRemoval { keep, .. } = fake.last().body else { panic!("no removal") };
    assert_eq!(keep.len(), 1);
    assert_eq!(run(&fake, "agentctl node rm beta -y").await.code, 0);
    let Body::MemberRemoval { keep, .. } = fake.last().body else { panic!("no removal") };
    assert!(keep.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_a_line_to_paste() {
    let fake = Fake::new();
    let ran = run(&fake, "agentctl token create --uses 2 --node beta").await;
    assert_eq!(ran.out, "agent join 10.0.0.2:7443 --token mesh1-secret\n");
    let Body::Invitation(invitation) = fake.last().body else { panic!("no invitation") };
    assert_eq!(invitation.uses, 2);
    assert_eq!(invitation.expires.0, NOW.0 + 3_600_000, "by the time of the mesh");
}

#[tokio::test(start_paused = true)]
async fn pushed_images_are_named_in_the_catalogue() {
    let fake = Fake::new();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let line = format!("agentctl image push {}", archive.path().display());
    let ran = run(&fake, &line).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(matches!(fake.last().body, Body::Image { name, .. } if name == "hello:1"));
    // Agents have no names for what they fetched from each other.
    fake.images.borrow_mut()[0].names.clear();
    let listed = run(&fake, "agentctl image ls").await;
    assert!(listed.out.contains("\nhello:1  sha256:"), "{}", listed.out);
    fake.images.borrow_mut().clear();
    assert_eq!(run(&fake, "agentctl place hello:1 --name hello").await.code, 0);
    let missing = run(&fake, "agentctl place helo:1 --name new").await;
    assert!(missing.err.contains("did you mean hello:1?"), "{}", missing.err);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_is_a_failure() {
    let fake = with_hello().await;
    fake.fate.set(Fate::Fails("hello", "exited with code 1"));
    let ran = run(&fake, "agentctl restart hello --timeout 20s").await;
    assert_snapshot!(ran.all());
}

#[tokio::test(start_paused = true)]
async fn what_is_done_says_what_can_be_done_next() {
    let fake = Fake::new();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let push = format!("agentctl image push {}", archive.path().display());
    let cases = [
        (push.as_str(), "next: agentctl place hello:1 --name hello\n"),
        ("agentctl place hello:1 --name new", "next: agentctl logs -f new; agentctl ps new\n"),
        ("agentctl stop new", "next: agentctl start new; agentctl rm new\n"),
        ("agentctl drain alpha", "next: agentctl undrain alpha lets it hold replicas again\n"),
    ];
    for (line, next) in cases {
        let ran = run(&fake, line).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        assert!(ran.err.ends_with(next), "{line}: {}", ran.err);
        assert!(!ran.out.contains("next:"), "{line}: what programs read stays as it was");
    }
    let json = run(&fake, "agentctl drain alpha --output json").await;
    assert!(json.code == 0 && !json.err.contains("next:"), "{}", json.err);
    fake.fate.set(Fate::Fails("bad", "exited with code 1"));
    let failed = run(&fake, "agentctl place hello:1 --name bad --timeout 20s").await;
    assert!(failed.code == 1 && !failed.err.contains("next: agentctl logs -f"), "{}", failed.err);
}
