//! Where datagrams go: the back ends, and the ground that they are measured on.

#[path = "../../../host/tests/packet_io/pair.rs"]
mod pair;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use cepa_host::packet_io::{
    IoChoice, IoKind, PacketIo, PacketIoSettings, XdpMode, XdpSettings, open,
};
use pair::{FAR, FAR_IPV4, NEAR, NEAR_IPV4, Pair, enter};
use rustix::thread::{CpuSet, sched_setaffinity};

pub(crate) type Failure = Box<dyn core::error::Error + Send + Sync>;

/// What is measured.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) choice: IoChoice,
    kind: IoKind,
    is_on_pair: bool,
}

impl Row {
    pub(crate) const fn over(&self) -> &'static str {
        if self.is_on_pair { "veth" } else { "loopback" }
    }
}

/// All of them, or those whose name has a part that was asked for.
pub(crate) fn rows() -> Vec<Row> {
    let xdp = |mode| {
        IoChoice::AfXdp(XdpSettings {
            interface: NEAR.to_owned(),
            queue: 0,
            mode,
        })
    };
    let all = [
        ("recvmmsg", IoChoice::Mmsg, IoKind::Mmsg, false),
        ("io_uring", IoChoice::IoUring, IoKind::IoUring, false),
        ("recvmmsg", IoChoice::Mmsg, IoKind::Mmsg, true),
        ("io_uring", IoChoice::IoUring, IoKind::IoUring, true),
        (
            "AF_XDP, generic",
            xdp(XdpMode::Generic),
            IoKind::AfXdp,
            true,
        ),
        ("AF_XDP, native", xdp(XdpMode::Native), IoKind::AfXdp, true),
    ];
    // Cargo passes an option.
    let arguments = std::env::args().skip(1);
    let wanted: Vec<_> = arguments.filter(|part| !part.starts_with('-')).collect();
    let rows = all.into_iter().map(|(name, choice, kind, is_on_pair)| Row {
        name,
        choice,
        kind,
        is_on_pair,
    });
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    rows.filter(|row| is_wanted(row.name)).collect()
}

/// Opens the back end of a row, and no other.
pub(crate) fn open_row(row: &Row, ip: IpAddr) -> Result<Box<dyn PacketIo>, Failure> {
    let settings = PacketIoSettings {
        choice: row.choice.clone(),
        ..PacketIoSettings::new(SocketAddr::new(ip, 0))
    };
    let io = open(&settings)?;
    if io.kind() != row.kind {
        return Err(format!("{} does not work here", row.name).into());
    }
    Ok(io)
}

/// The addresses of both sides, and the namespaces that they are in.
pub(crate) struct Ground {
    pair: Option<Pair>,
    pub(crate) near: IpAddr,
    pub(crate) far: IpAddr,
    /// Whether the far side receives on a core of its own, not where the near side sends, as
    /// another machine does. Where it can't be, its work is counted as that of the near side.
    pub(crate) is_apart: bool,
}

impl Ground {
    pub(crate) fn new(row: &Row) -> Result<Self, Failure> {
        if !row.is_on_pair {
            let local = Ipv4Addr::LOCALHOST.into();
            return Ok(Self {
                pair: None,
                near: local,
                far: local,
                is_apart: true,
            });
        }
        // In a thread of its own: making it moves to its namespaces.
        let made = std::thread::spawn(|| Pair::new().map(|pair| (receive_elsewhere(), pair)));
        let (is_apart, pair) = made.join().map_err(|_| "making the pair failed")??;
        Ok(Self {
            pair: Some(pair),
            near: NEAR_IPV4.into(),
            far: FAR_IPV4.into(),
            is_apart,
        })
    }

    /// Moves this thread to the near side.
    pub(crate) fn enter_near(&self) -> Result<(), Failure> {
        let pair = self.pair.as_ref();
        Ok(pair.map_or(Ok(()), |pair| enter(&pair.near))?)
    }

    /// Moves this thread to the far side.
    pub(crate) fn enter_far(&self) -> Result<(), Failure> {
        let pair = self.pair.as_ref();
        Ok(pair.map_or(Ok(()), |pair| enter(&pair.far))?)
    }
}

/// This thread is on the far side, where it was set up last.
fn receive_elsewhere() -> bool {
    let command =
        format!("mount -t sysfs sysfs /sys && echo 2 > /sys/class/net/{FAR}/queues/rx-0/rps_cpus");
    let arguments = ["--mount", "sh", "-c", &command];
    let moved = Command::new("unshare").args(arguments).status();
    moved.is_ok_and(|status| status.success())
}

/// Stays on a core, if there is one of that number.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap_or_default();
}
