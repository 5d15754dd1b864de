//! Docker's default system call filter, without libseccomp.
//!
//! Two filters are stacked, because one of `seccompiler` has one answer for what it does not allow: the first answers `EPERM`
//! to everything outside the list in [`profile`]; the second answers `ENOSYS` to `clone3`, whose flags no filter can read, so
//! that the C library falls back to `clone`. The kernel takes the severer answer.
//!
//! What differs from Docker: system calls of another word size or calling convention (32-bit programs) end the process.

mod profile;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sys;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters, compiled for this processor.
#[derive(Clone)]
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles them. `device_nodes` says whether the container may make device nodes: not where nothing else keeps it from
    /// opening them (cgroup v2, whose device rules need a BPF program that libcontainer leaves out).
    pub(crate) fn compile(device_nodes: bool) -> Result<Self, seccompiler::Error> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let allowed = SeccompFilter::new(
            allowed()?,
            SeccompAction::Errno(errno(libc::EPERM)),
            SeccompAction::Allow,
            arch,
        )?;
        let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let absent = SeccompFilter::new(
            absent,
            SeccompAction::Allow,
            SeccompAction::Errno(errno(libc::ENOSYS)),
            arch,
        )?;
        let mut programs = vec![allowed.try_into()?, absent.try_into()?];
        if !device_nodes {
            let nodes = SeccompFilter::new(
                device_nodes_rules()?,
                SeccompAction::Allow,
                SeccompAction::Errno(errno(libc::EPERM)),
                arch,
            )?;
            programs.push(nodes.try_into()?);
        }
        Ok(Self(programs))
    }

    /// Puts this process under the filters, for good. Needs `CAP_SYS_ADMIN`.
    pub(crate) fn install(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|program| sys::install_filter(program))
    }
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

fn allowed() -> Result<Rules, seccompiler::Error> {
    let mut rules: Rules = profile::ALLOWED
        .iter()
        .chain(profile::ALLOWED_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    let no_namespaces = condition(
        profile::CLONE_FLAGS_ARGUMENT,
        SeccompCmpOp::MaskedEq(profile::CLONE_NAMESPACES),
        0,
    )?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_namespaces])?]);
    let personalities = profile::PERSONALITIES
        .iter()
        .map(|value| Ok(SeccompRule::new(vec![condition(0, SeccompCmpOp::Eq, *value)?])?))
        .collect::<Result<Vec<_>, seccompiler::Error>>()?;
    rules.insert(libc::SYS_personality, personalities);
    let family = condition(0, SeccompCmpOp::Ne, profile::AF_VSOCK)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![family])?]);
    Ok(rules)
}

fn device_nodes_rules() -> Result<Rules, seccompiler::Error> {
    let kinds = [u64::from(libc::S_IFCHR), u64::from(libc::S_IFBLK)];
    let mut rules = Rules::new();
    for (call, argument) in profile::MAKE_NODE {
        let of_call = kinds
            .iter()
            .map(|kind| {
                let mask = SeccompCmpOp::MaskedEq(u64::from(libc::S_IFMT));
                Ok(SeccompRule::new(vec![condition(*argument, mask, *kind)?])?)
            })
            .collect::<Result<Vec<_>, seccompiler::Error>>()?;
        rules.insert(*call, of_call);
    }
    Ok(rules)
}

/// Compares the lower half of an argument: the kernel reads these arguments as 32-bit numbers too.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    //! What can be said without a container; the rest is in the tests of the driver.

    use super::{Filters, allowed, profile};

    #[test]
    fn the_filters_compile_for_this_processor() {
        assert_eq!(Filters::compile(true).expect("compiles").0.len(), 2);
        assert_eq!(Filters::compile(false).expect("compiles").0.len(), 3);
    }

    #[test]
    fn dangerous_calls_are_not_on_the_list() {
        let rules = allowed().expect("well formed");
        let dangerous = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_bpf,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_open_by_handle_at,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_clock_settime,
            libc::SYS_pivot_root,
            libc::SYS_reboot,
        ];
        for call in dangerous {
            assert!(!rules.contains_key(&call), "{call} is allowed");
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls: Vec<i64> =
            profile::ALLOWED.iter().chain(profile::ALLOWED_HERE).copied().collect();
        calls.sort_unstable();
        let listed = calls.len();
        calls.dedup();
        assert_eq!(calls.len(), listed);
    }
}
