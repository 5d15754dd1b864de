//! Placing apps.

use std::path::PathBuf;

use insta::assert_snapshot;
use mesh_coordinator::catalogue::{Body, Record, Release};

use super::{Ran, run, run_with, with_hello};
use crate::mesh::fake::{Fake, Fate};

/// A compose file in a directory that goes when this goes.
struct Manifest {
    directory: tempfile::TempDir,
}

impl Manifest {
    fn new(text: &str) -> Self {
        let manifest = Self { directory: tempfile::tempdir().unwrap() };
        manifest.write(text);
        manifest
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("compose.yaml")
    }

    async fn place(&self, fake: &Fake, flags: &str) -> Ran {
        run(fake, &format!("agentctl place {} {flags}", self.path().display())).await
    }
}

const BLOG: &str = "
name: blog
services:
  web: {image: 'hello:1', ports: ['80:8080'], environment: {MODE: a}, deploy: {replicas: 2}}
  worker: {image: 'hello:1'}
";

fn release(record: &Record) -> &Release {
    let Body::App(release) = &record.body else { panic!("{:?} is no release", record.body) };
    release
}

#[tokio::test(start_paused = true)]
async fn a_new_app_is_planned_placed_and_waited_for() {
    let fake = Fake::new();
    let ran = Manifest::new(BLOG).place(&fake, "").await;
    assert_snapshot!(ran.all());
    let record = fake.last();
    assert_eq!((record.stamp.generation, record.parent, release(&record).version), (1, None, 1));
}

