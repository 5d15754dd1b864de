//! Starting, ending, stopping, finding again, removing.

use std::fs;
use std::time::Duration;

use mesh_coordinator::spec::{HealthTest, StopSignal};
use mesh_ports::runtime::{
    ContainerError, ContainerId, Health, Output, Runtime as _, StartError, State, Tag,
};
use mesh_runtime::embedded::Config;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Node, PATIENCE, container, on_a_node, on_a_node_with, processes_with};

const LONG: &[&str] = &["out", "up", "sleep", "600000"];

#[test]
fn output_and_exit_code_are_kept() {
    on_a_node(|mut node: Node| async move {
        let container = container("c", &["out", "one", "err", "two", "exit", "3"]);
        let exit = node.run(&container).await;
        assert_eq!((exit.code, exit.signal, exit.oom), (3, None, false));
        let expected = [(Output::Stdout, "one".to_owned()), (Output::Stderr, "two".to_owned())];
        let mut output = node.output(&container.id).await;
        output.sort_by_key(|(output, _)| *output == Output::Stderr);
        assert_eq!(output, expected);
        assert_eq!(node.state(&container.id).await, Some(State::Ended(Some(exit))));
        node
    });
}

#[test]
fn the_image_says_what_the_template_does_not() {
    on_a_node(|mut node: Node| async move {
        let mut container = container("c", &[]);
        container.template.command = None;
        assert_eq!(node.run(&container).await.code, 0);
        assert_eq!(
            node.output(&container.id).await,
            [(Output::Stdout, "from the image".to_owned())]
        );
        node
    });
}

#[test]
fn a_signal_is_reported_as_shells_do() {
    on_a_node(|mut node: Node| async move {
        // As a child of the first process, since the kernel protects that one from its own signals.
        let container = container("c", LONG);
        let running = node.driver.start(&container).await.expect("started");
        let pid = Pid::from_raw(i32::try_from(running.pid).expect("a pid"));
        kill(pid, Signal::SIGKILL).expect("sent");
        let exit = node.end_of(&container.id).await.exit.expect("known");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        node
    });
}

#[test]
fn stop_waits_for_the_grace_and_then_kills() {
    on_a_node(|mut node: Node| async move {
        let container = container("c", &["ignore", "15", "out", "up", "sleep", "600000"]);
        node.driver.start(&container).await.expect("started");
        node.until_logged(&container.id, "up").await;
        let before = tokio::time::Instant::now();
        let grace = Duration::from_millis(700);
        node.driver.stop(&container.id, StopSignal::TERM, grace).await.expect("stopped");
        assert!(before.elapsed() >= grace, "{:?}", before.elapsed());
        let Some(State::Ended(Some(exit))) = node.state(&container.id).await else {
            panic!("not ended");
        };
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        node.driver.stop(&container.id, StopSignal::TERM, grace).await.expect("again");
        assert!(node.events.try_recv().is_err(), "an end that was asked for is no event");
        node
    });
}

#[test]
fn a_start_twice_is_one_start_and_a_restart_keeps_the_files() {
    on_a_node(|mut node: Node| async move {
        let mut wanted = container("c", LONG);
        let (first, second) = tokio::join!(node.driver.start(&wanted), node.driver.start(&wanted));
        let (first, second) = (first.expect("started"), second.expect("started"));
        assert_eq!(first, second);
        node.driver.stop(&wanted.id, StopSignal::TERM, Duration::ZERO).await.expect("stopped");
        wanted.template.command = Some(["write", "/kept", "yes"].map(str::to_owned).to_vec());
        assert_eq!(node.run(&wanted).await.code, 0);
        wanted.template.command = Some(["cat", "/kept"].map(str::to_owned).to_vec());
        assert_eq!(node.run(&wanted).await.code, 0);
        let output = node.output(&wanted.id).await;
        assert_eq!(output.last().map(|(_, line)| line.as_str()), Some("yes"));
        node
    });
}

#[test]
fn another_driver_finds_the_same_containers() {
    on_a_node(|mut node: Node| async move {
        let (stays, ends) = (container("stays", LONG), container("ends", &["exit", "5"]));
        let running = node.driver.start(&stays).await.expect("started");
        let exit = node.run(&ends).await;
        let mut node = node.reopen().await;
        assert_eq!(node.state(&stays.id).await, Some(State::Running(running)));
        assert_eq!(node.state(&ends.id).await, Some(State::Ended(Some(exit))));
        let tag: Option<Tag> = node.found(&stays.id).await.map(|found| found.tag);
        assert_eq!(tag, Some(stays.tag.clone()));
        let adopted = node.network.adopted.lock().expect("whole").clone();
        assert_eq!(adopted, [("stays".to_owned(), running.address)]);
        assert_eq!(*node.network.swept.lock().expect("whole"), ["stays"]);
        assert_eq!(node.driver.start(&stays).await.expect("the same"), running);
        let pid = Pid::from_raw(i32::try_from(running.pid).expect("a pid"));
        kill(pid, Signal::SIGKILL).expect("sent");
        let ended = node.end_of(&stays.id).await;
        assert_eq!(ended.exit.map(|exit| exit.code), Some(137));
        node
    });
}

