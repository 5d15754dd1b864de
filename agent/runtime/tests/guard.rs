//! The guard of the host: it ends what its shim does not, and it is there when it is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_coordinator::spec::Limits;
use mesh_ports::runtime::{Runtime as _, StartError, State};
use mesh_runtime::embedded::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fence::{dies_at, fence, fenced, now, processes, until};
use crate::fixture::{Node, PATIENCE, on_a_node, on_a_node_with, processes_with};

const STUBBORN: &[&str] = &["ignore", "15", "out", "up", "loop"];

/// The number of the guard, which must be alone.
pub(crate) fn guard(config: &Config) -> i32 {
    let dir = config.run.join(".fences").to_string_lossy().into_owned();
    let found = processes_with(&dir);
    let [line] = found.as_slice() else { panic!("not one guard: {found:?}") };
    line.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("sent");
}

/// The file by which a container is frozen, and how.
fn freezer(config: &Config, id: &str) -> (PathBuf, &'static str) {
    let (root, path) = (Path::new("/sys/fs/cgroup"), config.cgroup_parent.trim_start_matches('/'));
    if root.join("cgroup.controllers").exists() {
        (root.join(path).join(id).join("cgroup.freeze"), "1")
    } else {
        (root.join("freezer").join(path).join(id).join("freezer.state"), "FROZEN")
    }
}

fn freeze(config: &Config, id: &str) {
    let (file, word) = freezer(config, id);
    fs::write(file, word).expect("frozen");
}

#[test]
fn a_shim_that_stands_still_does_not_matter() {
    on_a_node(|node: Node| async move {
        let fence = fence(1_000, 1_500);
        let wanted = fenced("c", STUBBORN, fence);
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        let shim = node.shim(&wanted.id);
        signal(shim, Signal::SIGSTOP);
        let away = node.leave().await;
        dies_at(&away.config, "c", fence.kill).await;
        let stat = fs::read_to_string(format!("/proc/{shim}/stat")).expect("it is there");
        assert!(stat.contains(") T "), "and still stopped: {stat}");
        let mut node = away.come_back().await;
        let exit = node.end_of(&wanted.id).await.exit.expect("the shim was woken");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        node
    });
}

#[test]
fn a_program_that_outlives_its_shim_dies_at_its_deadline() {
    on_a_node(|node: Node| async move {
        let fence = fence(1_500, 2_000);
        // Changing the user takes back that the program dies with its shim.
        let changed = ["become", "1000", "out", "up", "loop"];
        for (id, does) in [("same", STUBBORN), ("changed", &changed)] {
            let wanted = fenced(id, does, fence);
            node.driver.start(&wanted).await.expect("started");
            node.until_logged(&wanted.id, "up").await;
        }
        let shims = ["same", "changed"].map(|id| node.shim(&fenced(id, STUBBORN, fence).id));
        let away = node.leave().await;
        for shim in shims {
            signal(shim, Signal::SIGKILL);
        }
        until(now() + Duration::from_millis(200)).await;
        assert!(processes(&away.config, "same").is_empty(), "it dies with its shim");
        assert!(!processes(&away.config, "changed").is_empty(), "it does not");
        dies_at(&away.config, "changed", fence.kill).await;
        let node = away.come_back().await;
        for id in ["same", "changed"] {
            let id = fenced(id, STUBBORN, fence).id;
            assert_eq!(node.state(&id).await, Some(State::Ended(None)));
        }
        node
    });
}

#[test]
fn frozen_containers_die_at_their_deadline() {
    on_a_node(|node: Node| async move {
        let fence = fence(1_500, 2_000);
        for id in ["own", "stopped"] {
            let wanted = fenced(id, &["child", "600000", "out", "up", "loop"], fence);
            node.driver.start(&wanted).await.expect("started");
            node.until_logged(&wanted.id, "up").await;
            freeze(&node.config, id);
        }
        // By its shim, and by the guard of the host.
        signal(node.shim(&fenced("stopped", STUBBORN, fence).id), Signal::SIGSTOP);
        let guard = guard(&node.config);
        let away = node.leave().await;
        assert_eq!(processes(&away.config, "own").len(), 2);
        dies_at(&away.config, "stopped", fence.kill).await;
        dies_at(&away.config, "own", fence.kill).await;
        assert!(Path::new(&format!("/proc/{guard}")).exists());
        away.come_back().await
    });
}

#[test]
fn a_shim_thaws_and_kills_without_the_guard_of_the_host() {
    on_a_node(|node: Node| async move {
        let fence = fence(1_000, 1_500);
        let wanted = fenced("c", &["child", "600000", "out", "up", "loop"], fence);
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        freeze(&node.config, "c");
        let guard = guard(&node.config);
        let away = node.leave().await;
        signal(guard, Signal::SIGSTOP);
        dies_at(&away.config, "c", fence.kill).await;
        signal(guard, Signal::SIGCONT);
        away.come_back().await
    });
}