#[tokio::test(start_paused = true)]
async fn the_same_manifest_again_does_nothing() {
    let fake = Fake::new();
    let manifest = Manifest::new(BLOG);
    manifest.place(&fake, "").await;
    let ran = manifest.place(&fake, "").await;
    assert_snapshot!(ran.all());
    assert_eq!(fake.records.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_replaces_only_what_changed() {
    let fake = Fake::new();
    let manifest = Manifest::new(BLOG);
    manifest.place(&fake, "").await;
    manifest.write(&BLOG.replace("MODE: a", "MODE: b, MORE: c").replace("80:8080", "81:8080"));
    let ran = manifest.place(&fake, "").await;
    assert_snapshot!(ran.all());
    let records = fake.records.borrow();
    let (before, after) = (release(&records[0]), release(&records[1]));
    assert_eq!((after.version, records[1].stamp.generation), (2, 2));
    assert_eq!(records[1].parent, Some(crate::mesh::fake::entry(records[0].clone()).hash));
    let revision = |release: &Release, name: &str| {
        release.spec.service(&name.parse().unwrap()).unwrap().revision
    };
    assert_eq!(revision(before, "worker"), revision(after, "worker"));
    assert_eq!(revision(after, "web").number, 2);
    assert_ne!(revision(before, "web").id, revision(after, "web").id);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_left_the_manifest_is_removed() {
    let fake = Fake::new();
    let manifest = Manifest::new(BLOG);
    manifest.place(&fake, "").await;
    manifest.write(&BLOG.replace("  worker: {image: 'hello:1'}\n", ""));
    assert_snapshot!(manifest.place(&fake, "--dry-run").await.all());
    assert_eq!(fake.records.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_missing_is_named_with_the_way_to_push_it() {
    let ran = run(&Fake::new(), "agentctl place hello:2 --name hello").await;
    assert_snapshot!(ran.all());
}

#[tokio::test(start_paused = true)]
async fn a_misspelt_image_is_answered_with_the_line_that_was_meant() {
    let ran = run(&Fake::new(), "agentctl place helo:1 --name shop").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean hello:1?"), "{}", ran.err);
    assert!(ran.err.contains("next: agentctl place hello:1 --name shop"), "{}", ran.err);
    let manifest = Manifest::new(&BLOG.replace("hello:1", "helo:1"));
    let ran = manifest.place(&Fake::new(), "").await;
    assert!(ran.err.contains("next: write `image: hello:1` in "), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn an_image_needs_a_name() {
    assert_snapshot!(run(&Fake::new(), "agentctl place hello:1").await.all());
}

#[tokio::test(start_paused = true)]
async fn a_record_on_one_node_only_is_partly_done() {
    let fake = Fake::new();
    fake.lonely.set(true);
    let ran = run(&fake, "agentctl place hello:1 --name hello").await;
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("stored on one node only: alpha"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn alone_in_the_mesh_is_said_and_is_no_failure() {
    let fake = Fake::new();
    fake.nodes.borrow_mut().truncate(1);
    fake.lonely.set(true);
    let ran = run(&fake, "agentctl place hello:1 --name hello").await;
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("the one node of the mesh"), "{}", ran.err);
    assert!(ran.out.contains("no failover: the mesh has one node"), "{}", ran.out);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_give_up_are_shown_with_their_reason() {
    let fake = Fake::new();
    fake.fate.set(Fate::Fails("worker", "exited with code 1"));
    let ran = Manifest::new(BLOG).place(&fake, "").await;
    assert_snapshot!(ran.all());
    assert_eq!(ran.code, 3);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_nobody_takes_are_explained() {
    let fake = Fake::new();
    fake.fate.set(Fate::Unclaimed);
    let ran = run(&fake, "agentctl place hello:1 --name hello").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("gamma: the node has no label disk=ssd"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_mesh_is_a_failure() {
    let fake = Fake::new();
    fake.refusal.set(Some("a viewer may not place apps"));
    let ran = run(&fake, "agentctl place hello:1 --name hello").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the mesh refused it: a viewer may not place apps"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_replaced_only_with_leave() {
    let fake = with_hello().await;
    let line = "agentctl place hello:1 --name hello --replicas 2 --port 8080 -- /bin/other";
    let ran = run_with(&fake, Some(false), line).await;
    assert_eq!((ran.code, fake.records.borrow().len()), (1, 1));
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert_eq!(run_with(&fake, Some(true), line).await.code, 0);
    assert_eq!(fake.records.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_number_set_by_scale_stays_until_the_manifest_is_edited() {
    let fake = Fake::new();
    let manifest = Manifest::new(BLOG);
    manifest.place(&fake, "").await;
    run(&fake, "agentctl scale blog/web=5").await;
    let ran = manifest.place(&fake, "").await;
    assert!(ran.err.contains("web keeps 5 replicas"), "{}", ran.err);
    assert_eq!(fake.records.borrow().len(), 2);
    manifest.write(&BLOG.replace("replicas: 2", "replicas: 3"));
    assert_eq!(manifest.place(&fake, "").await.code, 0);
    assert!(matches!(fake.last().body, Body::Scale(scale) if scale.replicas == 3));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_app_is_started_by_placing_it() {
    let fake = with_hello().await;
    run(&fake, "agentctl stop hello").await;
    let ran = run(&fake, "agentctl place hello:1 --name hello --replicas 2 --port 8080").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(matches!(fake.last().body, Body::Run(run) if run.running));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_removed_gets_a_new_identity() {
    let fake = with_hello().await;
    let first = release(&fake.last()).app;
    run(&fake, "agentctl rm hello -y").await;
    run(&fake, "agentctl place hello:1 --name hello").await;
    let second = fake.last();
    assert_ne!(release(&second).app, first);
    assert_eq!((release(&second).version, second.stamp.generation), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_result_as_json() {
    let ran = run(&Fake::new(), "agentctl place hello:1 --name hello --output json").await;
    assert_snapshot!(ran.all());
}

#[tokio::test(start_paused = true)]
async fn flags_for_images_are_refused_for_manifests() {
    let ran = Manifest::new(BLOG).place(&Fake::new(), "--replicas 3").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("deploy.replicas"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_manifest_is_bad_input() {
    let manifest = Manifest::new("services: {web: {image: 'hello:1', privileged: true}}");
    let ran = manifest.place(&Fake::new(), "--name blog").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("services.web.privileged"), "{}", ran.err);
}
