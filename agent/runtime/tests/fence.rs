//! Containers that run by a lease: what they are told, and that they end with it, whoever is there and whatever they do.
//!
//! Deadlines are those of the clocks by which leases end; a guard has a second for a kill, which is what the shortest lease leaves.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use mesh_coordinator::lease::exclusive::{Fence, Token};
use mesh_coordinator::time::Reading;
use mesh_ports::clock::LeaseClock as _;
use mesh_ports::runtime::{
    Container, ContainerError, ContainerId, Runtime as _, StartError, State,
};
use mesh_runtime::clock::SteadyClock;
use mesh_runtime::embedded::Config;

use crate::fixture::{
    Node, PATIENCE, container, group_file, on_a_node, on_a_node_with, processes_with,
};

/// What the shortest lease leaves for a kill.
const KILL: Duration = Duration::from_secs(1);

pub(crate) fn now() -> Reading {
    SteadyClock::of_this_boot().expect("a boot").reading()
}

/// A fence of lease 7 whose times come after so many milliseconds.
pub(crate) fn fence(stop: u64, kill: u64) -> Fence {
    let at = |millis| now() + Duration::from_millis(millis);
    Fence { token: Token(7), stop: at(stop), kill: at(kill) }
}

pub(crate) fn fenced(id: &str, does: &[&str], fence: Fence) -> Container {
    Container { fence: Some(fence), ..container(id, does) }
}

