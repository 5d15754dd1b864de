//! The container in the words of the OCI runtime specification: what Docker would ask of runc by default.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use super::executor::WITH_SYS_ADMIN;
use super::user::User;
use crate::record::{Plan, StoredLimits};

/// The period of processor quotas, the kernel's own default, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// The smallest quota that the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: u64 = 1_000;

/// How many files a process may open: what Docker gives, or less where the host does not allow as much.
const OPEN_FILES_MAX: u64 = 1_048_576;

/// How many processes and threads a container may have that says nothing: more than any that was seen needed, and so few that
/// several that fork without end fit into what the host has for all.
const PROCESSES_MAX: u32 = 4096;

/// `/proc` and `/sys` of the host hide behind these.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What depends on the host.
pub(super) struct Host {
    pub(super) unified: bool,
    pub(super) limits_swap: bool,
}

/// The process part.
pub(super) fn process(args: &[String], env: &[String], cwd: &str, user: &User) -> Value {
    let capabilities: Vec<&str> = WITH_SYS_ADMIN.iter().map(|(name, _)| *name).collect();
    let mut env = env.to_vec();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = hard.min(OPEN_FILES_MAX);
    json!({
        "terminal": false,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": args,
        "env": env,
        "cwd": cwd,
        "noNewPrivileges": false,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": files, "soft": files }],
    })
}

/// The whole of it.
pub(super) fn spec(dir: &Path, root: &Path, plan: &Plan, host: &Host, process: &Value) -> Value {
    let mut process = process.clone();
    // A unit file may protect the agent from the kernel's out-of-memory killer; containers do not inherit that.
    if own_oom_score() < 0
        && let Some(fields) = process.as_object_mut()
    {
        fields.insert("oomScoreAdj".to_owned(), json!(0));
    }
    let mut namespaces = vec![
        json!({ "type": "pid" }),
        json!({ "type": "mount" }),
        json!({ "type": "uts" }),
        json!({ "type": "ipc" }),
        json!({ "type": "network", "path": plan.network }),
    ];
    if host.unified {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": root, "readonly": false },
        "hostname": plan.hostname,
        "mounts": mounts(dir, plan),
        "linux": {
            "cgroupsPath": plan.cgroup,
            "resources": resources(plan.limits, host),
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "sysctl": {
                // As Docker: in its own network a container may listen on any port and ping, whoever it runs as.
                "net.ipv4.ip_unprivileged_port_start": "0",
                "net.ipv4.ping_group_range": "0 2147483647",
            },
        },
    })
}

fn own_oom_score() -> i32 {
    let text = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn mounts(dir: &Path, plan: &Plan) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let bind = |name: &str| {
        json!({
            "destination": format!("/etc/{name}"),
            "type": "bind",
            "source": dir.join(name),
            "options": ["rbind", "rprivate"],
        })
    };
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev", "relatime"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        bind("resolv.conf"),
        bind("hostname"),
        bind("hosts"),
    ];
    if let Some(fence) = &plan.fence {
        // The directory, not the file: each new one replaces the one before.
        mounts.push(json!({
            "destination": "/run/mesh",
            "type": "bind",
            "source": fence.lease,
            "options": ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"],
        }));
    }
    Value::Array(mounts)
}

fn resources(limits: StoredLimits, host: &Host) -> Value {
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    let Some(fields) = resources.as_object_mut() else { return resources };
    if let Some(bytes) = limits.memory_bytes {
        let mut memory = json!({ "limit": bytes });
        // No swap on top: a limit means the same on every host, and what outgrows it is killed rather than slow.
        if host.limits_swap
            && let Some(memory) = memory.as_object_mut()
        {
            memory.insert("swap".to_owned(), json!(bytes));
        }
        fields.insert("memory".to_owned(), memory);
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = (millis.saturating_mul(CPU_PERIOD_US) / 1000).max(CPU_QUOTA_US_MIN);
        fields.insert("cpu".to_owned(), json!({ "quota": quota, "period": CPU_PERIOD_US }));
    }
    let pids = limits.pids.unwrap_or(PROCESSES_MAX);
    fields.insert("pids".to_owned(), json!({ "limit": pids }));
    resources
}

/// Writes the bundle's `config.json`.
pub(super) fn write(bundle: &Path, spec: &Value) -> io::Result<()> {
    fs::create_dir_all(bundle)?;
    fs::write(bundle.join("config.json"), serde_json::to_vec(spec)?)
}
