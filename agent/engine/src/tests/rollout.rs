//! Two definitions side by side: each is treated by its own.

use std::collections::VecDeque;
use std::time::Duration;

use mesh_coordinator::spec::StopSignal;

use super::fakes::Give;
use super::world::{Plan, check, service};

#[tokio::test(start_paused = true)]
async fn the_old_container_is_probed_and_stopped_as_it_was_defined() {
    let mut bench = Plan::new().start();
    let mut old = service(1);
    old.template.healthcheck = Some(check("old"));
    bench.place(old).await;
    let first = bench.last_started().id;
    let mut new = service(2);
    new.template.healthcheck = Some(check("new"));
    new.template.stop_signal = StopSignal::from_number(2).unwrap();
    new.template.stop_grace = Duration::from_secs(1);
    new.template.image.digest = "sha256:other".to_owned();
    let late = VecDeque::from([Give::Late(30)]);
    bench.parts.blobs.peers.lock().unwrap().insert("sha256:other".to_owned(), late);
    bench.place(new).await;
    bench.done("withdraw claim", 1).await;
    let probes: Vec<String> = bench
        .log
        .all()
        .into_iter()
        .filter(|what| what.starts_with(&format!("probe {first} ")))
        .collect();
    assert!(probes.len() > 5, "{probes:?}");
    assert!(probes.iter().all(|probe| probe.contains("old")), "{probes:?}");
    assert_eq!(bench.log.count(&format!("stop {first} 15 10s")), 1, "{:?}", bench.log.all());
    bench.stop().await;
}