/// The processes of a container, as long as it has a group.
pub(crate) fn processes(config: &Config, id: &str) -> Vec<i32> {
    let text = group_file(config, id, "freezer", "cgroup.procs", "cgroup.procs");
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Waits until a container has no process, which must come after its deadline and in time.
pub(crate) async fn dies_at(config: &Config, id: &str, kill: Reading) {
    assert!(!processes(config, id).is_empty() || now().may_be_past(kill), "{id} died too early");
    loop {
        let before = now();
        if processes(config, id).is_empty() {
            assert!(now().may_be_past(kill), "{id} died too early");
            assert!(!before.may_be_past(kill + KILL), "{id} died too late");
            return;
        }
        assert!(!before.may_be_past(kill + PATIENCE), "{id} does not die");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn until(moment: Reading) {
    while !now().is_past(moment) {
        tokio::time::sleep(now().until(moment)).await;
    }
}

fn told(config: &Config, id: &str) -> String {
    let file = config.run.join(id).join("lease/lease.json");
    fs::read_to_string(file).expect("read")
}

#[test]
fn a_lease_that_is_not_renewed_ends_its_container_though_nobody_is_there() {
    on_a_node(|node: Node| async move {
        let fence = fence(800, 1_600);
        let (stays, goes) =
            (["hear", "15", "out", "up", "loop"], ["obey", "15", "out", "up", "loop"]);
        let (stays, goes) = (fenced("stays", &stays, fence), fenced("goes", &goes, fence));
        for container in [&stays, &goes] {
            node.driver.start(container).await.expect("started");
        }
        let away = node.leave().await;
        until(fence.stop).await;
        assert!(!processes(&away.config, "stays").is_empty());
        dies_at(&away.config, "stays", fence.kill).await;
        assert!(processes(&away.config, "goes").is_empty());
        let node = away.come_back().await;
        let lines = ["up", "heard it"].map(str::to_owned);
        for (container, end) in [(&stays, (137, Some(9))), (&goes, (3, None))] {
            let State::Ended(Some(exit)) = node.ended_state(&container.id).await else {
                panic!("nobody knows how {} ended", container.id);
            };
            let output = node.output(&container.id).await;
            let said: Vec<String> = output.into_iter().map(|(_, line)| line).collect();
            assert_eq!(said, lines, "{}: asked once", container.id);
            assert_eq!((exit.code, exit.signal), end, "{}", container.id);
        }
        node
    });
}

#[test]
fn renewals_keep_it_alive_and_the_next_agent_finds_the_last_one() {
    on_a_node(|node: Node| async move {
        let mut last = fence(700, 1_400);
        let first = last;
        let wanted = fenced("c", &["hear", "15", "out", "up", "loop"], first);
        let running = node.driver.start(&wanted).await.expect("started");
        assert_eq!(node.found(&wanted.id).await.expect("there").fence, Some(first));
        while !now().is_past(first.kill + KILL) {
            last = fence(700, 1_400);
            node.driver.extend(&wanted.id, last).await.expect("extended");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let node = node.reopen().await;
        let found = node.found(&wanted.id).await.expect("there");
        assert_eq!((found.state, found.fence), (State::Running(running), Some(last)));
        last = fence(500, 1_000);
        node.driver.extend(&wanted.id, last).await.expect("by a later life of the agent too");
        let output = node.output(&wanted.id).await;
        assert_eq!(output.len(), 1, "nobody asked it to stop: {output:?}");
        dies_at(&node.config, "c", last.kill).await;
        let late = node.driver.extend(&wanted.id, fence(5_000, 6_000)).await;
        assert!(
            matches!(late, Err(ContainerError::Fence { .. } | ContainerError::NotRunning(_))),
            "{late:?}"
        );
        node
    });
}

#[test]
fn a_fence_that_moves_back_or_of_another_lease_is_not_written() {
    on_a_node(|mut node: Node| async move {
        let first = fence(60_000, 61_000);
        let wanted = fenced("c", &["out", "up", "loop"], first);
        let running = node.driver.start(&wanted).await.expect("started");
        let other = Fence { token: Token(8), ..fence(90_000, 91_000) };
        let refused = node.driver.extend(&wanted.id, other).await.expect_err("refused");
        assert!(matches!(refused, ContainerError::Fence { token: Token(8), .. }), "{refused}");
        node.driver.extend(&wanted.id, fence(1, 2)).await.expect("changes nothing");
        assert_eq!(node.found(&wanted.id).await.expect("there").fence, Some(first));

        let again = Container { fence: Some(other), ..wanted.clone() };
        let refused = node.driver.start(&again).await.expect_err("it runs by the lease 7");
        assert!(matches!(refused, StartError::OtherLease { token: Token(8), .. }), "{refused}");
        let plain = container("plain", &["out", "up", "loop"]);
        node.driver.start(&plain).await.expect("started");
        let refused = node.driver.start(&Container { fence: Some(other), ..plain.clone() }).await;
        assert!(matches!(refused, Err(StartError::OtherLease { .. })), "{refused:?}");
        let refused = node.driver.extend(&plain.id, other).await;
        assert!(matches!(refused, Err(ContainerError::Fence { .. })), "{refused:?}");
        assert_eq!(node.found(&plain.id).await.expect("there").fence, None);

        assert_eq!(node.driver.start(&wanted).await.expect("the same"), running);
        let nobody = node.driver.extend(&ContainerId("none".to_owned()), first).await;
        assert!(matches!(nobody, Err(ContainerError::Unknown(_))), "{nobody:?}");
        assert!(node.events.try_recv().is_err(), "and all that runs goes on");
        node
    });
}

/// Both places of what a guard is told.
fn slots(config: &Config, id: &str) -> (PathBuf, Vec<u8>) {
    let path = config.run.join(format!(".fences/{id}.fence"));
    let mut bytes = fs::read(&path).expect("read");
    bytes.truncate(256);
    (path, bytes)
}

fn write_over(path: &PathBuf, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.write_all_at(bytes, 0).expect("written");
}

#[test]
fn guards_do_not_believe_what_no_agent_writes() {
    on_a_node(|node: Node| async move {
        let short = fence(1_000, 1_500);
        let foreign = Fence { token: Token(9), ..fence(60_000, 61_000) };
        let does = ["ignore", "15", "out", "up", "loop"];
        for (id, fence) in [("forged", short), ("back", short), ("torn", short), ("other", foreign)]
        {
            node.driver.start(&fenced(id, &does, fence)).await.expect("started");
        }
        let late = fence(3_000, 3_500);
        let (path, early) = slots(&node.config, "back");
        node.driver.extend(&ContainerId("back".to_owned()), late).await.expect("extended");
        // Once a guard has read the later one.
        tokio::time::sleep(Duration::from_millis(300)).await;
        write_over(&path, &early);
        let (_, other) = slots(&node.config, "other");
        write_over(&slots(&node.config, "forged").0, &other);
        write_over(&slots(&node.config, "torn").0, &[0; 256]);
        let away = node.leave().await;
        dies_at(&away.config, "forged", short.kill).await;
        dies_at(&away.config, "torn", short.kill).await;
        dies_at(&away.config, "back", late.kill).await;
        assert!(!processes(&away.config, "other").is_empty());
        away.come_back().await
    });
}

#[test]
fn what_has_no_time_left_is_not_started() {
    // Nobody is even called: neither a shim nor the guard of the host could be.
    let lame = |config: &mut Config| config.shim = vec!["/does/not/exist".into()];
    on_a_node_with(lame, |node: Node| async move {
        for past in [fence(0, 60_000), fence(60_000, 0)] {
            let wanted = fenced("c", &["out", "up", "loop"], past);
            let refused = node.driver.start(&wanted).await.expect_err("too late");
            assert!(matches!(refused, StartError::Lapsed { token: Token(7), .. }), "{refused}");
            assert!(refused.is_transient());
        }
        assert!(node.driver.list().await.is_empty());
        assert!(!node.config.root.join("c").exists());
        node
    });
}

#[test]
fn a_start_that_is_late_runs_nothing() {
    // The host guard takes as long, so that half of the time is left after it.
    let stall = |config: &mut Config| {
        let script = "sleep 1; exec \"$0\" \"$@\"";
        let shim = std::mem::take(&mut config.shim);
        config.shim = ["sh", "-c", script].map(Into::into).into_iter().chain(shim).collect();
    };
    on_a_node_with(stall, |node: Node| async move {
        let wanted = fenced("c", &["out", "up", "loop"], fence(1_800, 60_000));
        let refused = node.driver.start(&wanted).await.expect_err("too late");
        assert!(matches!(refused, StartError::Lapsed { token: Token(7), .. }), "{refused}");
        assert!(node.driver.list().await.is_empty());
        let root = node.config.root.to_string_lossy().into_owned();
        assert_eq!(processes_with(&root), Vec::<String>::new());
        node
    });
}

#[test]
fn a_workload_knows_its_lease_and_cannot_change_it() {
    on_a_node(|mut node: Node| async move {
        let does = [
            "env",
            "MESH_FENCING_TOKEN",
            "cat",
            "/run/mesh/lease.json",
            "write",
            "/run/mesh/lease.json",
            "no",
            "write",
            "/run/mesh/x",
            "no",
            "out",
            "up",
            "loop",
        ];
        let first = fence(60_000, 61_000);
        let mut wanted = fenced("c", &does, first);
        wanted.environment.insert("MESH_FENCING_TOKEN".to_owned(), "99".to_owned());
        wanted.template.user = Some("web".to_owned());
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        let output = node.output(&wanted.id).await;
        let lines: Vec<&str> = output.iter().map(|(_, line)| line.as_str()).collect();
        let [token, lease, over, beside, _] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(*token, "7", "whatever the service says");
        assert!(lease.starts_with("{\"token\":7,\"state\":\"held\",\"written_at_ms\":"), "{lease}");
        for refused in [over, beside] {
            assert!(refused.contains("ReadOnlyFilesystem"), "{refused}");
        }
        let before = told(&node.config, "c");
        node.driver.extend(&wanted.id, fence(90_000, 91_000)).await.expect("extended");
        let deadline = now() + PATIENCE;
        while told(&node.config, "c") == before {
            assert!(!now().may_be_past(deadline), "it never hears of it");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let grace = Duration::from_millis(300);
        let (stop, look) =
            (node.driver.stop(&wanted.id, wanted.template.stop_signal, grace), async {
                tokio::time::sleep(grace / 2).await;
                told(&node.config, "c")
            });
        let (stopped, ending) = tokio::join!(stop, look);
        stopped.expect("stopped");
        assert!(
            ending.contains("\"state\":\"ending\"") && ending.contains("\"valid_for_ms\":0,"),
            "{ending}"
        );
        assert!(node.events.try_recv().is_err());

        let plain =
            container("plain", &["env", "MESH_FENCING_TOKEN", "cat", "/run/mesh/lease.json"]);
        node.run(&plain).await;
        let output = node.output(&plain.id).await;
        assert_eq!(output.first().map(|(_, line)| line.as_str()), Some(""), "without a lease");
        assert!(output.last().is_some_and(|(_, line)| line.contains("No such file")), "{output:?}");
        node
    });
}

#[test]
fn a_container_that_was_ended_can_be_started_by_the_next_lease() {
    on_a_node(|mut node: Node| async move {
        let first = fence(300, 600);
        let wanted = fenced("c", &["out", "up", "loop"], first);
        node.driver.start(&wanted).await.expect("started");
        let ended = node.end_of(&wanted.id).await;
        assert_eq!(ended.exit.map(|exit| exit.code), Some(137), "the agent hears of it");
        let next = Fence { token: Token(8), ..fence(60_000, 61_000) };
        let again = Container { fence: Some(next), ..wanted.clone() };
        let running = node.driver.start(&again).await.expect("started");
        assert_eq!(node.found(&wanted.id).await.expect("there").fence, Some(next));
        // Long enough for a guard that still went by the first one.
        until(now() + Duration::from_millis(500)).await;
        assert_eq!(node.state(&wanted.id).await, Some(State::Running(running)));
        let grace = Duration::ZERO;
        node.driver.stop(&wanted.id, wanted.template.stop_signal, grace).await.expect("stopped");
        node.driver.start(&container("c", &["out", "up", "loop"])).await.expect("started");
        assert_eq!(node.found(&wanted.id).await.expect("there").fence, None, "without a lease");
        node
    });
}
