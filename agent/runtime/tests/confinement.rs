//! Limits, capabilities, system calls, and what a container sees.

use std::time::Duration;

use mesh_coordinator::spec::{Bytes, Cpu, HealthTest, StopSignal};
use mesh_ports::runtime::{Health, Runtime as _};

use crate::fixture::{Node, PATIENCE, container, group_file, on_a_node};

#[test]
fn too_much_memory_ends_it_and_says_so() {
    on_a_node(|mut node: Node| async move {
        let mut container = container("c", &["allocate", "256"]);
        container.template.limits.memory = Some(Bytes(32 << 20));
        let exit = node.run(&container).await;
        assert_eq!((exit.code, exit.signal, exit.oom), (137, Some(9), true));
        container.template.limits.memory = Some(Bytes(512 << 20));
        let exit = node.run(&container).await;
        assert_eq!((exit.code, exit.oom), (0, false), "the next run starts from nothing");
        node
    });
}

#[test]
fn a_fork_bomb_meets_its_limit() {
    on_a_node(|mut node: Node| async move {
        let mut container = container("c", &["fork", "64", "out", "still here"]);
        container.template.limits.pids = Some(8);
        assert_eq!(node.run(&container).await.code, 0);
        let lines: Vec<String> =
            node.output(&container.id).await.into_iter().map(|(_, line)| line).collect();
        assert!(lines[0].starts_with("refused: "), "{lines:?}");
        assert_eq!(lines[1..3], ["children 7", "still here"]);
        assert_eq!(lines[3..], ["mesh: 1 process or thread beyond its limit of 8 was refused"]);
        node
    });
}

