//! An eventfd: what wakes a thread that waits for datagrams.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// What is added to the counter, in the machine's own order.
#[expect(clippy::host_endian_bytes, reason = "the kernel reads an integer")]
const ONE: [u8; 8] = 1_u64.to_ne_bytes();

/// Wakes a waiting [`receive`](super::PacketIo::receive) from any thread. Whoever is woken while it does
/// not wait returns from its next wait at once.
#[derive(Clone)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

impl Waker {
    /// A new one that nobody waits for yet.
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event: Arc::new(event),
        })
    }

    /// Wakes. It costs a system call: keep a flag that says whether anybody sleeps.
    pub fn wake(&self) {
        // The counter is full only after 2^64 wakes that nobody took; it wakes then too.
        rustix::io::write(&self.event, &ONE).unwrap_or_default();
    }

    /// Forgets earlier wakes; whether there were any.
    pub(super) fn take(&self) -> bool {
        rustix::io::read(&self.event, &mut [0; 8]).is_ok()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_taken_once() {
        let waker = Waker::new().unwrap();
        assert!(!waker.take());
        let other = waker.clone();
        waker.wake();
        other.wake();
        assert!(waker.take());
        assert!(!waker.take());
    }
}
