//! Datagrams of the packet lane, in batches: one UDP port of one tile, behind one trait with three back
//! ends. `io_uring` is the usual one, `AF_XDP` passes the kernel's stack by, and `recvmmsg` works where
//! containers forbid the others.
//!
//! Nothing here knows what a datagram says, and nothing is allocated for one.

mod cut;
mod mmsg;
mod name;
mod outgoing;
mod runs;
mod socket;
mod statistics;
mod uring;
mod waker;
mod xdp;

use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use thiserror::Error;

pub use cepa_relay::packet::batch::{BATCH_CAPACITY_MAX, Batch, DATAGRAM_SIZE_MAX, Datagram};
pub use statistics::{IoStatistics, SendFailures};
pub use waker::Waker;

/// Bytes that the socket holds until we take them, as the kernel counts (a datagram of 1232 bytes is
/// some 2.3 KiB there). Half of it is what we may set: 8 MiB are 3,600 datagrams, which at half a million
/// a second is a pause of 7 ms: more than a scheduler's, and less than what a client would wait for.
pub const SOCKET_BUFFER_SIZE: usize = 8 << 20;

/// Sends and receives datagrams at one address. It stays on the thread that opened it.
pub trait PacketIo {
    /// Which back end this is.
    fn kind(&self) -> IoKind;

    /// Empties the batch and fills it with what is there; gives how many datagrams it has then. If
    /// nothing is there, waits for as long (none: not at all) until something is, or until somebody
    /// [wakes](Waker::wake); so 0 means nothing but that there is nothing. Datagrams that are larger than
    /// [`DATAGRAM_SIZE_MAX`] are dropped and counted.
    ///
    /// An error is the end of this back end: open another.
    fn receive(&mut self, batch: &mut Batch, wait: Option<Duration>) -> io::Result<usize>;

    /// Sends datagrams, each to its peer; gives how many the kernel took. Those to one peer stay in
    /// their order; those to different peers may not. It never waits: what finds no room is dropped and
    /// counted, as is what can't be sent for another reason.
    ///
    /// An error is the end of this back end: open another.
    fn send(&mut self, datagrams: &[Datagram]) -> io::Result<usize>;

    /// Where datagrams are received, and what they are sent from.
    fn local_address(&self) -> SocketAddr;

    /// What happened since the start.
    fn statistics(&self) -> IoStatistics;

    /// What wakes a waiting receive.
    fn waker(&self) -> Waker;
}

/// The back ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// `io_uring`: multishot receives into a ring of buffers.
    IoUring,
    /// `AF_XDP`: frames of one queue of an interface.
    AfXdp,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

impl IoKind {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::AfXdp => "AF_XDP",
            Self::Mmsg => "recvmmsg",
        }
    }
}

/// Which back end is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// The best that needs no more than a port: `io_uring`, or `recvmmsg` where it is forbidden.
    #[default]
    Auto,
    /// `io_uring`.
    IoUring,
    /// `AF_XDP` on an interface; needs root, or `CAP_NET_RAW`, `CAP_NET_ADMIN` and
    /// `CAP_BPF`.
    AfXdp(XdpSettings),
    /// `recvmmsg`.
    Mmsg,
}

/// Where `AF_XDP` takes its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpSettings {
    /// The interface, which has the address that is listened on.
    pub interface: String,
    /// Its queue: what comes by others goes through the kernel to the same port.
    pub queue: u32,
    /// Who runs the program.
    pub mode: XdpMode,
}

/// Who runs the XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// The driver, before the kernel makes anything of a frame; without copies, if it can.
    Native,
    /// The kernel, on any interface; it has made a packet of the frame by then.
    Generic,
}

/// What is opened.
#[derive(Clone, Debug)]
pub struct PacketIoSettings {
    /// Address and port; other tiles may have the same (`SO_REUSEPORT`). With `[::]`, IPv4 too.
    pub address: SocketAddr,
    /// The back end.
    pub choice: IoChoice,
    /// Bytes of the socket's buffers, each way: see [`SOCKET_BUFFER_SIZE`].
    pub socket_buffer_size: usize,
}

impl PacketIoSettings {
    /// The usual ones, at an address.
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            choice: IoChoice::Auto,
            socket_buffer_size: SOCKET_BUFFER_SIZE,
        }
    }
}

/// Why no back end could be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The address can't be bound.
    #[error("cannot listen for packets on {address}: {source}; is another node running there?")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No `io_uring`, or one without what we need (Linux 6.1).
    #[error("io_uring: {0}")]
    IoUring(io::Error),
    /// No `AF_XDP`, or no such interface or queue.
    #[error("AF_XDP: {0}")]
    AfXdp(io::Error),
    /// A socket or an eventfd can't be made.
    #[error("cannot make a socket for packets: {0}")]
    Socket(io::Error),
}