#[test]
fn who_forks_without_end_meets_the_default_and_is_killed_with_all_of_it() {
    on_a_node(|mut node: Node| async move {
        let bomb = container("bomb", &["bomb"]);
        node.driver.start(&bomb).await.expect("started");
        let file = |id, controller, v1, v2| group_file(&node.config, id, controller, v1, v2);
        assert_eq!(file("bomb", "pids", "pids.max", "pids.max"), "4096");
        let host: u64 = ["pid_max", "threads-max"]
            .map(|name| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect("read"))
            .iter()
            .map(|text| text.trim().parse().expect("a number"))
            .min()
            .expect("two");
        let together: u64 = file(".", "pids", "pids.max", "pids.max").parse().expect("a limit");
        assert_eq!(together, host / 4 * 3, "all containers together");
        let memory = file(".", "memory", "memory.limit_in_bytes", "memory.max");
        assert!(memory.parse::<u64>().is_ok_and(|bytes| bytes < 1 << 50), "{memory}");
        // The kernel tells nobody that a group is full.
        let full = async {
            while node.driver.usage(&bomb.id).await.expect("measured").pids < 4096 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let filled = tokio::time::timeout(PATIENCE, full).await;
        assert!(filled.is_ok(), "the bomb does not fill its limit");
        let test = HealthTest::Exec(["/payload", "out", "well"].map(str::to_owned).to_vec());
        let Health::Failed(why) = node.driver.probe(&bomb.id, &test, PATIENCE).await else {
            panic!("there was room for a check");
        };
        assert!(why.starts_with("it has reached its limit of 4096 processes"), "{why}");
        assert_eq!(node.run(&container("other", &["out", "runs"])).await.code, 0);
        node.driver.stop(&bomb.id, StopSignal::TERM, Duration::ZERO).await.expect("stopped");
        let lines = node.output(&bomb.id).await;
        let last = lines.last().map(|(_, line)| line.clone()).unwrap_or_default();
        assert!(
            last.ends_with(" processes or threads beyond its limit of 4096 were refused"),
            "{last}"
        );
        node
    });
}

#[test]
fn limits_reach_the_kernel_and_usage_comes_back() {
    on_a_node(|node: Node| async move {
        let mut container = container("c", &["spin", "200", "out", "up", "sleep", "600000"]);
        container.template.limits.cpu = Some(Cpu { millis: 500 });
        container.template.limits.memory = Some(Bytes(64 << 20));
        container.template.limits.pids = Some(16);
        node.driver.start(&container).await.expect("started");
        let file = |controller, v1, v2| group_file(&node.config, "c", controller, v1, v2);
        let quota = file("cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(quota == "50000" || quota == "50000 100000", "{quota}");
        assert_eq!(file("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
        assert_eq!(file("pids", "pids.max", "pids.max"), "16");
        node.until_logged(&container.id, "up").await;
        let usage = node.driver.usage(&container.id).await.expect("measured");
        assert!(usage.cpu >= Duration::from_millis(50), "{usage:?}");
        assert!(usage.memory > 0 && usage.memory < 64 << 20, "{usage:?}");
        assert_eq!(usage.pids, 1);
        node
    });
}

#[test]
fn capabilities_are_dockers() {
    on_a_node(|mut node: Node| async move {
        let lines = node.lines_of(&["cat", "/proc/self/status"]).await;
        let of = |name: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned()).expect(name)
        };
        let docker = "00000000a80425fb";
        assert_eq!([of("CapBnd:"), of("CapPrm:"), of("CapEff:")], [docker; 3]);
        assert_eq!([of("CapInh:"), of("CapAmb:")], ["0000000000000000"; 2]);
        assert_eq!((of("Seccomp:"), of("NoNewPrivs:")), ("2".to_owned(), "0".to_owned()));
        assert_eq!(of("SigBlk:"), "0000000000000000");
        let ignored = u64::from_str_radix(&of("SigIgn:"), 16).expect("a number");
        // The payload ignores SIGPIPE itself, as every Rust program; what is beyond the 31 signals is the C library's.
        assert_eq!(ignored & 0x7fff_ffff & !0x1000, 0, "{ignored:x}");
        node
    });
}

#[test]
fn whoever_is_not_root_has_no_capabilities() {
    on_a_node(|mut node: Node| async move {
        let mut container = container("c", &["cat", "/proc/self/status", "env", "HOME"]);
        container.template.user = Some("web".to_owned());
        assert_eq!(node.run(&container).await.code, 0);
        let output = node.output(&container.id).await;
        let lines: Vec<&str> = output.iter().map(|(_, line)| line.as_str()).collect();
        for expected in [
            "Uid:\t1000\t1000\t1000\t1000",
            "Gid:\t1001\t1001\t1001\t1001",
            "Groups:\t99 ",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t00000000a80425fb",
        ] {
            assert!(lines.contains(&expected), "{expected} in {lines:?}");
        }
        assert_eq!(lines.last(), Some(&"/srv"));
        node
    });
}

#[test]
fn system_calls_are_filtered_as_docker_does() {
    on_a_node(|mut node: Node| async move {
        let denied = [
            "keyctl",
            "add_key",
            "bpf",
            "mount",
            "umount2",
            "unshare",
            "setns",
            "clone-user",
            "userfaultfd",
            "io_uring_setup",
            "reboot",
            "personality-aslr",
            "socket-vsock",
        ];
        let does: Vec<&str> = denied.iter().flat_map(|name| ["call", name]).collect();
        let expected: Vec<String> = denied.iter().map(|name| format!("{name} EPERM")).collect();
        assert_eq!(node.lines_of(&does).await, expected);
        let others = ["call", "clone3", "call", "personality-get", "call", "getppid"];
        let lines = node.lines_of(&others).await;
        assert_eq!(lines, ["clone3 ENOSYS", "personality-get done", "getppid done"]);
        // Allowed by the filter, so the kernel's own answer comes: no such request, a bad address.
        let lines = node.lines_of(&["call", "ptrace", "call", "chroot"]).await;
        assert_eq!(lines, ["ptrace error 3", "chroot error 14"]);
        node
    });
}

#[test]
fn a_container_sees_itself_and_not_the_host() {
    on_a_node(|mut node: Node| async move {
        let mut container = container(
            "c",
            &[
                "cat",
                "/proc/sys/kernel/hostname",
                "cat",
                "/etc/hostname",
                "cat",
                "/etc/hosts",
                "env",
                "FROM_IMAGE",
                "env",
                "HOSTNAME",
                "env",
                "PORT",
                "env",
                "CARGO",
                "cwd",
                "cat",
                "/proc/interrupts",
                "write",
                "/proc/sys/kernel/hostname",
                "x",
                "cat",
                "/proc/sys/net/ipv4/ip_unprivileged_port_start",
            ],
        );
        container.template.working_dir = Some("/made/on/the/way".to_owned());
        container.environment.insert("PORT".to_owned(), "8080".to_owned());
        assert_eq!(node.run(&container).await.code, 0);
        let output = node.output(&container.id).await;
        let lines: Vec<&str> = output.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(lines[..2], ["web-0", "web-0"]);
        assert!(lines.contains(&"10.99.0.2\tweb-0"), "{lines:?}");
        let rest = &lines[lines.iter().position(|line| *line == "yes").expect("the environment")..];
        assert_eq!(rest[..5], ["yes", "web-0", "8080", "", "/made/on/the/way"]);
        assert_eq!(rest[5], "", "masked");
        assert!(rest[6].contains("Read-only file system"), "{}", rest[6]);
        assert_eq!(rest[7], "0");
        node
    });
}

#[test]
fn no_device_of_the_host_can_be_opened() {
    on_a_node(|mut node: Node| async move {
        let lines = node.lines_of(&["device", "/memory", "device", "/dev/memory"]).await;
        assert_eq!(lines, ["permission denied"; 2]);
        let lines = node.lines_of(&["cat", "/dev/null", "out", "usual ones can"]).await;
        assert_eq!(lines, ["", "usual ones can"]);
        node
    });
}
