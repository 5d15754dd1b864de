//! The life of containers on this node.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_coordinator::catalogue::{Body, Catalogue, Run};
use mesh_coordinator::fact::{Fact, Phase};
use mesh_coordinator::id::Incarnation;
use mesh_coordinator::lease::exclusive::{Fence, Token};
use mesh_coordinator::message::Message;
use mesh_coordinator::time::{Reading, WallTime};
use mesh_coordinator::workload::Observed;
use mesh_ports::control::Control;
use mesh_ports::network::Backend;
use mesh_ports::runtime::{ContainerId, Ended, Event, Exit, Found, Running, State, Tag};
use mesh_ports::{gossip, peer};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::fakes::Start;
use super::world::{Author, Bench, IMAGE, Plan, check, revision, service};
use crate::fetch::Fetcher;
use crate::worker::{Job, Replica, Tools};

const fn exit(code: i32) -> Exit {
    Exit { code, signal: None, oom: false, ended: WallTime(0) }
}

fn found(author: &Author, id: &str, state: State) -> Found {
    let tag = Tag { slot: author.slot(0), revision: revision(1), name: "web/www/0".to_owned() };
    Found { id: ContainerId(id.to_owned()), tag, state, fence: None }
}

const RUNNING: State =
    State::Running(Running { pid: 7, address: Ipv4Addr::new(10, 0, 0, 99), started: WallTime(0) });

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_tried_again_with_growing_pauses() {
    let mut bench = Plan::new().start();
    bench.parts.runtime.starts.lock().unwrap().extend([Start::Fails, Start::Fails]);
    let begin = Instant::now();
    bench.place(service(1)).await;
    assert_eq!(bench.log.count("start"), 3);
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    assert_eq!(bench.log.count("stop"), 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_is_started_again() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let id = bench.last_started().id;
    bench.ended.send(Event::Ended(Ended { id: id.clone(), exit: Some(exit(3)) })).await.unwrap();
    bench.done("claim Ready", 2).await;
    assert_eq!((bench.last_started().id, bench.log.count("start")), (id, 2));
    let mut events = bench.handle.events(2, false).await;
    assert_eq!(events.recv().await.unwrap().text, "ended with exit code 3");
    let Backend::Local { address, .. } = bench.backends()[0].clone() else { panic!() };
    assert_eq!(address.to_string(), "10.0.0.2:80");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stranger_changes_nothing() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let id = ContainerId("stranger".to_owned());
    bench.ended.send(Event::Ended(Ended { id, exit: None })).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((bench.log.count("start"), bench.log.count("claim Ready")), (1, 1));
    bench.stop().await;
}

/// Another node starts it when this one lets go.
#[tokio::test(start_paused = true)]
async fn what_runs_by_a_lease_is_gone_only_when_no_process_of_it_is_left() {
    let mut plan = Plan::new();
    plan.records.push(plan.author.release(0, service(1)));
    let over = Fence { token: Token(3), stop: Reading::default(), kill: Reading::default() };
    plan.found = vec![Found { fence: Some(over), ..found(&plan.author, "of-old", RUNNING) }];
    let bench = plan.start();
    bench.parts.runtime.survive.store(true, Ordering::SeqCst);
    bench.done("stop of-old", 5).await;
    assert_eq!((bench.log.count("remove of-old"), bench.log.count("start")), (0, 0));
    let overview = bench.handle.overview().await.unwrap();
    let claim = &overview.apps[0].services[0].slots[0].claims[0];
    assert_eq!(claim.phase, Phase::Released);
    let reason = "process 5 (db) in state D survives SIGKILL; its network is cut";
    assert_eq!(claim.detail, reason);
    bench.parts.runtime.survive.store(false, Ordering::SeqCst);
    bench.done("remove of-old", 1).await;
    let texts = events(&bench).await;
    let told = |wanted: &str| texts.iter().filter(|text| text.starts_with(wanted)).count();
    assert_eq!((told(reason), told("nothing is left of what survived")), (1, 1), "{texts:?}");
    bench.stop().await;
}

/// The slot may be given away for it.
#[tokio::test(start_paused = true)]
async fn a_failed_start_by_a_lease_is_told_when_nothing_of_it_is_left() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let container = bench.last_started();
    let parts = &bench.parts;
    parts.runtime.starts.lock().unwrap().extend([Start::Fails]);
    parts.runtime.survive.store(true, Ordering::SeqCst);
    let (images, blobs) = (Arc::clone(&parts.images), Arc::clone(&parts.blobs));
    let fetcher = Fetcher::new(images, blobs, parts.refusals.clone(), mpsc::channel(1).0);
    let (reports, mut reported) = mpsc::channel(8);
    let runtime = Arc::clone(&parts.runtime);
    let tools = Tools { runtime, fetcher: Arc::new(fetcher), reports };
    let Tag { slot, revision, .. } = container.tag.clone();
    let replica = Replica { id: container.id.clone(), slot, revision };
    let fence = Fence { token: Token(3), stop: Reading::default(), kill: Reading::default() };
    let (_told, fence) = watch::channel(Some(fence));
    let (worker, life) = tools.worker(replica, fence);
    bench.tasks.spawn("replica", life);
    assert!(worker.push(Job::Start(Box::new(container))));
    let first = reported.recv().await.unwrap().observed;
    assert!(matches!(first, Observed::Stuck { .. }), "{first:?}");
    bench.done("stop", 5).await;
    assert!(reported.try_recv().is_err());
    bench.parts.runtime.survive.store(false, Ordering::SeqCst);
    let next = reported.recv().await.unwrap().observed;
    assert!(matches!(next, Observed::StartFailed { .. }), "{next:?}");
    drop(worker);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_survives_and_was_not_asked_to_end_serves_nobody_until_it_has_ended() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let id = bench.last_started().id;
    let reason = "process 5 (db) in state D survives SIGKILL".to_owned();
    bench.ended.send(Event::Stuck { id: id.clone(), reason }).await.unwrap();
    bench.done("claim Starting", 2).await;
    assert!(bench.backends().is_empty());
    assert_eq!(bench.log.count("start"), 1);
    bench.ended.send(Event::Ended(Ended { id, exit: None })).await.unwrap();
    bench.done("claim Ready", 2).await;
    assert_eq!(bench.log.count("start"), 2);
    bench.stop().await;
}