impl OpenError {
    /// What the system said: without the address, for the log.
    pub const fn reason(&self) -> &io::Error {
        match self {
            Self::Bind { source, .. }
            | Self::IoUring(source)
            | Self::AfXdp(source)
            | Self::Socket(source) => source,
        }
    }
}

/// Opens the back end that is wanted, or the next one that works: then one warning says why, and what
/// to do. An error is one that no back end would mend.
pub fn open(settings: &PacketIoSettings) -> Result<Box<dyn PacketIo>, OpenError> {
    let mut failures = Vec::new();
    let opened = open_best(settings, &mut failures)?;
    if !failures.is_empty() {
        tracing::warn!(
            "packets go by {}, which costs more than what was wanted: {}",
            opened.kind().name(),
            failures.join("; ")
        );
    }
    Ok(opened)
}

/// Opens the first that works; says what of the others failed, and what to do.
pub(crate) fn open_best(
    settings: &PacketIoSettings,
    failures: &mut Vec<String>,
) -> Result<Box<dyn PacketIo>, OpenError> {
    if let IoChoice::AfXdp(xdp) = &settings.choice {
        match xdp::Xdp::open(settings, xdp) {
            Ok(xdp) => return Ok(Box::new(xdp)),
            Err(OpenError::AfXdp(error)) => failures.push(xdp_advice(xdp, &error)),
            Err(error) => return Err(error),
        }
    }
    if settings.choice != IoChoice::Mmsg {
        match uring::Uring::open(settings) {
            Ok(uring) => return Ok(Box::new(uring)),
            Err(OpenError::IoUring(error)) => failures.push(format!(
                "io_uring does not work here ({error}): it needs Linux 6.1, the sysctl \
                 kernel.io_uring_disabled=0, and a seccomp profile that allows it; or set recvmmsg. A \
                 node that runs in its sandbox makes no new ring: restart it"
            )),
            Err(error) => return Err(error),
        }
    }
    Ok(Box::new(mmsg::Mmsg::open(settings)?))
}

fn xdp_advice(xdp: &XdpSettings, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, or set io_uring"
        }
        io::ErrorKind::ResourceBusy => {
            "another program is attached there or has the queue: remove it, or set io_uring"
        }
        _ => "check that interface and queue exist, try the generic mode, or set io_uring",
    };
    format!(
        "AF_XDP on {} queue {} does not work ({error}): {advice}",
        xdp.interface, xdp.queue
    )
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_does_not_work_is_said_and_the_next_is_taken() {
        let settings = PacketIoSettings {
            choice: IoChoice::AfXdp(XdpSettings {
                interface: "nowhere".to_owned(),
                queue: 0,
                mode: XdpMode::Generic,
            }),
            ..PacketIoSettings::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        let mut failures = Vec::new();
        let opened = open_best(&settings, &mut failures).unwrap();
        assert_ne!(opened.kind(), IoKind::AfXdp);
        assert!(failures[0].contains("nowhere") && failures[0].contains("check that"));
    }

    #[test]
    fn a_port_is_shared_by_those_that_want_to() {
        for choice in [IoChoice::Mmsg, IoChoice::Auto] {
            let mut settings = PacketIoSettings {
                choice,
                ..PacketIoSettings::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            };
            let first = open(&settings).unwrap();
            settings.address = first.local_address();
            assert_eq!(open(&settings).unwrap().local_address(), settings.address);
            let alone = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            settings.address = alone.local_addr().unwrap();
            let error = open(&settings).err().unwrap();
            assert!(matches!(error, OpenError::Bind { .. }), "{error}");
        }
    }

    #[test]
    fn one_socket_has_both_families() {
        for choice in [IoChoice::Mmsg, IoChoice::Auto] {
            let settings = PacketIoSettings {
                choice,
                ..PacketIoSettings::new(SocketAddr::from((core::net::Ipv6Addr::UNSPECIFIED, 0)))
            };
            // A machine without IPv6 has nothing to show.
            let Ok(mut io) = open(&settings) else { return };
            let peer = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let to = (Ipv4Addr::LOCALHOST, io.local_address().port());
            peer.send_to(b"there", to).unwrap();
            let mut batch = Batch::new(8);
            let wait = Some(Duration::from_secs(10));
            assert_eq!(io.receive(&mut batch, wait).unwrap(), 1);
            assert_eq!(batch.datagrams()[0].peer(), peer.local_addr().unwrap());
            assert_eq!(io.send(batch.datagrams()).unwrap(), 1);
            peer.set_read_timeout(wait).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(peer.recv_from(&mut buffer).unwrap().0, 5);
        }
    }
}
