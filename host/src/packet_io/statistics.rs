//! What the I/O of datagrams counts. No counter tells of an address.

use std::io;

use rustix::io::Errno;

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStatistics {
    /// Datagrams handed to the caller.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams taken by the kernel for sending. Whether they arrive nobody knows.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Received datagrams that were dropped since they are larger than a slot.
    pub oversized: u64,
    /// Frames that were no good: wrong checksums or lengths. The kernel counts these itself
    /// where it has the headers; then this stays 0.
    pub malformed: u64,
    /// How often receiving stopped since all buffers were in use. Nothing is lost by that alone: what
    /// comes waits in the socket, and is dropped when that is full.
    pub exhausted: u64,
    /// Datagrams that the kernel dropped before we saw them, since we were too slow; none if unknown.
    pub kernel_dropped: Option<u64>,
    /// Datagrams that came by the kernel's stack all the same (`AF_XDP` only): by another queue, in
    /// fragments. They count as received too. If they are many, the queue is the wrong one.
    pub received_otherwise: u64,
    /// Datagrams sent by the kernel's stack, since the way to the peer was not known or not ours (`AF_XDP` only). They
    /// count as sent too.
    pub sent_otherwise: u64,
    /// Datagrams that could not be sent.
    pub failures: SendFailures,
}

/// Datagrams that were dropped in sending, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFailures {
    /// Socket, ring or device was full.
    pub full: u64,
    /// No way to the peer's address.
    pub unreachable: u64,
    /// The peer's machine said that nobody listens.
    pub refused: u64,
    /// Larger than the way to the peer takes.
    pub too_large: u64,
    /// A filter or rule of this machine forbids it.
    pub forbidden: u64,
    /// Anything else.
    pub other: u64,
}

impl SendFailures {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.full
            .saturating_add(self.unreachable)
            .saturating_add(self.refused)
            .saturating_add(self.too_large)
            .saturating_add(self.forbidden)
            .saturating_add(self.other)
    }

    /// Those of two sockets.
    pub(super) const fn plus(&self, other: &Self) -> Self {
        Self {
            full: self.full + other.full,
            unreachable: self.unreachable + other.unreachable,
            refused: self.refused + other.refused,
            too_large: self.too_large + other.too_large,
            forbidden: self.forbidden + other.forbidden,
            other: self.other + other.other,
        }
    }

    /// Counts datagrams that failed together.
    pub(super) fn count(&mut self, error: &io::Error, datagrams: u64) {
        let counter = match Errno::from_io_error(error) {
            Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => &mut self.full,
            Some(
                Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::NETDOWN
                | Errno::HOSTDOWN
                | Errno::ADDRNOTAVAIL
                | Errno::AFNOSUPPORT,
            ) => &mut self.unreachable,
            Some(Errno::CONNREFUSED) => &mut self.refused,
            Some(Errno::MSGSIZE) => &mut self.too_large,
            Some(Errno::PERM | Errno::ACCESS) => &mut self.forbidden,
            _ => &mut self.other,
        };
        *counter += datagrams;
    }
}
