//! Commands that show what is there.

use insta::assert_snapshot;
use mesh_coordinator::view::NodeStatus;

use super::{run, run_at, with_hello};
use crate::mesh::fake::{Fake, Fate};

#[tokio::test(start_paused = true)]
async fn ps_lists_services() {
    assert_snapshot!(run(&with_hello().await, "agentctl ps").await.all());
}

#[tokio::test(start_paused = true)]
async fn ps_of_an_app_lists_replicas() {
    let fake = with_hello().await;
    fake.nodes.borrow_mut()[1].status = NodeStatus::Down;
    assert_snapshot!(run(&fake, "agentctl ps hello").await.all());
}

#[tokio::test(start_paused = true)]
async fn ps_as_json() {
    // The time of placing is the only thing that is not fixed.
    let ran = run(&with_hello().await, "agentctl ps --output json").await;
    let lines = ran.out.lines().filter(|line| !line.contains("\"written\""));
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn nodes_show_what_they_have() {
    let fake = Fake::new();
    fake.nodes.borrow_mut()[1].status = NodeStatus::Down;
    run(&fake, "agentctl drain gamma").await;
    assert_snapshot!(run(&fake, "agentctl nodes").await.all());
}

#[tokio::test(start_paused = true)]
async fn a_narrow_terminal_gets_the_columns_that_matter_most() {
    let fake = with_hello().await;
    fake.nodes.borrow_mut()[1].status = NodeStatus::Down;
    let mut shown = String::new();
    for line in ["agentctl nodes", "agentctl ps hello", "agentctl why hello/hello/0"] {
        let ran = run_at(&fake, (Some(72), None), line).await;
        assert!(ran.out.lines().all(|line| line.chars().count() <= 72), "{}", ran.out);
        shown.push_str(&ran.out);
        let all = run_at(&fake, (Some(72), None), &format!("{line} -o wide")).await.out;
        assert_eq!(all, run(&fake, line).await.out, "as on a pipe");
    }
    assert_snapshot!(shown);
}

#[tokio::test(start_paused = true)]
async fn nodes_as_json() {
    assert_snapshot!(run(&Fake::new(), "agentctl node ls --output json").await.all());
}

#[tokio::test(start_paused = true)]
async fn status_fits_one_screen() {
    let fake = with_hello().await;
    fake.nodes.borrow_mut()[1].status = NodeStatus::Down;
    fake.fate.set(Fate::Unclaimed);
    assert_snapshot!(run(&fake, "agentctl status").await.all());
}

#[tokio::test(start_paused = true)]
async fn status_as_json() {
    assert_snapshot!(run(&with_hello().await, "agentctl status --output json").await.all());
}

#[tokio::test(start_paused = true)]
async fn why_ranks_every_node() {
    assert_snapshot!(run(&with_hello().await, "agentctl why hello/hello/1").await.all());
}

#[tokio::test(start_paused = true)]
async fn why_as_json() {
    let ran = run(&with_hello().await, "agentctl why hello/hello/0 --output json").await;
    assert_snapshot!(ran.all());
}

#[tokio::test(start_paused = true)]
async fn why_needs_one_replica() {
    let ran = run(&with_hello().await, "agentctl why hello").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("name one of hello/hello/0, hello/hello/1"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn missing_events_are_partly_done() {
    assert_snapshot!(run(&Fake::new(), "agentctl events").await.all());
}

#[tokio::test(start_paused = true)]
async fn logs_of_all_replicas_are_merged_by_time() {
    assert_snapshot!(run(&with_hello().await, "agentctl logs hello").await.all());
}

#[tokio::test(start_paused = true)]
async fn logs_as_json_lines() {
    assert_snapshot!(run(&with_hello().await, "agentctl logs hello --output json").await.all());
}

#[tokio::test(start_paused = true)]
async fn exec_ends_with_the_code_of_the_command() {
    let fake = with_hello().await;
    fake.exit.set(42);
    let ran = run(&fake, "agentctl exec hello/hello/0 -- echo hi").await;
    assert_eq!((ran.code, ran.out.as_str()), (42, "echo hi"));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_app_suggests_the_nearest() {
    let ran = run(&with_hello().await, "agentctl ps helo").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean hello?"), "{}", ran.err);
}

#[tokio::test(start_paused = true)]
async fn images_are_listed() {
    assert_snapshot!(run(&Fake::new(), "agentctl image ls").await.all());
}
