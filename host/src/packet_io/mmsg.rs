//! `recvmmsg` and `sendmmsg`: for machines and containers without `io_uring`.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::cut::{Cut, deliver};
use super::name::{CONTROL_SIZE, Control, NAME_SIZE, Name, read_name, read_segment_size};
use super::outgoing::Outgoing;
use super::statistics::IoStatistics;
use super::waker::Waker;
use super::{IoKind, OpenError, PacketIo, PacketIoSettings, socket};
use cepa_relay::packet::batch::{BATCH_CAPACITY_MAX, Batch, Datagram};

/// Messages that are taken with one call: with one datagram each, as from many peers, as many as a
/// batch of usual size has. Together 4 MiB, touched as far as messages fill them.
const BUFFER_COUNT: usize = 64;

/// Bytes of a buffer: the largest UDP payload, and whatever the kernel joins, is less than 64 KiB.
const BUFFER_SIZE: usize = 65_536;

/// One UDP socket, driven by plain system calls.
pub(super) struct Mmsg {
    socket: Socket,
    address: SocketAddr,
    waker: Waker,
    incoming: Incoming,
    outgoing: Outgoing,
    statistics: IoStatistics,
}

impl Mmsg {
    pub(super) fn open(settings: &PacketIoSettings) -> Result<Self, OpenError> {
        let socket = socket::open(settings)?;
        // A kernel before 5.0 joins nothing, which costs time only.
        drop(socket::join_received(&socket));
        let address = socket::local_address(&socket).map_err(OpenError::Socket)?;
        Ok(Self {
            address,
            waker: Waker::new().map_err(OpenError::Socket)?,
            incoming: Incoming::new(),
            outgoing: Outgoing::new(address.is_ipv6()),
            statistics: IoStatistics::default(),
            socket,
        })
    }