#[test]
fn a_container_does_not_outlive_its_shim() {
    on_a_node(|mut node: Node| async move {
        let container = container("c", &["child", "600005", "out", "up", "sleep", "600005"]);
        let running = node.driver.start(&container).await.expect("started");
        node.until_logged(&container.id, "up").await;
        kill(Pid::from_raw(node.shim(&container.id)), Signal::SIGKILL).expect("sent");
        assert_eq!(node.end_of(&container.id).await.exit, None);
        assert_eq!(node.state(&container.id).await, Some(State::Ended(None)));
        let command = fs::read(format!("/proc/{}/cmdline", running.pid)).unwrap_or_default();
        assert!(command.is_empty(), "it waits at most for somebody to take note of its end");
        assert_eq!(processes_with("600005"), Vec::<String>::new());
        let again = node.driver.start(&container).await.expect("started again");
        assert_ne!(again.pid, running.pid);
        node
    });
}

#[test]
fn a_shim_that_stands_still_blocks_nobody_and_is_woken() {
    on_a_node(|mut node: Node| async move {
        let (stopped, ends) = (container("stopped", LONG), container("ends", LONG));
        for container in [&stopped, &ends] {
            node.driver.start(container).await.expect("started");
            node.until_logged(&container.id, "up").await;
            kill(Pid::from_raw(node.shim(&container.id)), Signal::SIGSTOP).expect("sent");
        }
        assert_eq!(node.driver.list().await.len(), 2);
        assert_eq!(node.driver.usage(&stopped.id).await.expect("measured").pids, 1);
        let test = HealthTest::Exec(["/payload", "out", "well"].map(str::to_owned).to_vec());
        let health = node.driver.probe(&stopped.id, &test, PATIENCE).await;
        assert_eq!(health, Health::Passed, "the container goes on");
        let grace = Duration::from_secs(30);
        let before = tokio::time::Instant::now();
        let kill_it = StopSignal::from_number(9).expect("a signal");
        node.driver.stop(&stopped.id, kill_it, grace).await.expect("stopped");
        assert!(before.elapsed() < grace / 2, "{:?}", before.elapsed());
        let Some(State::Running(running)) = node.state(&ends.id).await else {
            panic!("it has ended");
        };
        kill(Pid::from_raw(i32::try_from(running.pid).expect("a pid")), Signal::SIGKILL)
            .expect("sent");
        let exit = node.end_of(&ends.id).await.exit.expect("the shim was woken");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        node
    });
}

#[test]
fn what_cannot_run_says_why_and_leaves_nothing() {
    on_a_node(|node: Node| async move {
        let plain = container("c", LONG);
        let mut user = plain.clone();
        user.template.user = Some("nobody".to_owned());
        let mut program = plain.clone();
        program.template.entrypoint = Some(vec!["missing".to_owned()]);
        let mut data = plain.clone();
        data.template.entrypoint = Some(vec!["/data/text".to_owned()]);
        let mut name = plain.clone();
        name.id = ContainerId("../c".to_owned());
        let mut image = plain.clone();
        image.template.image.digest = "sha256:other".to_owned();
        let cases = [
            (user, "the container cannot be made: the image has no user \"nobody\" in /etc/passwd"),
            (
                program,
                "the container cannot be made: the program \"missing\" is not in the image's PATH \
                (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)",
            ),
            (data, "the container cannot be made: the program \"/data/text\" is not executable"),
            (
                name,
                "the container cannot be made: the name \"../c\" is not made of 1 to 128 letters, digits, - and _",
            ),
            (image, "the image sha256:other is not on this node"),
        ];
        for (container, expected) in cases {
            let error = node.driver.start(&container).await.expect_err("refused");
            assert_eq!(error.to_string(), expected);
            assert!(!error.is_transient());
            assert!(matches!(error, StartError::Invalid { .. } | StartError::ImageMissing(_)));
            assert!(node.driver.list().await.is_empty(), "{expected}");
        }
        node
    });
}

#[test]
fn unknown_containers_are_said_to_be_unknown() {
    on_a_node(|node: Node| async move {
        let id = ContainerId("none".to_owned());
        let stopped = node.driver.stop(&id, StopSignal::TERM, Duration::ZERO).await;
        assert!(matches!(stopped, Err(ContainerError::Unknown(_))));
        assert!(matches!(node.driver.usage(&id).await, Err(ContainerError::Unknown(_))));
        node.driver.remove(&id).await.expect("nothing to remove is fine");
        node
    });
}

