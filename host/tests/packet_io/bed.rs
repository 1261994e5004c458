//! Where the suite runs: a back end, and how to reach it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::net::UdpSocket;

use cepa_host::packet_io::{
    IoChoice, IoKind, PacketIo, PacketIoSettings, XdpMode, XdpSettings, open,
};

use crate::pair::{FAR_IPV4, FAR_IPV6, NEAR, NEAR_IPV4, NEAR_IPV6, Pair, enter, ip};

/// How long anything may take before it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which back end, and where.
pub(crate) struct Kind {
    choice: IoChoice,
    is_ipv6: bool,
}

impl Kind {
    /// Over loopback.
    pub(crate) fn loopback(choice: IoChoice, is_ipv6: bool) -> Self {
        Self { choice, is_ipv6 }
    }

    /// Over a pair of virtual interfaces.
    pub(crate) fn xdp(mode: XdpMode, is_ipv6: bool) -> Self {
        let choice = IoChoice::AfXdp(XdpSettings {
            interface: NEAR.to_owned(),
            queue: 0,
            mode,
        });
        Self { choice, is_ipv6 }
    }

    fn settings(&self, ip: IpAddr) -> PacketIoSettings {
        PacketIoSettings {
            choice: self.choice.clone(),
            ..PacketIoSettings::new(SocketAddr::new(ip, 0))
        }
    }
}

/// A back end that is open, and who is on the other side.
pub(crate) struct Bed {
    pub(crate) io: Box<dyn PacketIo>,
    settings: PacketIoSettings,
    far_ip: IpAddr,
    pair: Option<Pair>,
}

impl Bed {
    /// A plain socket on the other side.
    pub(crate) fn peer(&self) -> UdpSocket {
        let socket = self.on_far_side(|| UdpSocket::bind((self.far_ip, 0)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A plain socket at an address that is not of the far side's network, but reached by it.
    pub(crate) fn peer_behind_gateway(&self) -> UdpSocket {
        let (behind, size, at_once) = match self.far_ip {
            IpAddr::V4(_) => (IpAddr::from([10, 99, 0, 1]), 32, ""),
            IpAddr::V6(_) => (IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, 1]), 128, " nodad"),
        };
        self.on_far_side(|| ip(&format!("addr add {behind}/{size} dev lo{at_once}")).unwrap());
        ip(&format!("route add {behind}/{size} via {}", self.far_ip)).unwrap();
        let bind = || UdpSocket::bind((behind, 0)).unwrap();
        let near = UdpSocket::bind((self.io.local_address().ip(), 0)).unwrap();
        warm_up(&near, &self.on_far_side(bind));
        // A fresh one, for which nothing waits.
        let socket = self.on_far_side(bind);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Closes the back end and opens it anew.
    pub(crate) fn reopen(&mut self) {
        let kind = self.io.kind();
        let second = open(&self.settings).unwrap();
        assert_ne!(second.kind(), kind, "one has the queue");
        self.io = second;
        self.io = open(&self.settings).unwrap();
        assert_eq!(self.io.kind(), kind);
    }

    /// A back end on the other side, which joins what it sends.
    pub(crate) fn joining_peer(&self) -> Box<dyn PacketIo> {
        let settings = PacketIoSettings {
            choice: IoChoice::Mmsg,
            ..PacketIoSettings::new(SocketAddr::new(self.far_ip, 0))
        };
        self.on_far_side(|| open(&settings).unwrap())
    }

    /// Where nobody listens.
    pub(crate) fn dead(&self) -> SocketAddr {
        self.peer().local_addr().unwrap()
    }

    fn on_far_side<T>(&self, make: impl FnOnce() -> T) -> T {
        let Some(pair) = &self.pair else {
            return make();
        };
        enter(&pair.far).unwrap();
        let made = make();
        enter(&pair.near).unwrap();
        made
    }
}

/// Runs a case, or says why not.
pub(crate) fn run(kind: Kind, case: fn(Bed)) {
    if matches!(kind.choice, IoChoice::AfXdp(_)) {
        // A thread of its own, since it moves to other namespaces.
        let thread = std::thread::spawn(move || run_on_pair(&kind, case));
        thread.join().unwrap();
        return;
    }
    let ip = if kind.is_ipv6 {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    } else {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    };
    if UdpSocket::bind((ip, 0)).is_err() {
        eprintln!("skipped: this machine has no {ip}");
        return;
    }
    let settings = kind.settings(ip);
    let io = open(&settings).unwrap();
    let expected = match kind.choice {
        IoChoice::Mmsg => IoKind::Mmsg,
        _ => IoKind::IoUring,
    };
    if io.kind() != expected {
        eprintln!("skipped: {} does not work here", expected.name());
        return;
    }
    case(Bed {
        io,
        settings,
        far_ip: ip,
        pair: None,
    });
}

fn run_on_pair(kind: &Kind, case: fn(Bed)) {
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => {
            eprintln!("skipped: no pair of network namespaces here: {error}");
            return;
        }
    };
    enter(&pair.near).unwrap();
    let [near_ip, far_ip] = if kind.is_ipv6 {
        [NEAR_IPV6, FAR_IPV6].map(IpAddr::V6)
    } else {
        [NEAR_IPV4, FAR_IPV4].map(IpAddr::V4)
    };
    enter(&pair.far).unwrap();
    let far = UdpSocket::bind((far_ip, 0)).unwrap();
    enter(&pair.near).unwrap();
    warm_up(&UdpSocket::bind((near_ip, 0)).unwrap(), &far);
    let settings = kind.settings(near_ip);
    let io = open(&settings).unwrap();
    if io.kind() != IoKind::AfXdp {
        eprintln!("skipped: AF_XDP does not work here");
        return;
    }
    case(Bed {
        io,
        settings,
        far_ip,
        pair: Some(pair),
    });
}

/// Waits until the interfaces carry, and addresses and neighbours are known on both sides: before, the
/// kernel holds some packets back and drops more. Its threads see to it when they have time.
fn warm_up(near: &UdpSocket, far: &UdpSocket) {
    const TRY_COUNT: u32 = 200;
    for socket in [near, far] {
        socket.set_read_timeout(Some(PATIENCE / TRY_COUNT)).unwrap();
    }
    let goes = |from: &UdpSocket, to: &UdpSocket| {
        from.send_to(b"up?", to.local_addr().unwrap()).is_ok() && to.recv(&mut [0; 8]).is_ok()
    };
    let is_up = (0..TRY_COUNT).any(|_| goes(near, far) && goes(far, near));
    assert!(is_up, "the interfaces carry");
}