async fn events(bench: &Bench) -> Vec<String> {
    let (mut events, mut texts) = (bench.handle.events(100, false).await, Vec::new());
    while let Some(event) = events.recv().await {
        texts.push(event.text);
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn what_is_found_running_is_adopted_before_anything_is_decided() {
    let mut plan = Plan::new();
    plan.records.push(plan.author.release(0, service(1)));
    plan.found = vec![found(&plan.author, "of-old", RUNNING)];
    let bench = plan.start();
    bench.done("claim Ready", 1).await;
    assert_eq!(bench.log.all()[0], "list");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((bench.log.count("start"), bench.log.count("stop")), (0, 0));
    let replica = bench.handle.replica(&bench.author.slot(0)).await.unwrap();
    assert_eq!(replica.container.0, "of-old");
    let backend = bench.handle.backend(&bench.author.slot(0), 80).await.unwrap();
    assert_eq!(backend.to_string(), "10.0.0.99:80");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_found_ended_is_started_again_under_its_name() {
    let mut plan = Plan::new();
    plan.records.push(plan.author.release(0, service(1)));
    plan.found = vec![found(&plan.author, "of-old", State::Ended(Some(exit(1))))];
    let bench = plan.start();
    bench.done("claim Ready", 1).await;
    assert_eq!((bench.log.count("start of-old"), bench.log.count("start")), (1, 1));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_found_of_no_app_is_stopped_and_removed() {
    let mut plan = Plan::new();
    plan.found = vec![found(&plan.author, "stray", RUNNING)];
    let bench = plan.start();
    bench.done("remove stray", 1).await;
    assert!(bench.log.is_ordered(&["stop stray 15 10s", "remove stray"]));
    bench.done("withdraw claim", 1).await;
    assert_eq!(bench.handle.replica(&bench.author.slot(0)).await, None);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failing_checks_make_a_replica_unhealthy_and_passing_ones_heal_it() {
    let mut bench = Plan::new().start();
    let mut checked = service(1);
    checked.template.healthcheck = Some(check("ask"));
    bench.place(checked).await;
    assert!(bench.log.is_ordered(&["claim Starting", "start", "probe", "claim Ready"]));
    assert_eq!(bench.backends().len(), 1);
    bench.parts.runtime.healthy.store(false, Ordering::SeqCst);
    bench.done("claim Unhealthy", 1).await;
    bench.until("no route", || bench.backends().is_empty()).await;
    bench.parts.runtime.healthy.store(true, Ordering::SeqCst);
    bench.done("claim Ready", 2).await;
    assert_eq!((bench.backends().len(), bench.log.count("start")), (1, 1));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_app_is_drained_stopped_and_forgotten() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let removal = bench.author.remove(0);
    bench.submit(removal).await.unwrap();
    bench.done("withdraw claim", 1).await;
    let order = ["claim Released", "stop web-www-0", "remove web-www-0", "withdraw claim"];
    assert!(bench.log.is_ordered(&order), "{:?}", bench.log.all());
    assert_eq!(bench.handle.replica(&bench.author.slot(0)).await, None);
    assert_eq!(bench.handle.backend(&bench.author.slot(0), 80).await, None);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_breaks_down_costs_one_try() {
    let mut bench = Plan::new().start();
    bench.parts.runtime.starts.lock().unwrap().push_back(Start::Panics);
    bench.place(service(1)).await;
    assert_eq!((bench.log.count("start"), bench.log.count("claim Failed")), (2, 1));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_while_a_container_starts_leaves_no_task() {
    let mut bench = Plan::new().start();
    bench.parts.runtime.starts.lock().unwrap().push_back(Start::Hangs);
    let release = bench.author.release(0, service(1));
    bench.submit(release).await.unwrap();
    bench.done("start", 1).await;
    let begin = Instant::now();
    let handle = bench.handle.clone();
    bench.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(handle.overview().await, None);
}

/// Removes the app and waits until its container is gone.
async fn remove(bench: &mut Bench, n_removals: u64) {
    let n_gone = bench.log.count("withdraw claim");
    let removal = bench.author.remove(n_removals);
    bench.submit(removal).await.unwrap();
    bench.done("withdraw claim", n_gone + 1).await;
}

#[tokio::test(start_paused = true)]
async fn names_of_containers_are_stable_and_never_come_again() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let first = bench.last_started().id;
    bench.place(service(2)).await;
    let second = bench.last_started().id;
    bench.done("withdraw claim", 1).await;
    remove(&mut bench, 0).await;
    let again = bench.author.release(1, service(1));
    bench.submit(again).await.unwrap();
    bench.done("start", 3).await;
    let third = bench.last_started().id;
    let ids = [&first, &second, &third];
    assert!(ids.iter().all(|id| id.0.starts_with("web-www-0-")), "{ids:?}");
    assert!(first != second && second != third && first != third, "{ids:?}");
    bench.stop().await;
    let mut twin = Plan::new().start();
    twin.place(service(1)).await;
    assert_eq!(twin.last_started().id, first, "the same replica has the same name everywhere");
    twin.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_removed_is_forgotten() {
    let mut plan = Plan::new();
    plan.records.push(plan.author.release(0, service(1)));
    plan.found = vec![found(&plan.author, "of-old", RUNNING)];
    let mut bench = plan.start();
    let app = bench.author.app(0);
    for running in [false, true] {
        let run = bench.author.write(Body::Run(Run { app, running }));
        bench.submit(run).await.unwrap();
        bench.done(if running { "start" } else { "withdraw claim" }, 1).await;
    }
    assert_eq!((bench.log.count("remove of-old"), bench.log.count("start web-www-0-")), (1, 1));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_told_who_it_is() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let container = bench.last_started();
    let environment: Vec<(&str, &str)> =
        container.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("MESH_APP", "web"),
        ("MESH_NODE", "alpha"),
        ("MESH_RELEASE", "v3"),
        ("MESH_SERVICE", "www"),
        ("MESH_SLOT", "web/www/0"),
        ("PORT", "80"),
    ];
    assert_eq!(environment, expected);
    assert_eq!((container.hostname.as_str(), container.ports.len()), ("www-0", 0));
    let mut own = service(2);
    own.template.environment.insert("PORT".to_owned(), "3000".to_owned());
    own.template.hostname = Some("own".to_owned());
    bench.place(own).await;
    let container = bench.last_started();
    assert!(!container.environment.contains_key("PORT"));
    assert_eq!(container.template.environment["PORT"], "3000");
    assert_eq!(container.hostname, "own");
    bench.stop().await;
}

/// The claims on the replica, as anybody sees them: of its app, or after that is gone.
async fn seen(bench: &Bench) -> Vec<Phase> {
    let overview = bench.handle.overview().await.unwrap();
    let services = overview.apps.iter().flat_map(|app| &app.services);
    let slots = services.flat_map(|service| &service.slots).chain(&overview.leaving);
    slots.flat_map(|slot| &slot.claims).map(|claim| claim.phase).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_is_seen_until_its_grace_is_over() {
    for is_removed in [true, false] {
        let mut bench = Plan::new().start();
        bench.place(service(1)).await;
        assert_eq!(seen(&bench).await, [Phase::Ready]);
        *bench.parts.runtime.stops_in.lock().unwrap() = Duration::from_secs(8);
        let app = bench.author.app(0);
        let change = if is_removed {
            bench.author.remove(0)
        } else {
            bench.author.write(Body::Run(Run { app, running: false }))
        };
        bench.submit(change).await.unwrap();
        bench.done("stop", 1).await;
        let begun = Instant::now();
        while !seen(&bench).await.is_empty() {
            assert_eq!(seen(&bench).await, [Phase::Released]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(bench.log.count("remove"), 1);
        bench.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_and_is_not_wanted_any_more_goes_at_once() {
    let mut bench = Plan::new().start();
    bench.parts.images.unusable.lock().unwrap().insert(IMAGE.to_owned());
    let release = bench.author.release(0, service(1));
    bench.submit(release).await.unwrap();
    bench.done("claim Failed", 1).await;
    let begun = Instant::now();
    let removal = bench.author.remove(0);
    bench.submit(removal).await.unwrap();
    bench.done("withdraw claim", 1).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_damage_nothing_is_a_stray_before_a_peer_was_asked() {
    for doubtful in [true, false] {
        let (mut plan, peer) = Plan::new().with_peer();
        plan.found = vec![found(&plan.author, "of-old", RUNNING)];
        plan.doubtful = doubtful;
        let release = plan.author.release(0, service(1));
        let bench = plan.start();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(bench.log.count("stop"), usize::from(!doubtful), "{:?}", bench.log.all());
        if doubtful {
            let mut events = bench.handle.events(100, false).await;
            assert_eq!(events.recv().await.unwrap().text, "the store was damaged");
            let message = Message::Records(vec![release]);
            bench.peers.send(peer::Event::Said { from: peer, message }).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            let replica = bench.handle.replica(&bench.author.slot(0)).await.unwrap();
            assert_eq!((replica.container.0.as_str(), bench.log.count("start")), ("of-old", 0));
            assert_eq!(bench.log.count("stop"), 0);
        }
        bench.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_damage_a_stray_goes_once_a_peer_knows_it_as_little() {
    let (mut plan, peer) = Plan::new().with_peer();
    plan.found = vec![found(&plan.author, "of-old", RUNNING)];
    plan.doubtful = true;
    let mut catalogue = Catalogue::new(plan.author.mesh);
    catalogue.extend(plan.records.clone());
    let bench = plan.start();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(bench.log.count("stop"), 0);
    let (incarnation, fact) = (Incarnation(1), Fact::Root(catalogue.root()));
    let published = gossip::Event::Published { node: peer, incarnation, fact };
    bench.gossip.send(published).await.unwrap();
    bench.done("stop", 1).await;
    bench.stop().await;
}
