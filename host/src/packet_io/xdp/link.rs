//! The `AF_XDP` socket: its frames, its four rings, and the program that feeds it.
#![expect(
    unsafe_code,
    reason = "whoever takes frames back vouches for where from"
)]

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::bpf;
use super::program::assemble;
use super::ring::{Consumer, Descriptor, Producer};
use super::umem::{FRAME_SIZE, Frame, Umem};
use crate::packet_io::{XdpMode, XdpSettings};

/// Frames and places of a ring, each way: 2048 are 4 ms at half a million a second, and 4 MiB.
const RING_COUNT: u32 = 2048;

/// How often sending is begun anew while the kernel takes some each time (in copy mode 32 a call).
const FLUSH_COUNT_MAX: u32 = 2 * RING_COUNT / 32;

/// Where in the file of the socket the rings are mapped (`if_xdp.h`).
const OFFSET_RX: u64 = 0;
const OFFSET_TX: u64 = 0x8000_0000;
const OFFSET_FILL: u64 = 0x1_0000_0000;
const OFFSET_COMPLETION: u64 = 0x1_8000_0000;

/// What became of a packet.
pub(super) enum Packet {
    /// It lies in the ring.
    Sent,
    /// No frame or place was free.
    Full,
    /// It could not be written.
    Unfit,
}

/// The socket and what belongs to it. The first fields go first: nothing feeds a socket that is gone.
pub(super) struct Link {
    _program: OwnedFd,
    _map: OwnedFd,
    fill: Producer<u64>,
    received: Consumer<Descriptor>,
    transmit: Producer<Descriptor>,
    completed: Consumer<u64>,
    socket: OwnedFd,
    /// Frames that nothing is sent from.
    free: Vec<Frame>,
    umem: Umem,
}

