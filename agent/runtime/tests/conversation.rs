//! Commands, health checks and logs.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use mesh_coordinator::spec::{HealthTest, StopSignal};
use mesh_coordinator::time::WallTime;
use mesh_ports::runtime::{
    ContainerError, Exec, ExecInput, ExecOutput, ExecStreams, Health, LogQuery, Output,
    Runtime as _, Window,
};

use crate::fixture::{Node, PATIENCE, container, on_a_node, processes_with};

const LONG: &[&str] = &["out", "up", "sleep", "600000"];

fn exec(does: &[&str]) -> Exec {
    let args = std::iter::once("/payload").chain(does.iter().copied()).map(str::to_owned).collect();
    Exec { args, environment: BTreeMap::new(), user: None, working_dir: None, terminal: None }
}

async fn all_of(mut streams: ExecStreams) -> (String, String, Option<i32>) {
    drop(streams.input);
    let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), None);
    while let Some(piece) = streams.output.recv().await {
        match piece {
            ExecOutput::Data(Output::Stdout, bytes) => out.extend_from_slice(&bytes),
            ExecOutput::Data(Output::Stderr, bytes) => err.extend_from_slice(&bytes),
            ExecOutput::Exited(exited) => code = Some(exited),
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(out), text(err), code)
}

#[test]
fn a_command_has_its_streams_and_its_code() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        let mut wanted = exec(&[
            "out",
            "one",
            "err",
            "two",
            "env",
            "FROM_IMAGE",
            "env",
            "MORE",
            "cwd",
            "exit",
            "7",
        ]);
        wanted.environment.insert("MORE".to_owned(), "more".to_owned());
        wanted.working_dir = Some("/data".to_owned());
        let streams = node.driver.exec(&container.id, wanted).await.expect("run");
        let (out, err, code) = all_of(streams).await;
        assert_eq!((out.as_str(), err.as_str()), ("one\nyes\nmore\n/data\n", "two\n"));
        assert_eq!(code, Some(7));

        let streams = node.driver.exec(&container.id, exec(&["stdin"])).await.expect("run");
        streams
            .input
            .send(ExecInput::Data(Bytes::from_static(b"to the end")))
            .await
            .expect("taken");
        let (out, _, code) = all_of(streams).await;
        assert_eq!((out.as_str(), code), ("to the end\n", Some(0)));

        let mut missing = exec(&[]);
        missing.args = vec!["nothing".to_owned()];
        let (_, err, code) =
            all_of(node.driver.exec(&container.id, missing).await.expect("run")).await;
        assert_eq!(code, Some(127));
        assert!(err.contains("the program \"nothing\" is not in the image's PATH"), "{err}");
        node
    });
}

/// Reads until `wanted` was said.
async fn until(streams: &mut ExecStreams, said: &mut String, wanted: &str) {
    while !said.contains(wanted) {
        match tokio::time::timeout(PATIENCE, streams.output.recv()).await.expect("in time") {
            Some(ExecOutput::Data(Output::Stdout, bytes)) => {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
            other => panic!("{other:?} instead of {wanted:?} after {said:?}"),
        }
    }
}

#[test]
fn a_command_with_a_terminal_sees_its_size_its_keys_and_its_user() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        let terminal = Some(Window { columns: 132, rows: 50 });
        let with = |does: &[&str]| Exec { terminal, ..exec(does) };
        let mut wanted = with(&["tty", "env", "TERM", "resized", "50x132", "stdin", "exit", "7"]);
        wanted.user = Some("web".to_owned());
        let mut streams = node.driver.exec(&container.id, wanted).await.expect("run");
        let mut said = String::new();
        until(&mut streams, &mut said, "xterm\r\n").await;
        assert!(said.contains("true true true /dev/pts/0 50x132 opened"), "{said}");
        let smaller = Window { columns: 80, rows: 24 };
        streams.input.send(ExecInput::Resize(smaller)).await.expect("taken");
        until(&mut streams, &mut said, "24x80\r\n").await;
        // Ctrl-D at the beginning of a line ends the input.
        streams
            .input
            .send(ExecInput::Data(Bytes::from_static(b"typed\r\x04")))
            .await
            .expect("taken");
        until(&mut streams, &mut said, "typed\r\ntyped\r\n\r\n").await;
        let (_, _, code) = all_of(streams).await;
        assert_eq!(code, Some(7));

        let mut streams = node.driver.exec(&container.id, with(LONG)).await.expect("run");
        until(&mut streams, &mut String::new(), "up").await;
        streams.input.send(ExecInput::Data(Bytes::from_static(b"\x03"))).await.expect("taken");
        let (_, _, code) = all_of(streams).await;
        assert_eq!(code, Some(130), "Ctrl-C interrupts");

        let lines = with(&["lines", "5000"]);
        let (out, _, _) = all_of(node.driver.exec(&container.id, lines).await.expect("run")).await;
        assert_eq!(out.lines().count(), 5_000, "nothing of the end is lost");
        node
    });
}

