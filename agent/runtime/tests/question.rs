//! "Am I still the holder?": who may ask, what the answer is, and that nobody who asks is in the way of the guard.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use mesh_coordinator::spec::HealthTest;
use mesh_ports::runtime::{ContainerId, Exec, ExecOutput, Health, Output, Runtime as _, State};
use mesh_runtime::embedded::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fence::{dies_at, fence, fenced, now, processes, until};
use crate::fixture::{Node, PATIENCE, container, on_a_node, processes_with};

const UP: &[&str] = &["ignore", "15", "out", "up", "loop"];

fn socket(config: &Config, id: &str) -> PathBuf {
    config.run.join(id).join("lease/lease.sock")
}

/// What is answered to whoever asks from outside, over the same socket.
fn answer(config: &Config, id: &str) -> serde_json::Value {
    let mut text = String::new();
    let mut lease = UnixStream::connect(socket(config, id)).expect("somebody listens");
    lease.set_read_timeout(Some(PATIENCE)).expect("set");
    lease.read_to_string(&mut text).expect("an answer");
    serde_json::from_str(&text).expect("JSON")
}

fn number(answer: &serde_json::Value, field: &str) -> u64 {
    answer.get(field).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{answer}"))
}

fn word(answer: &serde_json::Value) -> &str {
    answer.get("state").and_then(serde_json::Value::as_str).unwrap_or_else(|| panic!("{answer}"))
}

