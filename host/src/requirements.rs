//! What a node can't do without: `io_uring`, which its executors run on. Containers and hardened kernels forbid
//! it; that is asked before anything is begun, and whoever runs the node is told what forbids it and what helps.

use std::fs;
use std::io;

use io_uring::IoUring;
use thiserror::Error;

/// Entries of the ring that is made for trying.
const ENTRY_COUNT: u32 = 8;

/// The page of the documents that has the commands.
const HOW: &str = "packaging/README.md has the commands";

/// Why there is no `io_uring`, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RingRefusal {
    /// `kernel.io_uring_disabled` is 2.
    #[error(
        "io_uring, which the node runs on, is switched off for all: kernel.io_uring_disabled is 2; \
         say `sysctl -w kernel.io_uring_disabled=0` on the machine itself, and put it into \
         /etc/sysctl.d to keep it"
    )]
    Disabled,
    /// `kernel.io_uring_disabled` is 1, and we are not in the group.
    #[error(
        "io_uring, which the node runs on, is only for a group here: kernel.io_uring_disabled is 1; \
         put the node's user into the group of kernel.io_uring_group, or say `sysctl -w \
         kernel.io_uring_disabled=0` on the machine itself"
    )]
    GroupOnly,
    /// A filter of system calls refuses it, as Docker's own does.
    #[error(
        "io_uring, which the node runs on, is forbidden by a seccomp filter, as container engines \
         set one; give the container config/docker-seccomp.json: `docker run --security-opt \
         seccomp=docker-seccomp.json`, the same for podman, and for Kubernetes a seccompProfile of \
         type Localhost; under systemd add `SystemCallFilter=io_uring_setup io_uring_enter io_uring_register`; {HOW}"
    )]
    Filtered,
    /// The kernel does not have it.
    #[error(
        "this kernel has no io_uring, which the node runs on: it needs Linux 5.8 or newer, built \
         with CONFIG_IO_URING; gVisor and other sandboxes that stand in for the kernel have none"
    )]
    Absent,
    /// Rings count as locked memory in kernels before 5.12.
    #[error(
        "there is too little locked memory for io_uring, which the node runs on: raise it with \
         `ulimit -l unlimited`, LimitMEMLOCK=infinity in systemd, or `docker run --ulimit \
         memlock=-1`"
    )]
    Memory,
    /// Something else.
    #[error("io_uring, which the node runs on, can't be used: {0}")]
    Other(String),
}

/// What was seen of the machine after a ring was refused.
struct Seen {
    /// `kernel.io_uring_disabled`, where the kernel has it (6.6 and above).
    disabled: Option<u8>,
    /// A filter of system calls is on us.
    is_filtered: bool,
}

/// Makes a ring and gives it back.
///
/// # Errors
///
/// There is none to be had.
pub fn check_io_uring() -> Result<(), RingRefusal> {
    let Err(fault) = IoUring::new(ENTRY_COUNT) else {
        return Ok(());
    };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let seen = Seen {
        disabled: disabled.ok().and_then(|text| text.trim().parse().ok()),
        is_filtered: is_filtered(&status),
    };
    Err(explain(&fault, &seen))
}

fn explain(fault: &io::Error, seen: &Seen) -> RingRefusal {
    match fault.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match seen.disabled {
            Some(2) => RingRefusal::Disabled,
            // The group may be ours, and a filter be what refuses it.
            Some(1) if !seen.is_filtered => RingRefusal::GroupOnly,
            _ if seen.is_filtered => RingRefusal::Filtered,
            _ => RingRefusal::Other(format!(
                "{fault}; a security module may forbid it (SELinux, AppArmor)"
            )),
        },
        Some(libc::ENOSYS) if seen.is_filtered => RingRefusal::Filtered,
        Some(libc::ENOSYS) => RingRefusal::Absent,
        Some(libc::ENOMEM) => RingRefusal::Memory,
        _ => RingRefusal::Other(fault.to_string()),
    }
}

/// Whether the text of `/proc/self/status` tells of a filter.
fn is_filtered(status: &str) -> bool {
    let mut lines = status.lines();
    lines.any(|line| {
        let mode = line.strip_prefix("Seccomp:");
        mode.is_some_and(|mode| mode.trim() == "2")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forbids_a_ring_is_told() {
        let seen = |disabled, is_filtered| Seen {
            disabled,
            is_filtered,
        };
        let table = [
            (libc::EPERM, seen(Some(2), false), RingRefusal::Disabled),
            (libc::EPERM, seen(Some(2), true), RingRefusal::Disabled),
            (libc::EPERM, seen(Some(1), false), RingRefusal::GroupOnly),
            (libc::EPERM, seen(Some(1), true), RingRefusal::Filtered),
            (libc::EPERM, seen(Some(0), true), RingRefusal::Filtered),
            (libc::EPERM, seen(None, true), RingRefusal::Filtered),
            (libc::ENOSYS, seen(None, true), RingRefusal::Filtered),
            (libc::ENOSYS, seen(None, false), RingRefusal::Absent),
            (libc::ENOMEM, seen(Some(0), false), RingRefusal::Memory),
        ];
        for (code, seen, expected) in table {
            let fault = io::Error::from_raw_os_error(code);
            assert_eq!(explain(&fault, &seen), expected, "{code}");
        }
        let strange = explain(
            &io::Error::from_raw_os_error(libc::EPERM),
            &seen(Some(0), false),
        );
        assert!(strange.to_string().contains("SELinux"), "{strange}");
    }

    #[test]
    fn a_filter_is_seen_in_the_status() {
        assert!(is_filtered(
            "Name:\tcepa\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!is_filtered(
            "Name:\tcepa\nSeccomp:\t0\nSeccomp_filters:\t0\n"
        ));
        assert!(!is_filtered(""));
    }

    #[test]
    fn every_refusal_says_what_to_do_in_one_line() {
        for refusal in [
            RingRefusal::Disabled,
            RingRefusal::GroupOnly,
            RingRefusal::Filtered,
            RingRefusal::Absent,
            RingRefusal::Memory,
        ] {
            let text = refusal.to_string();
            assert!(
                text.contains("io_uring") && text.lines().count() == 1,
                "{text}"
            );
            assert!(!text.contains("  "), "{text}");
        }
    }

    #[test]
    fn this_machine_has_one() {
        assert_eq!(check_io_uring(), Ok(()));
    }
}