#[test]
fn a_command_is_as_confined_as_its_container() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        let wanted = exec(&["call", "keyctl", "cat", "/proc/self/status"]);
        let (out, _, _) = all_of(node.driver.exec(&container.id, wanted).await.expect("run")).await;
        assert!(out.starts_with("keyctl EPERM\n"), "{out}");
        assert!(out.contains("CapEff:\t00000000a80425fb\n"), "{out}");
        let mut wanted = exec(&["cat", "/proc/self/status"]);
        wanted.user = Some("web".to_owned());
        let (out, _, _) = all_of(node.driver.exec(&container.id, wanted).await.expect("run")).await;
        assert!(
            out.contains("Uid:\t1000\t") && out.contains("CapEff:\t0000000000000000\n"),
            "{out}"
        );
        node
    });
}

#[test]
fn a_command_that_nobody_wants_is_killed_with_its_children() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        let wanted = exec(&["child", "600001", "out", "up", "sleep", "600002"]);
        let mut streams = node.driver.exec(&container.id, wanted).await.expect("run");
        assert!(matches!(streams.output.recv().await, Some(ExecOutput::Data(..))));
        drop(streams);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !processes_with("60000").iter().all(|line| line.contains("600000")) {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", processes_with("60000"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.found(&container.id).await.is_some());
        node
    });
}

#[test]
fn health_checks_pass_fail_and_time_out() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        let test = |does: &[&str]| HealthTest::Exec(exec(does).args);
        let probe = async |test: &HealthTest, timeout| {
            node.driver.probe(&container.id, test, timeout).await
        };
        assert_eq!(probe(&test(&["exit", "0"]), PATIENCE).await, Health::Passed);
        let failed = |why: &str| Health::Failed(why.to_owned());
        assert_eq!(probe(&test(&["exit", "1"]), PATIENCE).await, failed("exit code 1"));
        let telling = test(&["out", "first", "err", "  refused ", "exit", "7"]);
        assert_eq!(probe(&telling, PATIENCE).await, failed("exit code 7: refused"));
        let Health::Failed(why) = probe(&HealthTest::Shell("true".to_owned()), PATIENCE).await
        else {
            panic!("there is no shell");
        };
        assert!(why.contains("/bin/sh") && why.contains("exit code 127"), "{why}");
        let slow = test(&["child", "600003", "sleep", "600004"]);
        assert_eq!(probe(&slow, Duration::from_millis(500)).await, Health::TimedOut);
        assert_eq!(processes_with("600003"), Vec::<String>::new());
        assert_eq!(processes_with("600004"), Vec::<String>::new());
        let left = fs::read_dir(node.config.run.join("c")).expect("listed").flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-"));
        assert_eq!(left.count(), 0);
        node.driver.stop(&container.id, StopSignal::TERM, Duration::ZERO).await.expect("stopped");
        assert!(matches!(probe(&test(&["exit", "0"]), PATIENCE).await, Health::Failed(_)));
        let refused = node.driver.exec(&container.id, exec(&[])).await;
        assert!(matches!(refused, Err(ContainerError::NotRunning(_))));
        node
    });
}