#[test]
fn a_running_container_can_be_removed() {
    on_a_node(|mut node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        node.driver.remove(&container.id).await.expect("removed");
        assert_eq!(node.state(&container.id).await, None);
        assert!(!node.config.root.join("c").exists() && !node.config.run.join("c").exists());
        assert!(node.events.try_recv().is_err());
        node
    });
}

#[test]
fn a_shim_is_small_and_alone() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        node.driver.start(&container).await.expect("started");
        node.until_logged(&container.id, "up").await;
        let shim = node.shim(&container.id);
        let smaps = fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).expect("read");
        let private: u64 = smaps
            .lines()
            .filter_map(|line| line.strip_prefix("Anonymous:"))
            .filter_map(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .sum();
        assert!(private <= 256, "{private} KiB");
        let program = fs::read_link(format!("/proc/{shim}/exe")).expect("read");
        assert!(program.to_string_lossy().contains("/agent-shim-"), "{}", program.display());
        let status = fs::read_to_string(format!("/proc/{shim}/status")).expect("read");
        assert!(status.contains("Threads:\t1\n"));
        let cgroup = fs::read_to_string(format!("/proc/{shim}/cgroup")).expect("read");
        let shims = format!("{}/shims", node.config.cgroup_parent);
        assert!(
            cgroup.contains(&format!("name=systemd:{shims}"))
                || cgroup.contains(&format!("0::{shims}"))
        );
        node
    });
}

#[test]
fn a_shim_without_its_program_waits_as_it_is() {
    on_a_node(|mut node: Node| async move {
        let dir = node.config.root.parent().expect("a directory").to_path_buf();
        for entry in fs::read_dir(&dir).expect("listed").flatten() {
            if entry.file_name().to_string_lossy().starts_with("agent-shim-") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        let container = container("c", &["out", "one", "exit", "3"]);
        assert_eq!(node.run(&container).await.code, 3);
        assert_eq!(node.output(&container.id).await, [(Output::Stdout, "one".to_owned())]);
        node
    });
}

#[test]
fn a_restart_of_the_host_ends_containers_and_keeps_their_files() {
    on_a_node(|mut node: Node| async move {
        let mut container = container("c", &["write", "/kept", "yes"]);
        node.run(&container).await;
        // What a power cut leaves: files of another boot, and directories in which nothing is mounted any more.
        let (dir, run) = (node.config.root.join("c"), node.config.run.join("c"));
        for mounted in [run.join("network"), run.join("rootfs")] {
            umount2(&mounted, MntFlags::MNT_DETACH).expect("unmounted");
        }
        fs::remove_file(dir.join("exit.json")).expect("removed");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read");
        let state = fs::read_to_string(dir.join("state.json")).expect("read");
        let state = state.replace(boot.trim(), "another");
        fs::write(dir.join("state.json"), state).expect("written");

        let mut node = node.reopen().await;
        assert_eq!(node.state(&container.id).await, Some(State::Ended(None)));
        assert!(!run.exists());
        container.template.command = Some(["cat", "/kept"].map(str::to_owned).to_vec());
        assert_eq!(node.run(&container).await.code, 0);
        let output = node.output(&container.id).await;
        assert_eq!(output.last().map(|(_, line)| line.as_str()), Some("yes"));
        node
    });
}

#[test]
fn a_start_that_was_killed_half_way_is_started_over() {
    on_a_node(|node: Node| async move {
        let container = container("c", LONG);
        let first = node.driver.start(&container).await.expect("started");
        // As if the shim had been killed before it wrote down what it had started.
        let dir = node.config.root.join("c");
        let shim = Pid::from_raw(node.shim(&container.id));
        fs::remove_file(dir.join("state.json")).expect("removed");
        assert_eq!(node.state(&container.id).await, Some(State::Ended(None)));
        let refused = node.driver.start(&container).await.expect_err("the first shim has the lock");
        assert!(refused.is_transient(), "{refused}");
        kill(shim, Signal::SIGKILL).expect("sent");
        let second = node.driver.start(&container).await.expect("started");
        assert_ne!(first.pid, second.pid);
        assert_eq!(node.state(&container.id).await, Some(State::Running(second)));
        node
    });
}

#[test]
fn a_start_that_takes_too_long_leaves_nothing_running() {
    let stall = |config: &mut Config| {
        config.start_max = Duration::from_secs(2);
        // Somebody else holds on to the shim's output, so that its answer has no end.
        let script = "sleep 5 & exec \"$0\" \"$@\"";
        let shim = std::mem::take(&mut config.shim);
        config.shim = ["sh", "-c", script].map(Into::into).into_iter().chain(shim).collect();
    };
    on_a_node_with(stall, |node: Node| async move {
        let container = container("c", LONG);
        let late = node.driver.start(&container).await.expect_err("no answer");
        assert!(late.is_transient(), "{late}");
        assert_eq!(node.state(&container.id).await, None);
        let dir = node.config.root.to_string_lossy().into_owned();
        assert_eq!(processes_with(&dir), Vec::<String>::new());
        node
    });
}
