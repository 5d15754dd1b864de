//! From an operator's records to an answer.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Entry, RecordKey};
use mesh_coordinator::id::{Hash, Incarnation, MeshId, PublicKey};
use mesh_coordinator::message::Message;
use mesh_ports::control::{Control, SubmitError, Submitted};
use mesh_ports::peer;
use mesh_ports::store::StoreError;
use mesh_store::Disk;
use tokio::sync::mpsc;

use super::world::{Author, Bench, Plan, at_once, service};
use crate::Clock;

fn image(author: &mut Author, number: usize) -> Entry {
    author.write(Body::Image { name: format!("image{number}"), digest: "sha256:0".to_owned() })
}

#[tokio::test(start_paused = true)]
async fn what_is_submitted_is_stored_before_it_counts() {
    let mut bench = Plan::new().start();
    let release = bench.author.release(0, service(1));
    let gate = bench.parts.store.gate.lock().await;
    let mut submitted = pin!(bench.submit(release.clone()));
    assert!(at_once(&mut submitted).await.is_none(), "acknowledged without being stored");
    assert_eq!(bench.handle.record(release.record.body.key()).await, None);
    drop(gate);
    let submitted = submitted.await.unwrap();
    assert_eq!(submitted.stored_on, [bench.me]);
    bench.done("start", 1).await;
    assert!(bench.log.is_ordered(&["put", "claim Starting", "start"]), "{:?}", bench.log.all());
    let stored = bench.handle.records().await;
    assert!(stored.contains(&release));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_nothing_counts() {
    let mut bench = Plan::new().start();
    bench.parts.store.memory.set_disk(Disk::Full);
    let release = bench.author.release(0, service(1));
    let refused = bench.submit(release.clone()).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Store(StoreError::Full { .. })), "{refused}");
    assert_eq!(bench.handle.record(release.record.body.key()).await, None);
    assert_eq!(bench.log.count("claim"), 0);
    let mut events = bench.handle.events(9, false).await;
    assert!(events.recv().await.unwrap().text.starts_with("cannot store records: no space"));
    bench.parts.store.memory.set_disk(Disk::Honest);
    bench.submit(release).await.unwrap();
    bench.done("start", 1).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_may_write_is_refused_and_not_stored() {
    let mut bench = Plan::new().start();
    let mut release = bench.author.release(0, service(1));
    release.record.author = PublicKey([9; 32]);
    let submitted = bench.submit(release.clone()).await.unwrap();
    assert_eq!(submitted.refused[0].0, release.hash);
    assert!(submitted.stored_on.is_empty());
    assert_eq!(bench.log.count("put"), 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_peer_passes_on_in_vain_is_counted() {
    let (mut plan, peer) = Plan::new().with_peer();
    let mut foreign = image(&mut plan.author, 1);
    foreign.record.mesh = MeshId(Hash([9; 32]));
    let mut made_up = image(&mut plan.author, 2);
    made_up.record.author = PublicKey([9; 32]);
    let good = image(&mut plan.author, 3);
    let bench = plan.start();
    let message = Message::Records(vec![foreign, made_up, good]);
    bench.peers.send(peer::Event::Said { from: peer, message }).await.unwrap();
    bench.done("send stored", 1).await;
    let expected = [("record-refused", 1), ("record-unknown-author", 1)];
    assert_eq!(bench.parts.refusals.counts(), expected.into());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_a_second_disk() {
    let (plan, peer) = Plan::new().with_peer();
    let mut bench = plan.start();
    bench.keep_hearing(peer);
    let first = image(&mut bench.author, 1);
    let mut submitted = pin!(bench.submit(first.clone()));
    tokio::select! {
        answer = &mut submitted => panic!("answered without a second disk: {answer:?}"),
        () = bench.done("send records", 1) => {}
    }
    assert!(bench.log.is_ordered(&["put", "send records"]));
    let message = Message::Stored(vec![first.hash]);
    bench.peers.send(peer::Event::Said { from: peer, message }).await.unwrap();
    assert_eq!(submitted.await.unwrap().stored_on, [bench.me, peer]);
    let second = image(&mut bench.author, 2);
    let before = tokio::time::Instant::now();
    let alone = bench.submit(second).await.unwrap();
    assert_eq!((alone.stored_on.as_slice(), alone.n_peers), ([bench.me].as_slice(), 1));
    assert_eq!(before.elapsed().as_secs(), 3);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_told_of_its_records_when_they_are_stored() {
    let (mut plan, peer) = Plan::new().with_peer();
    let entry = image(&mut plan.author, 1);
    let bench = plan.start();
    let gate = bench.parts.store.gate.lock().await;
    let message = Message::Records(vec![entry.clone()]);
    bench.peers.send(peer::Event::Said { from: peer, message }).await.unwrap();
    assert!(at_once(pin!(bench.done("send stored", 1))).await.is_none());
    drop(gate);
    bench.done("send stored", 1).await;
    assert!(bench.log.is_ordered(&["put", "send stored"]));
    let sent = bench.parts.peers.sent.lock().unwrap().clone();
    assert!(sent.contains(&(peer, Message::Stored(vec![entry.hash]))));
    bench.stop().await;
}

/// Submits in a task each, and returns where the answers come.
fn submit_all(
    bench: &Bench,
    entries: Vec<Entry>,
    answers: &mpsc::Sender<Result<Submitted, SubmitError>>,
) {
    for entry in entries {
        let (handle, answers) = (bench.handle.clone(), answers.clone());
        bench.tasks.spawn("operator", async move {
            drop(answers.send(handle.submit(vec![entry]).await).await);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_refused_and_the_rest_is_not_lost() {
    let mut bench = Plan::new().start();
    let (answers, mut answered) = mpsc::channel(400);
    let gate = bench.parts.store.gate.lock().await;
    // All at once are more than the engine's inbox takes; one wave after the other are more than may be under way.
    for wave in [300, 100, 100] {
        let entries = (0..wave).map(|number| image(&mut bench.author, number)).collect();
        submit_all(&bench, entries, &answers);
        assert!(at_once(std::future::pending::<()>()).await.is_none());
    }
    drop((gate, answers));
    let (mut n_stored, mut n_busy) = (0, 0);
    while let Some(answer) = answered.recv().await {
        match answer {
            Ok(submitted) => {
                assert_eq!(submitted.stored_on, [bench.me]);
                n_stored += 1;
            }
            Err(SubmitError::Busy) => n_busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((n_stored, n_busy), (256, 244));
    assert_eq!(bench.log.count("put"), 256);
    bench.submit(image(&mut Plan::new().author, 1)).await.unwrap();
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_breaks_down_takes_the_agent_with_it() {
    let mut bench = Plan::new().start();
    bench.parts.store.broken.store(true, Ordering::SeqCst);
    let release = bench.author.release(0, service(1));
    assert!(matches!(bench.submit(release).await, Err(SubmitError::Stopping)));
    bench.tasks.stopping().cancelled().await;
    assert_eq!(bench.handle.overview().await, None);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_announced_before_it_is_confirmed() {
    let bench = Plan::new().start();
    bench.handle.announce_restart().await;
    assert_eq!(bench.log.count("node restarting=true"), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_from_what_holds() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let overview = bench.handle.overview().await.unwrap();
    assert_eq!(overview.problems.last().unwrap(), "port 80 is taken");
    assert_eq!((overview.nodes.len(), overview.apps.len()), (1, 1));
    let slot = bench.author.slot(0);
    assert!(!bench.handle.why(slot.clone()).await.unwrap().decisions.is_empty());
    assert_eq!(bench.handle.replica(&slot).await.unwrap().name, "web/www/0");
    assert!(bench.handle.record(RecordKey::App(slot.app)).await.is_some());
    // What is heard of a stranger changes nothing.
    let stranger = mesh_coordinator::id::NodeId::from_bytes([9; 10]);
    let heard = peer::Event::Heard { node: stranger, incarnation: Incarnation(1), wall: None };
    bench.peers.send(heard).await.unwrap();
    assert_eq!(bench.handle.overview().await.unwrap().nodes.len(), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_clock_says_something_else_is_a_problem_for_people_and_no_other() {
    let (plan, peer) = Plan::new().with_peer();
    let mut bench = plan.start();
    bench.place(service(1)).await;
    for _ in 0..32 {
        let wall = Some(Clock::new(3_600_000).wall());
        let heard = peer::Event::Heard { node: peer, incarnation: Incarnation(1), wall };
        bench.peers.send(heard).await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let problems = bench.handle.overview().await.unwrap().problems;
    assert!(problems.iter().any(|it| it.contains("no majority says which are right")));
    bench.stop().await;
}
