//! `io_uring`: one multishot receive into a ring of buffers, joined by the kernel (`UDP_GRO`); sends of
//! runs (`UDP_SEGMENT`), which go while they are submitted.

mod buffers;
mod ring;

use core::marker::PhantomData;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use socket2::Socket;

use self::ring::Ring;
use super::outgoing::Outgoing;
use super::statistics::IoStatistics;
use super::waker::Waker;
use super::{IoKind, OpenError, PacketIo, PacketIoSettings, socket};
use cepa_relay::packet::batch::{BATCH_CAPACITY_MAX, Batch, Datagram};

/// One UDP socket and its ring.
pub(super) struct Uring {
    ring: Ring,
    outgoing: Outgoing,
    statistics: IoStatistics,
    waker: Waker,
    address: SocketAddr,
    socket: Socket,
    /// The kernel takes submissions of the thread alone that made the ring.
    is_of_one_thread: PhantomData<*const ()>,
}

impl Uring {
    pub(super) fn open(settings: &PacketIoSettings) -> Result<Self, OpenError> {
        let socket = socket::open(settings)?;
        // A kernel that knows multishot receives joins datagrams too.
        socket::join_received(&socket).map_err(OpenError::Socket)?;
        let address = socket::local_address(&socket).map_err(OpenError::Socket)?;
        let waker = Waker::new().map_err(OpenError::Socket)?;
        Ok(Self {
            ring: Ring::open(&socket, waker.clone()).map_err(OpenError::IoUring)?,
            outgoing: Outgoing::new(address.is_ipv6()),
            statistics: IoStatistics::default(),
            waker,
            address,
            socket,
            is_of_one_thread: PhantomData,
        })
    }
}

impl PacketIo for Uring {
    fn kind(&self) -> IoKind {
        IoKind::IoUring
    }

    fn receive(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<usize> {
        batch.clear();
        let statistics = &mut self.statistics;
        self.ring.receive(batch, statistics)?;
        if let Some(wait) = wait.filter(|_| batch.is_empty()) {
            self.ring.wait(wait)?;
            self.ring.receive(batch, statistics)?;
        }
        Ok(batch.len())
    }

    fn send(&mut self, datagrams: &[Datagram]) -> io::Result<usize> {
        let mut sent = 0;
        for part in datagrams.chunks(BATCH_CAPACITY_MAX) {
            let mut prepared = self.outgoing.prepare(part, 0.., &mut self.statistics);
            self.ring.send_all(&mut prepared)?;
            sent += prepared.sent();
            if let Some(mut again) = self.outgoing.prepare_again(part, &mut self.statistics) {
                self.ring.send_all(&mut again)?;
                sent += again.sent();
            }
        }
        Ok(sent)
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn statistics(&self) -> IoStatistics {
        IoStatistics {
            exhausted: self.ring.exhausted(),
            kernel_dropped: socket::dropped(&self.socket),
            ..self.statistics
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
