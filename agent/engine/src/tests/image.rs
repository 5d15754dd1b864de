//! Images come before the containers that are made from them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mesh_ports::control::Control;
use mesh_telemetry::{Reason, Refusals};
use tokio::time::Instant;

use super::fakes::Give;
use super::world::{Bench, IMAGE, LAYERS, Plan, service};
use crate::fetch::Fetcher;

fn give<const N: usize>(bench: &Bench, blob: &str, gives: [Give; N]) {
    bench.parts.blobs.peers.lock().unwrap().insert(blob.to_owned(), VecDeque::from(gives));
}

fn take(bench: &Bench, blob: &str) {
    bench.parts.blobs.peers.lock().unwrap().remove(blob);
}

async fn texts(bench: &Bench) -> Vec<String> {
    let mut events = bench.handle.events(100, false).await;
    let mut texts = Vec::new();
    while let Some(event) = events.recv().await {
        texts.push(event.text);
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn a_container_starts_when_its_image_has_come_from_a_peer() {
    let mut bench = Plan::new().start();
    bench.place(service(1)).await;
    let first = |what: &str, blob: &str| format!("{what} {blob}");
    let order = [
        first("fetch", IMAGE),
        first("keep", IMAGE),
        first("fetch", LAYERS[0]),
        first("keep", LAYERS[0]),
        first("fetch", LAYERS[1]),
        first("keep", LAYERS[1]),
        first("unpack", IMAGE),
        "start".to_owned(),
    ];
    let order: Vec<&str> = order.iter().map(String::as_str).collect();
    assert!(bench.log.is_ordered(&order), "{:?}", bench.log.all());
    assert_eq!(bench.log.count("fetch"), 3);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_arrives_damaged_is_fetched_again() {
    let mut bench = Plan::new().start();
    give(&bench, LAYERS[0], [Give::Damaged, Give::Whole]);
    bench.place(service(1)).await;
    assert_eq!(bench.log.count("refuse"), 1);
    assert_eq!(bench.log.count(&format!("fetch {}", LAYERS[0])), 2);
    assert_eq!((bench.log.count("fetch"), bench.log.count("start")), (4, 1));
    let told = format!("a peer gave {} with wrong bytes: asked again", LAYERS[0]);
    assert!(texts(&bench).await.contains(&told));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_found_damaged_here_is_fetched_again() {
    let mut bench = Plan::new().start();
    let all = [IMAGE].into_iter().chain(LAYERS).map(str::to_owned);
    bench.parts.images.here.lock().unwrap().extend(all);
    bench.parts.images.rotten.lock().unwrap().extend(LAYERS.map(str::to_owned));
    bench.place(service(1)).await;
    assert_eq!((bench.log.count("damaged"), bench.log.count("fetch")), (2, 2));
    let texts = texts(&bench).await;
    for layer in LAYERS {
        let told = format!(
            "{layer} was damaged on this node's disk: removed; it is fetched again when it is needed"
        );
        assert!(texts.contains(&told), "{texts:?}");
    }
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_only_comes_damaged_is_given_up() {
    let mut bench = Plan::new().start();
    give(&bench, LAYERS[0], [Give::Damaged]);
    let release = bench.author.release(0, service(1));
    bench.submit(release).await.unwrap();
    bench.done("claim Failed", 1).await;
    assert!(bench.parts.refusals.count(Reason::BlobDigest) > 1);
    let claim =
        bench.handle.overview().await.unwrap().apps[0].services[0].slots[0].claims[0].clone();
    assert!(claim.detail.contains("does not become complete"), "{claim:?}");
    assert_eq!(bench.log.count("start"), 0);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_looked_for_again() {
    let mut bench = Plan::new().start();
    take(&bench, LAYERS[1]);
    let release = bench.author.release(0, service(1));
    bench.submit(release).await.unwrap();
    bench.done(&format!("fetch {}", LAYERS[1]), 2).await;
    let texts = texts(&bench).await;
    let expected = format!("cannot start: no reachable node has {}", LAYERS[1]);
    assert!(texts.contains(&expected), "{texts:?}");
    give(&bench, LAYERS[1], [Give::Half, Give::Whole]);
    bench.done("claim Ready", 1).await;
    // What came whole the first time is not fetched again.
    assert_eq!(bench.log.count(&format!("fetch {}", LAYERS[0])), 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_used_is_not_tried_again_soon() {
    let mut bench = Plan::new().start();
    bench.parts.images.unusable.lock().unwrap().insert(IMAGE.to_owned());
    let release = bench.author.release(0, service(1));
    let begin = Instant::now();
    bench.submit(release).await.unwrap();
    bench.done("claim Failed", 1).await;
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_app_ends_the_fetch_of_its_image() {
    let mut bench = Plan::new().start();
    give(&bench, LAYERS[0], [Give::Late(1_000)]);
    let release = bench.author.release(0, service(1));
    bench.submit(release).await.unwrap();
    bench.done(&format!("fetch {}", LAYERS[0]), 1).await;
    let begin = Instant::now();
    let removal = bench.author.remove(0);
    bench.submit(removal).await.unwrap();
    bench.done("withdraw claim", 1).await;
    bench.done("hung up", 1).await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    let n_fetches = bench.log.count("fetch");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!((bench.log.count("start"), bench.log.count("fetch")), (0, n_fetches));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_takes_longer_than_a_start_may_still_comes() {
    let mut bench = Plan::new().start();
    give(&bench, LAYERS[0], [Give::Late(100)]);
    bench.place(service(1)).await;
    assert!(bench.log.is_ordered(&["claim Failed", "start", "claim Ready"]));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_outlasts_its_start_is_finished_for_the_next_one() {
    let mut bench = Plan::new().start();
    give(&bench, LAYERS[0], [Give::Late(100)]);
    let release = bench.author.release(0, service(1));
    bench.submit(release).await.unwrap();
    bench.done(&format!("fetch {}", LAYERS[0]), 1).await;
    let removal = bench.author.remove(0);
    bench.submit(removal).await.unwrap();
    bench.done("withdraw claim", 1).await;
    // The coordinator has asked for this image before and does not ask again.
    let again = bench.author.release(1, service(1));
    bench.submit(again).await.unwrap();
    bench.done("claim Ready", 1).await;
    assert!(bench.log.is_ordered(&["hung up", "claim Failed", "start", "claim Ready"]));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_to_be_had_ahead_of_time_is_tried_again() {
    let bench = Plan::new().start();
    take(&bench, LAYERS[1]);
    let (images, blobs) = (Arc::clone(&bench.parts.images), Arc::clone(&bench.parts.blobs));
    let (news, _unheard) = tokio::sync::mpsc::channel(1);
    let fetcher = Arc::new(Fetcher::new(images, blobs, Refusals::new(), news));
    for seed in 0..2 {
        let fetcher = Arc::clone(&fetcher);
        bench.tasks.spawn("prefetch", async move { fetcher.ensure_ahead(IMAGE, seed).await });
    }
    bench.done(&format!("fetch {}", LAYERS[1]), 2).await;
    give(&bench, LAYERS[1], [Give::Whole]);
    bench.done("unpack", 1).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    // Whoever asked second has left it to the first.
    assert_eq!((bench.log.count("fetch"), bench.log.count("unpack")), (5, 1));
    bench.stop().await;
}