#[test]
fn beside_version_1_the_kernel_can_kill_it_at_once() {
    on_a_node(|node: Node| async move {
        let hybrid = Path::new("/sys/fs/cgroup/unified");
        if !hybrid.join("cgroup.controllers").exists() {
            return node;
        }
        let wanted = fenced("c", &["child", "600000", "out", "up", "loop"], fence(60_000, 61_000));
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        let group = hybrid.join(node.config.cgroup_parent.trim_start_matches('/')).join("c");
        fs::write(group.join("cgroup.kill"), "1").expect("killed");
        let state = node.ended_state(&wanted.id).await;
        assert!(matches!(state, State::Ended(Some(exit)) if exit.signal == Some(9)));
        node
    });
}

#[test]
fn forking_does_not_help() {
    on_a_node(|node: Node| async move {
        let fence = fence(1_000, 1_500);
        for id in ["own", "stopped"] {
            let mut wanted = fenced(id, &["ignore", "15", "bomb"], fence);
            wanted.template.limits = Limits { pids: Some(100), ..Limits::default() };
            node.driver.start(&wanted).await.expect("started");
            node.until_logged(&wanted.id, "forking").await;
        }
        signal(node.shim(&fenced("stopped", STUBBORN, fence).id), Signal::SIGSTOP);
        let away = node.leave().await;
        dies_at(&away.config, "stopped", fence.kill).await;
        dies_at(&away.config, "own", fence.kill).await;
        away.come_back().await
    });
}

#[test]
fn without_a_guard_nothing_starts() {
    let lame = |config: &mut Config| {
        let script = "if [ -n \"$MESH_SHIM_HOST\" ]; then echo no guard today >&2; exit 1; fi; exec \"$0\" \"$@\"";
        let shim = std::mem::take(&mut config.shim);
        config.shim = ["sh", "-c", script].map(Into::into).into_iter().chain(shim).collect();
    };
    on_a_node_with(lame, |node: Node| async move {
        let refused = node.driver.start(&fenced("c", STUBBORN, fence(60_000, 61_000))).await;
        let Err(StartError::Host { attempt, source }) = refused else { panic!("{refused:?}") };
        assert_eq!(attempt, "guard the container c");
        assert!(source.to_string().contains("no guard today"), "{source}");
        assert!(node.driver.list().await.is_empty());
        node
    });
}

#[test]
fn a_guard_that_stands_still_or_is_killed_is_called_again() {
    on_a_node(|node: Node| async move {
        let first = fenced("first", STUBBORN, fence(60_000, 61_000));
        node.driver.start(&first).await.expect("started");
        let one = guard(&node.config);
        signal(one, Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_millis(700)).await;
        let second = fenced("second", STUBBORN, fence(60_000, 61_000));
        node.driver.start(&second).await.expect("it was woken");
        assert_eq!(guard(&node.config), one);

        signal(one, Signal::SIGKILL);
        tokio::time::sleep(Duration::from_millis(700)).await;
        let short = fence(60_500, 61_500);
        node.driver.extend(&first.id, short).await.expect("extended");
        let deadline = now() + PATIENCE;
        let dir = node.config.run.join(".fences").to_string_lossy().into_owned();
        while processes_with(&dir).is_empty() {
            assert!(!now().may_be_past(deadline), "nobody called it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The new one knows of what began before it.
        let third = fenced("third", STUBBORN, fence(1_500, 2_000));
        node.driver.start(&third).await.expect("started");
        node.until_logged(&third.id, "up").await;
        signal(node.shim(&third.id), Signal::SIGSTOP);
        signal(guard(&node.config), Signal::SIGKILL);
        while !processes_with(&dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let node = node.reopen().await;
        dies_at(&node.config, "third", third.fence.expect("fenced").kill).await;
        node
    });
}

#[test]
fn the_guard_is_small_and_alone_and_goes_with_the_last_container() {
    on_a_node(|node: Node| async move {
        let wanted = fenced("c", STUBBORN, fence(60_000, 61_000));
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        let guard = guard(&node.config);
        let smaps =
            |pid: i32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read");
        let private = |pid: i32| -> u64 {
            let text = smaps(pid);
            let lines = text.lines().filter_map(|line| line.strip_prefix("Anonymous:"));
            lines
                .filter_map(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
                .sum()
        };
        assert!(private(guard) <= 1024, "{} KiB", private(guard));
        let shim = private(node.shim(&wanted.id));
        assert!(shim <= 256, "{shim} KiB");
        let program = fs::read_link(format!("/proc/{guard}/exe")).expect("read");
        assert!(program.to_string_lossy().contains("/agent-shim-"), "{}", program.display());
        let stat = fs::read_to_string(format!("/proc/{guard}/stat")).expect("read");
        let session = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3));
        assert_eq!(session, Some(guard.to_string().as_str()), "its own session");
        let cgroup = fs::read_to_string(format!("/proc/{guard}/cgroup")).expect("read");
        let own = format!("{}-guard", node.config.cgroup_parent);
        assert!(cgroup.lines().any(|line| line.ends_with(&own)), "{cgroup}");
        assert!(!cgroup.contains(&format!("{}/", node.config.cgroup_parent)), "{cgroup}");
        node.driver.remove(&wanted.id).await.expect("removed");
        let dir = node.config.run.join(".fences").to_string_lossy().into_owned();
        assert_eq!(processes_with(&dir), Vec::<String>::new());
        assert!(!node.config.run.join(".fences").exists());
        node
    });
}
