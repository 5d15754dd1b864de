//! What a node can set aside for containers.

use std::fs;

use mesh_coordinator::spec::{Bytes, Cpu, Reservation};
use nix::unistd::{SysconfVar, sysconf};

use crate::cgroup::{Ceiling, Group};

/// The host keeps a sixteenth of itself, but at least enough for a small system with the agent (64 MB), `sshd` and the kernel's
/// own needs, and at most what even a busy one uses: reservations are promises, and a node that is promised away to the last
/// byte fails them all together.
const HOST_SHARE: u64 = 16;
const HOST_MEMORY_MIN: u64 = 128 << 20;
const HOST_MEMORY_MAX: u64 = 2 << 30;
const HOST_CPU_MILLIS_MIN: u64 = 100;
const HOST_CPU_MILLIS_MAX: u64 = 1000;

/// So much of the numbers that the host has for processes is for containers, in quarters: the rest is for the agent, for `sshd`
/// and for whoever looks at what is wrong.
const PROCESS_QUARTERS: u64 = 3;

/// What all containers in `parent` together may take, so that a container without limits takes from other containers and not
/// from the host.
pub(crate) fn ceiling(parent: &Group) -> Ceiling {
    let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let processes = limits.into_iter().filter_map(number).min();
    let memory = measure(parent).memory.0;
    Ceiling {
        memory: (memory > 0).then_some(memory),
        processes: processes.map(|number| number / 4 * PROCESS_QUARTERS),
    }
}

/// What this host has for containers in `parent`: its memory or the limit of a group above, whichever is smaller, and its
/// processors, each less the host's share.
pub(crate) fn measure(parent: &Group) -> Reservation {
    let processors = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let processors = processors.and_then(|number| u64::try_from(number).ok()).unwrap_or(1);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = total(&meminfo).unwrap_or(0);
    let memory = parent.memory_limit_above().map_or(memory, |limit| limit.min(memory));
    less_host(processors.saturating_mul(1000), memory)
}

fn less_host(millis: u64, memory: u64) -> Reservation {
    let cpu_kept = (millis / HOST_SHARE).clamp(HOST_CPU_MILLIS_MIN, HOST_CPU_MILLIS_MAX);
    let memory_kept = (memory / HOST_SHARE).clamp(HOST_MEMORY_MIN, HOST_MEMORY_MAX);
    Reservation {
        cpu: Cpu { millis: millis.saturating_sub(cpu_kept) },
        memory: Bytes(memory.saturating_sub(memory_kept)),
    }
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    //! The host's share.

    use mesh_coordinator::spec::{Bytes, Cpu};

    use super::{less_host, total};

    #[test]
    fn small_and_large_hosts_keep_something() {
        let small = less_host(1000, 1 << 30);
        assert_eq!(small.cpu, Cpu { millis: 900 });
        assert_eq!(small.memory, Bytes((1 << 30) - (128 << 20)));
        let large = less_host(64_000, 256 << 30);
        assert_eq!(large.cpu, Cpu { millis: 63_000 });
        assert_eq!(large.memory, Bytes(254 << 30));
        assert_eq!(less_host(1000, 1 << 20).memory, Bytes(0));
    }

    #[test]
    fn the_kernel_counts_in_kibibytes() {
        assert_eq!(total("MemTotal:       24683508 kB\nMemFree: 1 kB\n"), Some(24_683_508 << 10));
    }
}
