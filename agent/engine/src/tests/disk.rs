//! One commit after the other.

use std::sync::Arc;

use mesh_coordinator::id::Hash;
use mesh_coordinator::node::Ticket;
use mesh_telemetry::Tasks;
use tokio::sync::mpsc;

use super::world::{Plan, at_once};
use crate::disk::{Disk, WriteError, Written};

fn of_records(written: Option<Written>) -> (Ticket, Result<(), WriteError>) {
    let Some(Written::Records { ticket, outcome }) = written else { panic!("{written:?}") };
    (ticket, outcome)
}

#[tokio::test(start_paused = true)]
async fn commits_keep_their_order() {
    let (plan, tasks) = (Plan::new(), Tasks::new("test"));
    let record = [plan.records[0].clone()];
    let bench = plan.start();
    let (done, mut written) = mpsc::channel(1);
    let gate = bench.parts.store.gate.lock().await;
    let disk = Disk::start(Arc::clone(&bench.parts.store), done, &tasks);
    disk.put(Ticket(1), &record);
    disk.erase(&[record[0].hash, Hash([0; 32])]);
    disk.put(Ticket(2), &record);
    assert!(at_once(Box::pin(written.recv())).await.is_none());
    drop(gate);
    for ticket in [1, 2] {
        let (found, outcome) = of_records(written.recv().await);
        assert_eq!(found, Ticket(ticket));
        outcome.unwrap();
    }
    let done: Vec<String> =
        bench.log.all().into_iter().filter(|what| what == "put" || what == "delete").collect();
    assert_eq!(done, ["put", "delete", "delete", "put"]);
    drop(disk);
    assert_eq!(tasks.stop(std::time::Duration::from_secs(5)).await, 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_falls_behind_says_so() {
    let (plan, tasks) = (Plan::new(), Tasks::new("test"));
    let record = [plan.records[0].clone()];
    let bench = plan.start();
    let (done, mut written) = mpsc::channel(1);
    let gate = bench.parts.store.gate.lock().await;
    let disk = Disk::start(Arc::clone(&bench.parts.store), done, &tasks);
    for ticket in 0..513 {
        disk.put(Ticket(ticket), &record);
    }
    let (refused, outcome) = of_records(written.recv().await);
    assert_eq!(refused, Ticket(512));
    assert!(matches!(outcome, Err(WriteError::Behind)));
    drop(gate);
    for ticket in 0..512 {
        let (found, outcome) = of_records(written.recv().await);
        assert!(found == Ticket(ticket) && outcome.is_ok());
    }
    bench.stop().await;
    drop(disk);
    assert_eq!(tasks.stop(std::time::Duration::from_secs(5)).await, 0);
}