/// What a command in the container says.
async fn said(node: &Node, id: &ContainerId, user: Option<&str>, does: &[&str]) -> String {
    let args = std::iter::once("/payload").chain(does.iter().copied()).map(str::to_owned).collect();
    let user = user.map(str::to_owned);
    let exec = Exec { args, environment: BTreeMap::new(), user, working_dir: None, terminal: None };
    let mut streams = node.driver.exec(id, exec).await.expect("run");
    drop(streams.input);
    let mut text = Vec::new();
    while let Some(piece) = streams.output.recv().await {
        if let ExecOutput::Data(Output::Stdout, bytes) = piece {
            text.extend_from_slice(&bytes);
        }
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn whoever_asks_in_the_container_hears_it_and_nobody_can_take_its_place() {
    on_a_node(|node: Node| async move {
        let mut wanted = fenced("c", &["ask", "out", "up", "loop"], fence(60_000, 61_000));
        wanted.template.user = Some("web".to_owned());
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        let first = node.output(&wanted.id).await.into_iter().next().expect("a line").1;
        let held = "{\"token\":7,\"state\":\"held\",\"written_at_ms\":";
        assert!(first.starts_with(held), "from its first moment on: {first}");
        for user in [None, Some("web"), Some("12345:12345")] {
            let line = said(&node, &wanted.id, user, &["ask"]).await;
            assert!(line.starts_with(held), "{user:?}: {line}");
        }
        let path = "/run/mesh/lease.sock";
        for does in [["unlink", path].as_slice(), &["write", path, "no"]] {
            let line = said(&node, &wanted.id, Some("root"), does).await;
            assert!(line.starts_with("Err("), "{does:?}: {line}");
        }
        let test = HealthTest::Exec(["/payload", "holder"].map(str::to_owned).to_vec());
        assert_eq!(node.driver.probe(&wanted.id, &test, PATIENCE).await, Health::Passed);
        assert_eq!(word(&answer(&node.config, "c")), "held", "it is there still");

        let plain = container("plain", &["out", "up", "loop"]);
        node.driver.start(&plain).await.expect("started");
        let line = said(&node, &plain.id, None, &["ask"]).await;
        assert!(line.starts_with("No such file"), "without a lease: {line}");
        node
    });
}

#[test]
fn the_answer_is_that_of_the_guard_though_the_agent_is_gone() {
    on_a_node(|node: Node| async move {
        let mut last = fence(1_500, 2_500);
        let wanted = fenced("c", UP, last);
        node.driver.start(&wanted).await.expect("started");
        let first = answer(&node.config, "c");
        assert!(number(&first, "valid_for_ms") <= 1_500, "{first}");
        last = fence(4_000, 5_000);
        node.driver.extend(&wanted.id, last).await.expect("extended");
        let later = answer(&node.config, "c");
        let (valid, killed) = (number(&later, "valid_for_ms"), number(&later, "killed_in_ms"));
        assert!(valid > 1_500, "at once: {later}");
        let between = u64::try_from(last.stop.until(last.kill).as_millis()).expect("a number");
        assert!((between..=between + 1).contains(&(killed - valid)), "{between}: {later}");

        let away = node.leave().await;
        let asked = now();
        let alone = answer(&away.config, "c");
        let left = u64::try_from(asked.until(last.stop).as_millis()).expect("a number");
        assert!(number(&alone, "valid_for_ms") <= left, "{left}: {alone}");
        assert_eq!(word(&alone), "held");
        until(last.stop).await;
        let ending = answer(&away.config, "c");
        assert_eq!((word(&ending), number(&ending, "valid_for_ms")), ("ending", 0));
        dies_at(&away.config, "c", last.kill).await;
        let node = away.come_back().await;
        node.ended_state(&wanted.id).await;
        let refused = UnixStream::connect(socket(&node.config, "c")).expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        let again = fenced("c", UP, fence(60_000, 61_000));
        node.driver.start(&again).await.expect("started");
        assert_eq!(word(&answer(&node.config, "c")), "held", "the next run answers for itself");
        node.driver.remove(&again.id).await.expect("removed");
        assert!(!socket(&node.config, "c").exists());
        node
    });
}

#[test]
fn a_stop_that_was_asked_for_is_told_and_a_renewal_takes_nothing_back() {
    on_a_node(|node: Node| async move {
        let wanted = fenced("c", UP, fence(60_000, 61_000));
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "up").await;
        let file = || {
            let text = fs::read(node.config.run.join("c/lease/lease.json")).expect("read");
            serde_json::from_slice::<serde_json::Value>(&text).expect("JSON")
        };
        let grace = Duration::from_secs(1);
        let (stopped, ()) =
            tokio::join!(node.driver.stop(&wanted.id, wanted.template.stop_signal, grace), async {
                let deadline = now() + PATIENCE;
                while word(&file()) != "ending" {
                    assert!(!now().may_be_past(deadline), "it is not told");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(word(&answer(&node.config, "c")), "ending");
                node.driver.extend(&wanted.id, fence(90_000, 91_000)).await.expect("extended");
                let renewed = answer(&node.config, "c");
                assert_eq!((word(&renewed), number(&renewed, "valid_for_ms")), ("ending", 0));
                assert!(number(&renewed, "killed_in_ms") > 61_000, "{renewed}");
                while number(&file(), "killed_in_ms") <= 61_000 {
                    assert!(!now().may_be_past(deadline), "the file never hears of it");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(word(&file()), "ending");
            });
        stopped.expect("stopped");
        node
    });
}

/// How many descriptors a process has, and how many KiB of memory of its own.
fn size(pid: i32) -> (usize, u64) {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let n_open = fs::read_dir(proc.join("fd")).expect("listed").count();
    let text = fs::read_to_string(proc.join("smaps_rollup")).expect("read");
    let own = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a line");
    (n_open, own.trim().trim_end_matches(" kB").parse().expect("a number"))
}

/// Stops the guard of the host, so that all depends on the shim.
fn hold_the_other_guard(config: &Config) -> Pid {
    let found = processes_with(&config.run.join(".fences").to_string_lossy());
    let [line] = found.as_slice() else { panic!("not one guard: {found:?}") };
    let pid = line.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGSTOP).expect("sent");
    pid
}

#[test]
fn a_crowd_that_asks_is_asked_to_stop_and_dies_at_its_deadline() {
    on_a_node(|node: Node| async move {
        let last = fence(3_000, 3_600);
        let wanted = fenced("c", &["hear", "15", "crowd"], last);
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "crowding").await;
        let shim = node.shim(&wanted.id);
        let before = size(shim);
        let line = said(&node, &wanted.id, Some("web"), &["ask"]).await;
        assert!(line.contains("\"state\":\"held\""), "who stands in line is served: {line}");
        let guard = hold_the_other_guard(&node.config);
        let away = node.leave().await;
        until(last.stop).await;
        let (n_open, own) = size(shim);
        assert!(n_open <= before.0 + 1, "{n_open} descriptors, {} before", before.0);
        assert!(own <= 256, "{own} KiB");
        assert!(!processes(&away.config, "c").is_empty());
        dies_at(&away.config, "c", last.kill).await;
        kill(guard, Signal::SIGCONT).expect("sent");
        let node = away.come_back().await;
        node.ended_state(&wanted.id).await;
        let output = node.output(&wanted.id).await;
        assert!(output.iter().any(|(_, line)| line == "heard it"), "{output:?}");
        node
    });
}

#[test]
fn what_clings_to_a_question_does_not_hold_the_guard() {
    on_a_node(|node: Node| async move {
        let last = fence(2_500, 3_000);
        let wanted = fenced("c", &["hear", "15", "cling", "loop"], last);
        node.driver.start(&wanted).await.expect("started");
        node.until_logged(&wanted.id, "given").await;
        let guard = hold_the_other_guard(&node.config);
        let away = node.leave().await;
        dies_at(&away.config, "c", last.kill).await;
        kill(guard, Signal::SIGCONT).expect("sent");
        let node = away.come_back().await;
        let state = node.ended_state(&wanted.id).await;
        let State::Ended(Some(exit)) = state else { panic!("nobody knows how it ended") };
        assert_eq!(exit.signal, Some(9));
        let output = node.output(&wanted.id).await;
        assert!(output.iter().any(|(_, line)| line == "heard it"), "{output:?}");
        node
    });
}
