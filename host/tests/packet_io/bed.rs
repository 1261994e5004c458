//! Where the suite runs: a back end, and how to reach it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::net::UdpSocket;

use cepa_host::packet_io::{IoChoice, IoKind, PacketIo, PacketIoSettings, open};

/// How long anything may take before it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which back end, and where.
pub(crate) struct Kind {
    choice: IoChoice,
    is_ipv6: bool,
}

impl Kind {
    pub(crate) fn loopback(choice: IoChoice, is_ipv6: bool) -> Self {
        Self { choice, is_ipv6 }
    }
}

/// A back end that is open, and who is on the other side.
pub(crate) struct Bed {
    pub(crate) io: Box<dyn PacketIo>,
    far_ip: IpAddr,
}

impl Bed {
    /// A plain socket on the other side.
    pub(crate) fn peer(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.far_ip, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A back end on the other side, which joins what it sends.
    pub(crate) fn joining_peer(&self) -> Box<dyn PacketIo> {
        let settings = PacketIoSettings {
            choice: IoChoice::Mmsg,
            ..PacketIoSettings::new(SocketAddr::new(self.far_ip, 0))
        };
        open(&settings).unwrap()
    }

    /// Where nobody listens.
    pub(crate) fn dead(&self) -> SocketAddr {
        self.peer().local_addr().unwrap()
    }
}

/// Runs a case, or says why not.
pub(crate) fn run(kind: Kind, case: fn(Bed)) {
    let ip = if kind.is_ipv6 {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    } else {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    };
    if UdpSocket::bind((ip, 0)).is_err() {
        eprintln!("skipped: this machine has no {ip}");
        return;
    }
    let expected = match kind.choice {
        IoChoice::Mmsg => IoKind::Mmsg,
        IoChoice::Auto | IoChoice::IoUring => IoKind::IoUring,
    };
    let settings = PacketIoSettings {
        choice: kind.choice,
        ..PacketIoSettings::new(SocketAddr::new(ip, 0))
    };
    let io = open(&settings).unwrap();
    if io.kind() != expected {
        eprintln!("skipped: {expected:?} does not work here");
        return;
    }
    case(Bed { io, far_ip: ip });
}