    /// Takes what is there, as far as there is room.
    pub(super) fn take(&mut self, batch: &mut Batch) -> io::Result<()> {
        while self.incoming.deliver(batch, &mut self.statistics) && !batch.is_full() {
            if self.incoming.receive(&self.socket)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Sends some of a batch; gives how many the kernel took.
    pub(super) fn send_some(
        &mut self,
        part: &[Datagram],
        indexes: impl Iterator<Item = u16>,
    ) -> usize {
        let mut prepared = self.outgoing.prepare(part, indexes, &mut self.statistics);
        prepared.send_all(self.socket.as_fd());
        let sent = prepared.sent();
        let again = self.outgoing.prepare_again(part, &mut self.statistics);
        again.map_or(sent, |mut again| {
            again.send_all(self.socket.as_fd());
            sent + again.sent()
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) const fn own_waker(&self) -> &Waker {
        &self.waker
    }
}

impl PacketIo for Mmsg {
    fn kind(&self) -> IoKind {
        IoKind::Mmsg
    }

    fn receive(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<usize> {
        batch.clear();
        self.take(batch)?;
        if let Some(wait) = wait.filter(|_| batch.is_empty()) {
            wait_for([self.socket.as_fd()], &self.waker, wait)?;
            self.take(batch)?;
        }
        Ok(batch.len())
    }

    fn send(&mut self, datagrams: &[Datagram]) -> io::Result<usize> {
        let parts = datagrams.chunks(BATCH_CAPACITY_MAX);
        let sent = parts.map(|part| self.send_some(part, 0..)).sum();
        Ok(sent)
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn statistics(&self) -> IoStatistics {
        IoStatistics {
            kernel_dropped: socket::dropped(&self.socket),
            ..self.statistics
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Waits until one of some sockets has something, somebody wakes, or the time is over; wakes are taken.
pub(super) fn wait_for<const COUNT: usize>(
    sockets: [BorrowedFd<'_>; COUNT],
    waker: &Waker,
    wait: Duration,
) -> io::Result<()> {
    // What the kernel can't count to is for ever.
    let timeout = Timespec::try_from(wait).ok();
    let event = [waker.fd()];
    let mut ends = sockets
        .iter()
        .chain(&event)
        .map(|end| PollFd::new(end, PollFlags::IN));
    let mut ends: [PollFd<'_>; 3] = core::array::from_fn(|_| {
        ends.next()
            .unwrap_or_else(|| PollFd::new(&event[0], PollFlags::IN))
    });
    match poll(&mut ends, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    // The last is the eventfd, or it again.
    if !ends[2].revents().is_empty() {
        waker.take();
    }
    Ok(())
}

/// Messages as they come.
pub(super) struct Incoming {
    buffers: Box<[u8]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// How many were received, and the next of them that is not wholly delivered.
    count: usize,
    next: usize,
    cut: Option<Cut>,
}

impl Incoming {
    fn new() -> Self {
        let iovec = libc::iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            buffers: vec![0; BUFFER_COUNT * BUFFER_SIZE].into_boxed_slice(),
            names: vec![Name([0; NAME_SIZE]); BUFFER_COUNT].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_SIZE]); BUFFER_COUNT].into_boxed_slice(),
            iovecs: vec![iovec; BUFFER_COUNT].into_boxed_slice(),
            headers: (0..BUFFER_COUNT).map(|_| socket::empty_header()).collect(),
            count: 0,
            next: 0,
            cut: None,
        }
    }

    /// The headers, each with a buffer of its own.
    pub(super) fn lay_out(&mut self) -> &mut [libc::mmsghdr] {
        let buffers = self.buffers.chunks_exact_mut(BUFFER_SIZE);
        for (iovec, buffer) in self.iovecs.iter_mut().zip(buffers) {
            iovec.iov_base = buffer.as_mut_ptr().cast();
            iovec.iov_len = buffer.len();
        }
        let iovecs = self.iovecs.as_mut_ptr();
        let names = self.names.as_mut_ptr();
        let controls = self.controls.as_mut_ptr();
        for (index, header) in self.headers.iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_iov = iovecs.wrapping_add(index);
            header.msg_iovlen = 1;
            header.msg_name = names.wrapping_add(index).cast();
            header.msg_namelen = libc::socklen_t::try_from(NAME_SIZE).unwrap_or_default();
            header.msg_control = controls.wrapping_add(index).cast();
            header.msg_controllen = CONTROL_SIZE;
            header.msg_flags = 0;
        }
        &mut self.headers
    }

    /// Receives anew, which is for when everything was delivered; gives how many messages came.
    fn receive(&mut self, from: &Socket) -> io::Result<usize> {
        self.next = 0;
        self.cut = None;
        self.count = match socket::receive(from.as_fd(), self) {
            Ok(count) => count,
            Err(error) if is_passing(&error) => 0,
            Err(error) => {
                self.count = 0;
                return Err(error);
            }
        };
        Ok(self.count)
    }

    /// Puts what was received into slots; whether all of it found room.
    fn deliver(&mut self, batch: &mut Batch, statistics: &mut IoStatistics) -> bool {
        while self.next < self.count {
            if !self.deliver_next(batch, statistics) {
                return false;
            }
            self.cut = None;
            self.next += 1;
        }
        true
    }

    fn deliver_next(&mut self, batch: &mut Batch, statistics: &mut IoStatistics) -> bool {
        let (Some(header), Some(name), Some(control), Some(buffer)) = (
            self.headers.get(self.next),
            self.names.get(self.next),
            self.controls.get(self.next),
            self.buffers.chunks_exact(BUFFER_SIZE).nth(self.next),
        ) else {
            return true;
        };
        let size = usize::try_from(header.msg_len).unwrap_or_default();
        let Some(peer) = read_name(&name.0) else {
            return true;
        };
        let cut = self.cut.get_or_insert_with(|| {
            let control = control.0.get(..header.msg_hdr.msg_controllen);
            Cut::new(size, read_segment_size(control.unwrap_or_default()))
        });
        let payload = buffer.get(..size).unwrap_or_default();
        deliver(payload, cut, peer, batch, statistics)
    }
}

/// Whether an error of receiving says only that nothing is there now, or tells of an earlier send.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::WouldBlock
            | Kind::Interrupted
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}
