//! Whether `io_uring` works: a ring is made, its operations are asked for, an executor is run.

use std::io;

use glommio::{LocalExecutorBuilder, Placement};
use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;

use crate::packet_io::{IoKind, OpenError, PacketIoSettings, open_best};

/// Entries of the ring that is only made to see whether it can be.
const ENTRY_COUNT: u32 = 8;

/// What glommio refuses to start below, in bytes (`sys/uring.rs`).
const LOCKED_MEMORY_MIN: u64 = 512 << 10;

/// The operations that an executor asks for, with their names.
const OPERATIONS: [(u8, &str); 21] = [
    (opcode::Nop::CODE, "NOP"),
    (opcode::Readv::CODE, "READV"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Statx::CODE, "STATX"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Recv::CODE, "RECV"),
];

/// Why no ring could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingRefusal {
    /// The kernel has no `io_uring` (`ENOSYS`), or a seccomp filter says that it has none.
    Unknown,
    /// It may not be used (`EPERM`, `EACCES`): the sysctl, a seccomp filter, a security module.
    Forbidden,
    /// The limit of locked memory is too low for it (`ENOMEM`).
    NoMemory,
    /// Something else.
    Other(String),
}

/// What of `io_uring` works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingFacts {
    /// Whether a ring can be made.
    pub ring: Result<(), RingRefusal>,
    /// Operations of the executors that the kernel does not know.
    pub missing: Vec<&'static str>,
    /// Whether an executor runs; none: not tried, since one of the above fails.
    pub executor: Option<Result<(), String>>,
}

/// Tries.
pub fn ring_facts() -> RingFacts {
    let (ring, missing) = match make_ring() {
        Ok(missing) => (Ok(()), missing),
        Err(fault) => (Err(refusal(&fault)), Vec::new()),
    };
    // Glommio ends the process where these are not there.
    let locked = super::limits().locked_memory.soft;
    let may_run =
        ring.is_ok() && missing.is_empty() && locked.is_none_or(|bytes| bytes >= LOCKED_MEMORY_MIN);
    RingFacts {
        ring,
        missing,
        executor: may_run.then(run_executor),
    }
}

/// Opens the port of a packet tile as a node would, and closes it: which back end it is, and what
/// failed of those that were to be tried before, with what to do.
pub fn try_packet_io(settings: &PacketIoSettings) -> Result<(IoKind, Vec<String>), OpenError> {
    let mut failures = Vec::new();
    let opened = open_best(settings, &mut failures)?;
    Ok((opened.kind(), failures))
}

/// Makes a ring; gives the operations that the kernel does not know.
fn make_ring() -> io::Result<Vec<&'static str>> {
    let ring = IoUring::new(ENTRY_COUNT)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let unknown = OPERATIONS
        .iter()
        .filter(|(code, _)| !probe.is_supported(*code));
    Ok(unknown.map(|(_, name)| *name).collect())
}

fn refusal(fault: &io::Error) -> RingRefusal {
    match Errno::from_io_error(fault) {
        Some(Errno::NOSYS) => RingRefusal::Unknown,
        Some(Errno::PERM | Errno::ACCESS) => RingRefusal::Forbidden,
        Some(Errno::NOMEM) => RingRefusal::NoMemory,
        _ => RingRefusal::Other(fault.to_string()),
    }
}

fn run_executor() -> Result<(), String> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("doctor")
        .spawn(async || ());
    let ended = executor.map_err(|fault| fault.to_string())?.join();
    ended.map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_reason() {
        let table = [
            (libc::ENOSYS, RingRefusal::Unknown),
            (libc::EPERM, RingRefusal::Forbidden),
            (libc::EACCES, RingRefusal::Forbidden),
            (libc::ENOMEM, RingRefusal::NoMemory),
        ];
        for (errno, expected) in table {
            assert_eq!(refusal(&io::Error::from_raw_os_error(errno)), expected);
        }
        let other = refusal(&io::Error::from_raw_os_error(libc::EINVAL));
        assert!(matches!(other, RingRefusal::Other(_)));
    }

    #[test]
    fn what_the_shards_of_other_tests_need_is_found() {
        let facts = ring_facts();
        assert_eq!(facts.ring, Ok(()));
        assert!(facts.missing.is_empty(), "{facts:?}");
        assert_eq!(facts.executor, Some(Ok(())));
    }
}
