//! Which system calls a node may make once it runs: a list, found with `strace` over all that the tests do.
//!
//! What is not in it, the kernel says not to have (`ENOSYS`): the C library then takes the older way, where
//! `EPERM` would be an answer to what it asked, and a new version of it does not take the node down. What no
//! node ever does and an intruder would do first ends the process: there is nothing to go on with.

mod lists;

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter_all_threads,
};

use self::lists::{ALLOWED, DEADLY, OF_X86_64};
use super::SandboxError;

/// Rules of one call: any of them may match; none stands for "always".
type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Bounds all threads of the process, and those to come, for good. Call it when every ring of `io_uring` is
/// made: there are no more to come.
///
/// # Errors
///
/// The kernel has no seccomp, or a thread has filters of its own.
pub fn filter_system_calls() -> Result<(), SandboxError> {
    let failed = |fault: seccompiler::Error| SandboxError::Seccomp(fault.to_string());
    for program in [deadly(), allowed()] {
        apply_filter_all_threads(&program?).map_err(failed)?;
    }
    Ok(())
}

/// Ends the process at what no node does.
fn deadly() -> Result<BpfProgram, SandboxError> {
    let rules = DEADLY.iter().map(|call| (*call, Vec::new())).collect();
    compile(rules, SeccompAction::Allow, SeccompAction::KillProcess)
}

/// Knows nothing but what a node does.
fn allowed() -> Result<BpfProgram, SandboxError> {
    let calls = ALLOWED.iter().chain(OF_X86_64);
    let mut rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
    let conditional = conditional().map_err(|fault| SandboxError::Seccomp(fault.to_string()))?;
    rules.extend(conditional);
    let absent = u32::try_from(libc::ENOSYS).unwrap_or_default();
    compile(rules, SeccompAction::Errno(absent), SeccompAction::Allow)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let failed = |fault: seccompiler::BackendError| SandboxError::Seccomp(fault.to_string());
    let target = TargetArch::try_from(ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, target).map_err(failed)?;
    filter.try_into().map_err(failed)
}

/// Calls that are allowed with some arguments only.
fn conditional() -> Result<Rules, seccompiler::BackendError> {
    // Memory is written or executed, never both.
    let (write, execute) = (bits(libc::PROT_WRITE), bits(libc::PROT_EXEC));
    let not_both = [without(2, write)?, without(2, execute)?];
    let sockets = [
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_UNIX,
        libc::AF_NETLINK,
    ];
    let sockets = sockets.map(|family| is(0, bits(family)));
    let controls = [
        libc::FIONBIO,
        libc::FIONREAD,
        libc::TCGETS,
        libc::TIOCGWINSZ,
    ];
    let controls = controls.map(|request| is(1, request));
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
    let names = names.map(|option| is(0, bits(option)));
    // A thread, no process. What clone3 is asked for, a filter can't see; without it the C library takes clone.
    let thread = bits(libc::CLONE_THREAD);
    let is_thread = Condition::new(0, Length::Qword, Compare::MaskedEq(thread), thread)?;
    Ok(Rules::from([
        (libc::SYS_mmap, not_both.into()),
        (libc::SYS_mprotect, vec![without(2, execute)?]),
        (
            libc::SYS_socket,
            sockets.into_iter().collect::<Result<_, _>>()?,
        ),
        (
            libc::SYS_ioctl,
            controls.into_iter().collect::<Result<_, _>>()?,
        ),
        (
            libc::SYS_prctl,
            names.into_iter().collect::<Result<_, _>>()?,
        ),
        (libc::SYS_clone, vec![SeccompRule::new(vec![is_thread])?]),
        // Our own limits.
        (libc::SYS_prlimit64, vec![is(0, 0)?]),
    ]))
}

/// The argument is this.
fn is(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let equal = Condition::new(argument, Length::Dword, Compare::Eq, value)?;
    SeccompRule::new(vec![equal])
}

/// The argument has none of these bits.
fn without(argument: u8, mask: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let none = Condition::new(argument, Length::Qword, Compare::MaskedEq(mask), 0)?;
    SeccompRule::new(vec![none])
}

/// Flags as the filter has them; none of ours is negative.
fn bits(flags: libc::c_int) -> u64 {
    u64::try_from(flags).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_lists_are_sets_and_have_nothing_in_common() {
        let conditional: Vec<_> = conditional().unwrap().into_keys().collect();
        let mut seen = BTreeSet::new();
        let all = ALLOWED
            .iter()
            .chain(OF_X86_64)
            .chain(DEADLY)
            .chain(&conditional);
        for call in all {
            assert!(seen.insert(*call), "system call {call} stands twice");
        }
    }

    #[test]
    fn what_would_get_around_them_is_in_no_list() {
        for call in [
            libc::SYS_io_uring_setup,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_seccomp,
        ] {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
    }

    #[test]
    fn both_compile() {
        // The kernel takes 4096 instructions.
        for program in [deadly().unwrap(), allowed().unwrap()] {
            assert!((100..4096).contains(&program.len()), "{}", program.len());
        }
    }
}
