//! Events for those who look back and those who follow.

use mesh_coordinator::event::{Event, Severity, Subject};
use mesh_coordinator::id::NodeId;
use mesh_coordinator::time::WallTime;
use mesh_ports::control::Control;
use tokio::sync::mpsc;

use super::world::{Plan, service};
use crate::task::Journal;

fn event(number: usize) -> Event {
    Event {
        at: WallTime(0),
        seen_by: NodeId::from_bytes([0; 10]),
        severity: Severity::Info,
        subject: Subject::Mesh,
        text: number.to_string(),
    }
}

async fn texts(mut events: mpsc::Receiver<Event>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(event) = events.recv().await {
        texts.push(event.text);
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn the_tail_is_the_last_that_happened() {
    let mut journal = Journal::default();
    (0..2_500).for_each(|number| journal.write(&event(number)));
    assert_eq!(texts(journal.read(2, false)).await, ["2498", "2499"]);
    let all = texts(journal.read(usize::MAX, false)).await;
    assert_eq!((all.len(), all[0].as_str()), (2_000, "500"));
    assert!(texts(journal.read(0, false)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_follows_too_slowly_is_dropped_and_others_are_not() {
    let mut journal = Journal::default();
    let (slow, mut quick) = (journal.read(0, true), journal.read(0, true));
    for number in 0..300 {
        journal.write(&event(number));
        assert_eq!(quick.recv().await.unwrap().text, number.to_string());
    }
    assert_eq!(texts(slow).await.len(), 256, "it gets what fits, and then the end");
}

#[tokio::test(start_paused = true)]
async fn events_are_followed_as_they_happen() {
    let mut bench = Plan::new().start();
    let mut events = bench.handle.events(10, true).await;
    bench.place(service(1)).await;
    assert_eq!(events.recv().await.unwrap().text, "claims r1: nobody holds it");
    assert_eq!(events.recv().await.unwrap().text, "ready");
    let handle = bench.handle.clone();
    bench.stop().await;
    assert!(events.recv().await.is_none(), "the engine has stopped");
    assert!(handle.events(1, true).await.recv().await.is_none());
}