impl Link {
    /// Takes the datagrams to an address from a queue of an interface.
    pub(super) fn open(
        interface: u32,
        settings: &XdpSettings,
        address: SocketAddr,
    ) -> io::Result<Self> {
        let (umem, mut free) = Umem::new(2 * RING_COUNT)?;
        let socket = rustix::net::socket_with(
            AddressFamily::XDP,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (address_of_umem, size) = umem.range();
        let registration = XdpUmemReg {
            addr: address_of_umem,
            len: size,
            chunk_size: FRAME_SIZE,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(&socket, registration)?;
        sockopt::set_xdp_umem_fill_ring_size(&socket, RING_COUNT)?;
        sockopt::set_xdp_umem_completion_ring_size(&socket, RING_COUNT)?;
        sockopt::set_xdp_rx_ring_size(&socket, RING_COUNT)?;
        sockopt::set_xdp_tx_ring_size(&socket, RING_COUNT)?;
        let offsets = sockopt::xdp_mmap_offsets(&socket)?;
        let fd = socket.as_fd();
        let mut fill = Producer::map(fd, OFFSET_FILL, &offsets.fr, RING_COUNT)?;
        let completed = Consumer::map(fd, OFFSET_COMPLETION, &offsets.cr, RING_COUNT)?;
        let received = Consumer::map(fd, OFFSET_RX, &offsets.rx, RING_COUNT)?;
        let transmit = Producer::map(fd, OFFSET_TX, &offsets.tx, RING_COUNT)?;
        for frame in free.drain(..RING_COUNT as usize) {
            if !fill.push(Umem::lend(frame)) {
                break;
            }
        }
        fill.publish();
        bind(fd, interface, settings)?;
        let (program, map) = attach(fd, interface, settings, address)?;
        Ok(Self {
            _program: program,
            _map: map,
            fill,
            received,
            transmit,
            completed,
            socket,
            free,
            umem,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands over received frames, as long as more are wanted.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&[u8]) -> bool) {
        if self.transmit.pending() > 0 {
            // The device was full when these were sent.
            self.flush();
        }
        let mut is_any = false;
        let mut is_wanted = true;
        while is_wanted {
            let Some(descriptor) = self.received.pop() else {
                break;
            };
            is_any = true;
            // SAFETY: the address was just taken from the ring of received frames.
            let (frame, begin) = unsafe { self.umem.take_back(descriptor.address) };
            let end = begin.saturating_add(descriptor.size as usize);
            let bytes = self.umem.bytes(&frame).get(begin..end);
            is_wanted = take(bytes.unwrap_or_default());
            // There is a place for each frame that is received into.
            let is_filled = self.fill.push(Umem::lend(frame));
            debug_assert!(is_filled, "the ring has a place for each frame");
        }
        if is_any {
            self.received.release();
            self.fill.publish();
        }
        if self.fill.needs_wakeup() {
            // It says only that nothing is there for this call, which takes nothing.
            let nothing: &mut [u8] = &mut [];
            rustix::net::recv(&self.socket, nothing, RecvFlags::DONTWAIT).unwrap_or_default();
        }
    }

    /// Has a packet written into a free frame, which goes with the next `flush`. The closure gives its
    /// size, if it could write it.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Packet {
        if self.free.is_empty() || !self.transmit.has_room() {
            self.flush();
        }
        let Some(mut frame) = self.free.pop().filter(|_| self.transmit.has_room()) else {
            return Packet::Full;
        };
        let size = write(self.umem.bytes_mut(&mut frame)).and_then(|size| u32::try_from(size).ok());
        let Some(size) = size else {
            self.free.push(frame);
            return Packet::Unfit;
        };
        let descriptor = Descriptor {
            address: Umem::lend(frame),
            size,
            options: 0,
        };
        if self.transmit.push(descriptor) {
            Packet::Sent
        } else {
            Packet::Full
        }
    }

    /// Has the kernel send what lies in the ring, and takes back what it has sent.
    pub(super) fn flush(&mut self) {
        self.transmit.publish();
        let mut pending = self.transmit.pending();
        for _ in 0..FLUSH_COUNT_MAX {
            if pending == 0 || !self.transmit.needs_wakeup() {
                break;
            }
            let woken = rustix::net::send(&self.socket, &[], SendFlags::DONTWAIT);
            self.take_back_sent();
            let left = self.transmit.pending();
            // It takes 32 at a time. If it took none, the device is full: what lies here goes later.
            if left == pending || !matches!(woken, Ok(_) | Err(Errno::AGAIN | Errno::BUSY)) {
                break;
            }
            pending = left;
        }
        self.take_back_sent();
    }

    fn take_back_sent(&mut self) {
        while let Some(address) = self.completed.pop() {
            // SAFETY: the address was just taken from the ring of sent frames.
            let (frame, _) = unsafe { self.umem.take_back(address) };
            self.free.push(frame);
        }
        self.completed.release();
    }

    /// Frames that the kernel dropped, and how often it had no frame to receive into.
    pub(super) fn dropped_and_exhausted(&self) -> (Option<u64>, u64) {
        match sockopt::xdp_statistics(&self.socket) {
            Ok(statistics) => {
                let full = statistics.rx_ring_full.unwrap_or_default();
                let dropped = statistics.rx_dropped.saturating_add(full);
                let exhausted = statistics.rx_fill_ring_empty_descs.unwrap_or_default();
                (Some(dropped), exhausted)
            }
            Err(_) => (None, 0),
        }
    }
}

/// Binds the socket to its queue. A driver that can, reads and writes our frames itself; where the
/// kernel's own program runs, there is none to ask. A socket that was just closed has its queue for a
/// moment more, which is waited for.
fn bind(socket: BorrowedFd<'_>, interface: u32, settings: &XdpSettings) -> io::Result<()> {
    const TRY_COUNT: usize = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    if settings.mode == XdpMode::Generic {
        flags |= SocketAddrXdpFlags::XDP_COPY;
    }
    let address = SocketAddrXdp::new(flags, interface, settings.queue);
    for _ in 0..TRY_COUNT {
        match rustix::net::bind(socket, &address) {
            Err(Errno::BUSY) => std::thread::park_timeout(PAUSE),
            other => return Ok(other?),
        }
    }
    Err(Errno::BUSY.into())
}

/// Loads and attaches the program: while what this gives is open, it feeds the socket.
fn attach(
    socket: BorrowedFd<'_>,
    interface: u32,
    settings: &XdpSettings,
    address: SocketAddr,
) -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::AsRawFd as _;
    let map = bpf::make_map(settings.queue)?;
    bpf::put(map.as_fd(), settings.queue, socket)?;
    let program = bpf::load(&assemble(address, map.as_raw_fd()))?;
    let is_generic = settings.mode == XdpMode::Generic;
    let link = bpf::attach(program.as_fd(), interface, is_generic)?;
    Ok((link, map))
}
