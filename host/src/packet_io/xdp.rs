//! `AF_XDP`: frames of one queue of an interface, which pass the kernel's stack by. What it does not
//! carry goes by an ordinary socket of the same port: first datagrams to a neighbour, other interfaces,
//! fragments.

mod bpf;
mod link;
mod mapping;
mod neighbours;
mod netlink;
mod program;
mod ring;
mod umem;

use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use cepa_wire::udp_frame::{FrameAddresses, UdpFrame};

use self::link::{Link, Packet};
use self::neighbours::Neighbours;
use self::netlink::{Interface, Netlink};
use super::mmsg::{Mmsg, wait_for};
use super::statistics::IoStatistics;
use super::waker::Waker;
use super::{IoKind, OpenError, PacketIo, PacketIoSettings, XdpSettings};
use crate::clock;
use cepa_relay::packet::batch::{BATCH_CAPACITY_MAX, Batch, DATAGRAM_SIZE_MAX, Datagram};

/// Every so many receives the ordinary socket is looked at too, if frames keep coming.
const SOCKET_EVERY: u32 = 16;

/// One queue of an interface, and a socket beside it.
pub(super) struct Xdp {
    link: Link,
    address: SocketAddr,
    interface: Interface,
    neighbours: Neighbours,
    /// What goes by the socket.
    others: Vec<u16>,
    receives: u32,
    socket: Mmsg,
    statistics: IoStatistics,
}

impl Xdp {
    pub(super) fn open(settings: &PacketIoSettings, xdp: &XdpSettings) -> Result<Self, OpenError> {
        let mut netlink = Netlink::open().map_err(OpenError::AfXdp)?;
        let (interface, address) =
            find_interface(&mut netlink, settings.address, xdp).map_err(OpenError::AfXdp)?;
        // It has the port, so that nobody else takes it, and nobody is told that it is dead.
        let socket = Mmsg::open(&PacketIoSettings {
            address,
            ..settings.clone()
        })?;
        let address = socket.local_address();
        let link = Link::open(interface.index, xdp, address).map_err(OpenError::AfXdp)?;
        Ok(Self {
            link,
            address,
            interface,
            neighbours: Neighbours::new(netlink, interface),
            others: Vec::with_capacity(BATCH_CAPACITY_MAX),
            receives: 0,
            socket,
            statistics: IoStatistics::default(),
        })
    }

    /// Takes what is there, as far as there is room.
    fn take(&mut self, batch: &mut Batch) -> io::Result<()> {
        let (address, index) = (self.address, self.interface.index);
        let statistics = &mut self.statistics;
        self.link.receive(|bytes| {
            match UdpFrame::parse(bytes) {
                Ok(frame) if frame.addresses.destination == address => {
                    let peer = with_scope(frame.addresses.source, index);
                    if frame.payload.len() > DATAGRAM_SIZE_MAX {
                        statistics.oversized += 1;
                    } else if batch.push(peer, frame.payload) {
                        statistics.received += 1;
                        statistics.received_bytes += frame.payload.len() as u64;
                    }
                }
                Ok(_) | Err(_) => statistics.malformed += 1,
            }
            !batch.is_full()
        });
        self.receives = self.receives.wrapping_add(1);
        if batch.is_empty() || (!batch.is_full() && self.receives.is_multiple_of(SOCKET_EVERY)) {
            self.socket.take(batch)?;
        }
        Ok(())
    }
}

/// A link-local peer is one of our interface.
fn with_scope(peer: SocketAddr, interface: u32) -> SocketAddr {
    match peer {
        SocketAddr::V6(mut peer) if peer.ip().is_unicast_link_local() => {
            peer.set_scope_id(interface);
            peer.into()
        }
        peer => peer,
    }
}

/// The interface, and the address on it that is listened on.
fn find_interface(
    netlink: &mut Netlink,
    wanted: SocketAddr,
    xdp: &XdpSettings,
) -> io::Result<(Interface, SocketAddr)> {
    /// An IP packet with the largest datagram.
    const MTU_MIN: u32 = 1280;
    let any = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let index = rustix::net::netdevice::name_to_index(&any, &xdp.interface)?;
    let interface = netlink.interface(index)?;
    if interface.mtu < MTU_MIN {
        return Err(io::Error::other("the interface's MTU is less than 1280"));
    }
    let mut address = wanted;
    if wanted.ip().is_unspecified() {
        let found = netlink.address(index, wanted.is_ipv6())?;
        address.set_ip(found.ok_or(io::ErrorKind::AddrNotAvailable)?);
    }
    Ok((interface, address))
}

impl PacketIo for Xdp {
    fn kind(&self) -> IoKind {
        IoKind::AfXdp
    }

    fn receive(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<usize> {
        batch.clear();
        self.take(batch)?;
        if let Some(wait) = wait.filter(|_| batch.is_empty()) {
            let ends = [self.link.fd(), self.socket.fd()];
            wait_for(ends, self.socket.own_waker(), wait)?;
            self.take(batch)?;
        }
        Ok(batch.len())
    }

    fn send(&mut self, datagrams: &[Datagram]) -> io::Result<usize> {
        let now = clock::ticks();
        let mut sent = 0;
        self.neighbours.begin();
        for part in datagrams.chunks(BATCH_CAPACITY_MAX) {
            self.others.clear();
            for (index, datagram) in (0_u16..).zip(part) {
                let peer = datagram.peer();
                let is_of_family = peer.is_ipv4() == self.address.is_ipv4();
                let mac = self
                    .neighbours
                    .find(peer.ip(), now)
                    .filter(|_| is_of_family);
                let Some(destination_mac) = mac else {
                    self.others.push(index);
                    continue;
                };
                let addresses = FrameAddresses {
                    source_mac: self.interface.mac,
                    destination_mac,
                    source: self.address,
                    destination: peer,
                };
                let payload = datagram.bytes();
                match self.link.send(|frame| addresses.write(payload, frame)) {
                    Packet::Sent => {
                        sent += 1;
                        self.statistics.sent += 1;
                        self.statistics.sent_bytes += payload.len() as u64;
                    }
                    Packet::Full => self.statistics.failures.full += 1,
                    Packet::Unfit => self.statistics.failures.other += 1,
                }
            }
            self.link.flush();
            if !self.others.is_empty() {
                sent += self.socket.send_some(part, self.others.iter().copied());
            }
        }
        Ok(sent)
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn statistics(&self) -> IoStatistics {
        let socket = self.socket.statistics();
        let (dropped, exhausted) = self.link.dropped_and_exhausted();
        IoStatistics {
            received: self.statistics.received + socket.received,
            received_bytes: self.statistics.received_bytes + socket.received_bytes,
            sent: self.statistics.sent + socket.sent,
            sent_bytes: self.statistics.sent_bytes + socket.sent_bytes,
            oversized: self.statistics.oversized + socket.oversized,
            malformed: self.statistics.malformed,
            exhausted,
            kernel_dropped: dropped.map(|count| count + socket.kernel_dropped.unwrap_or_default()),
            received_otherwise: socket.received,
            sent_otherwise: socket.sent,
            failures: self.statistics.failures.plus(&socket.failures),
        }
    }

    fn waker(&self) -> Waker {
        self.socket.waker()
    }
}