#[test]
fn a_followed_log_survives_rotation() {
    on_a_node(|mut node: Node| async move {
        let lines = 3000;
        let container =
            container("c", &["sleep", "300", "lines", &lines.to_string(), "out", "last"]);
        node.driver.start(&container).await.expect("started");
        let query = LogQuery { tail: None, since: None, follow: true };
        let mut log = node.driver.logs(&container.id, query).await.expect("a log");
        let mut read = 0_u32;
        let mut number_last = None;
        loop {
            let line = tokio::time::timeout(PATIENCE, log.recv()).await.expect("in time");
            let text = line.expect("followed").text;
            if text == "last" {
                break;
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            let number: u32 =
                text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
            assert!(number_last.is_none_or(|last| number > last), "in order, none twice");
            number_last = Some(number);
            read += 1;
        }
        assert_eq!(number_last, Some(lines - 1));
        assert!(read > 1000, "{read}");
        assert_eq!(node.end_of(&container.id).await.exit.map(|exit| exit.code), Some(0));

        let dir = node.config.root.join("c/log");
        let is_log = |name: &str| name.starts_with("output.log");
        let files: Vec<_> = fs::read_dir(dir).expect("listed").flatten().collect();
        let logs = files.iter().filter(|file| is_log(&file.file_name().to_string_lossy())).count();
        assert_eq!(logs, 3);
        assert!(files.iter().all(|file| file.metadata().expect("there").len() <= 64 << 10));

        node.driver.remove(&container.id).await.expect("removed");
        let end = tokio::time::timeout(PATIENCE, log.recv()).await.expect("in time");
        assert!(end.is_none(), "a removed container has no more lines");
        node
    });
}

#[test]
fn who_writes_without_end_is_not_held_up_and_fills_no_disk() {
    on_a_node(|mut node: Node| async move {
        let container = container("c", &["flood", "64", "out", "last"]);
        assert_eq!(node.run(&container).await.code, 0);
        let dir = node.config.root.join("c/log");
        let files = fs::read_dir(&dir).expect("listed").flatten();
        let kept: u64 = files.map(|file| file.metadata().expect("there").len()).sum();
        assert!(kept <= 3 * (64 << 10) + 32, "{kept}");
        let lines = node.output(&container.id).await;
        let (output, told) = lines.first().expect("a line");
        assert_eq!(*output, Output::Stderr);
        let told = told.strip_prefix("mesh: ").and_then(|told| told.split_once(' '));
        let (amount, rest) = told.expect("what is missing");
        assert_eq!(rest, "MiB of older output had to make room for what follows");
        assert!(amount.parse::<u64>().is_ok_and(|amount| amount >= 64), "{amount}");
        assert_eq!(lines.last(), Some(&(Output::Stdout, "last".to_owned())));
        let query = LogQuery { tail: Some(2), since: None, follow: false };
        let mut log = node.driver.logs(&container.id, query).await.expect("a log");
        let first = log.recv().await.expect("a line");
        assert_eq!(first.output, Output::Stdout, "nothing is missing of two lines");
        node
    });
}

#[test]
fn tail_and_since_choose_lines() {
    on_a_node(|mut node: Node| async move {
        let container = container("c", &["out", "a", "sleep", "100", "out", "b", "out", "c"]);
        node.run(&container).await;
        let ask = async |tail, since| {
            let query = LogQuery { tail, since, follow: false };
            let mut log = node.driver.logs(&container.id, query).await.expect("a log");
            let mut lines = Vec::new();
            while let Some(line) = log.recv().await {
                lines.push(line);
            }
            lines
        };
        let all = ask(None, None).await;
        assert_eq!(all.len(), 3);
        assert_eq!(ask(Some(2), None).await, all[1..]);
        let since = all[1].written;
        assert!(since >= WallTime(all[0].written.0 + 50));
        assert_eq!(ask(None, Some(since)).await, all[1..]);
        assert_eq!(ask(Some(0), None).await, []);
        node
    });
}
