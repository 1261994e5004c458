//! What it costs to forward a datagram without looking at it: the floor of the packet lane.
//!
//! A forwarder receives batches and sends each datagram back to where it came from, on a core of its
//! own if there are two; a loader keeps a window of datagrams of four peers under way. Over loopback,
//! where the kernel leaves joined datagrams joined, and over a pair of virtual interfaces between two
//! network namespaces (which needs root), where they are cut before they leave, as on a wire, and not
//! joined when they come, as a network card's driver would.
//!
//! `cargo bench -p benches --bench packet_io`, with a part of a back end's name for those alone; a row
//! takes three seconds.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "../../../host/tests/packet_io/pair.rs"]
mod pair;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};

use cepa_host::packet_io::{
    Batch, DATAGRAM_SIZE_MAX, IoChoice, IoKind, IoStatistics, PacketIo, PacketIoSettings, XdpMode,
    XdpSettings, open,
};
use pair::{FAR, FAR_IPV4, NEAR, NEAR_IPV4, Pair, enter};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// How long a row is measured, after as much of a tenth to warm up.
const SPAN: Duration = Duration::from_millis(2500);
/// Peers of the forwarder.
const PEER_COUNT: usize = 4;
/// Datagrams that a peer sends at once, and that it has under way at most.
const BURST: usize = 64;
const WINDOW: usize = 512;
/// Slots of the forwarder's batch.
const BATCH: usize = 256;

type Failure = Box<dyn core::error::Error + Send + Sync>;

/// What is measured.
struct Row {
    name: &'static str,
    choice: IoChoice,
    kind: IoKind,
    is_on_pair: bool,
}

/// What came of it.
struct Figures {
    count: u64,
    batches: u64,
    cpu: Duration,
    span: Duration,
    statistics: IoStatistics,
}

fn main() {
    println!(
        "| over | back end | packets/s | CPU ns a packet | packets/s a core | a batch | drops |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let xdp = |mode| {
        IoChoice::AfXdp(XdpSettings {
            interface: NEAR.to_owned(),
            queue: 0,
            mode,
        })
    };
    let rows = [
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
    let mut is_whole = true;
    for (name, choice, kind, is_on_pair) in rows {
        let row = Row {
            name,
            choice,
            kind,
            is_on_pair,
        };
        let over = if is_on_pair { "veth" } else { "loopback" };
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        match measure(&row) {
            Ok(figures) => print_row(over, name, &figures),
            Err(error) => {
                is_whole = false;
                println!("| {over} | {name} | skipped: {error} | | | | |");
            }
        }
    }
    if !is_whole {
        println!("\nWhat was skipped needs root, network namespaces and a kernel that allows it.");
    }
}

fn print_row(over: &str, name: &str, figures: &Figures) {
    let count = figures.count.max(1);
    let rate = u128::from(count) * 1_000_000_000 / figures.span.as_nanos().max(1);
    let cost = figures.cpu.as_nanos() / u128::from(count);
    let statistics = &figures.statistics;
    let drops = statistics.failures.total()
        + statistics.kernel_dropped.unwrap_or_default()
        + statistics.malformed;
    println!(
        "| {over} | {name} | {rate} | {cost} | {} | {} | {drops} |",
        1_000_000_000 / cost.max(1),
        count / figures.batches.max(1),
    );
}

/// Runs forwarder and loader, each in a thread of its own, since they go to other namespaces.
fn measure(row: &Row) -> Result<Figures, Failure> {
    let (near, far): (IpAddr, IpAddr) = if row.is_on_pair {
        (NEAR_IPV4.into(), FAR_IPV4.into())
    } else {
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into())
    };
    let pair = if row.is_on_pair {
        // In a thread of its own: making it moves to its namespaces.
        let made = std::thread::spawn(|| Pair::new().inspect(receive_elsewhere)).join();
        Some(made.map_err(|_| "making the pair failed")??)
    } else {
        None
    };
    let (pair, is_over) = (pair.as_ref(), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (place, places) = sync_channel(1);
        let forwarder = scope.spawn(move || {
            pin(0);
            let figures =
                enter_if(pair.map(|pair| &pair.near)).and_then(|()| forward(row, near, &place));
            is_over.store(true, Ordering::Relaxed);
            figures
        });
        let Ok(to) = places.recv() else {
            return forwarder.join().map_err(|_| "the forwarder failed")?;
        };
        let loader = scope.spawn(move || {
            pin(1);
            enter_if(pair.map(|pair| &pair.far))?;
            load(far, to, is_over)
        });
        let figures = forwarder.join().map_err(|_| "the forwarder failed")?;
        loader.join().map_err(|_| "the loader failed")??;
        figures
    })
}

/// Has the far side receive on the loader's core, not where the forwarder sends, as another machine does.
/// Where it can't be, its work is counted as the forwarder's.
fn receive_elsewhere(_pair: &Pair) {
    let command =
        format!("mount -t sysfs sysfs /sys && echo 2 > /sys/class/net/{FAR}/queues/rx-0/rps_cpus");
    // This thread is on the far side, where it was set up last.
    let arguments = ["--mount", "sh", "-c", &command];
    let moved = Command::new("unshare").args(arguments).status();
    if !moved.is_ok_and(|status| status.success()) {
        println!("(the far side's receiving is counted as the forwarder's)");
    }
}

fn enter_if(namespace: Option<&std::fs::File>) -> Result<(), Failure> {
    Ok(namespace.map_or(Ok(()), enter)?)
}

/// Stays on a core, if there is one of that number.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap_or_default();
}

fn now(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Receives and sends back.
fn forward(row: &Row, ip: IpAddr, place: &SyncSender<SocketAddr>) -> Result<Figures, Failure> {
    let settings = PacketIoSettings {
        choice: row.choice.clone(),
        ..PacketIoSettings::new(SocketAddr::new(ip, 0))
    };
    let mut io = open(&settings)?;
    if io.kind() != row.kind {
        return Err(format!("{} does not work here", row.name).into());
    }
    place.send(io.local_address())?;
    let mut batch = Batch::new(BATCH);
    run(&mut *io, &mut batch, SPAN / 10)?;
    let before = io.statistics();
    let mut figures = run(&mut *io, &mut batch, SPAN)?;
    let after = &mut figures.statistics;
    let dropped = before.kernel_dropped.unwrap_or_default();
    after.kernel_dropped = after.kernel_dropped.map(|count| count - dropped);
    Ok(figures)
}

fn run(io: &mut dyn PacketIo, batch: &mut Batch, span: Duration) -> io::Result<Figures> {
    let (begin, cpu) = (now(ClockId::Monotonic), now(ClockId::ThreadCPUTime));
    let (mut count, mut batches) = (0, 0);
    loop {
        let received = io.receive(batch, Some(Duration::from_millis(20)))?;
        let sent = io.send(batch.datagrams())?;
        count += sent as u64;
        batches += u64::from(received > 0);
        let taken = now(ClockId::Monotonic).saturating_sub(begin);
        if taken >= span {
            return Ok(Figures {
                count,
                batches,
                cpu: now(ClockId::ThreadCPUTime).saturating_sub(cpu),
                span: taken,
                statistics: io.statistics(),
            });
        }
    }
}

/// Keeps each peer's window full.
fn load(ip: IpAddr, to: SocketAddr, is_over: &AtomicBool) -> Result<(), Failure> {
    let settings = PacketIoSettings {
        choice: IoChoice::Mmsg,
        ..PacketIoSettings::new(SocketAddr::new(ip, 0))
    };
    let mut burst = Batch::new(BURST);
    while burst.push(to, &[7; DATAGRAM_SIZE_MAX]) {}
    let mut back = Batch::new(BATCH);
    let mut peers = Vec::new();
    for _ in 0..PEER_COUNT {
        peers.push((open(&settings)?, 0_usize));
    }
    while !is_over.load(Ordering::Relaxed) {
        let mut is_idle = true;
        for (peer, under_way) in &mut peers {
            if *under_way + BURST <= WINDOW {
                *under_way += peer.send(burst.datagrams())?;
                is_idle = false;
            }
            loop {
                let count = peer.receive(&mut back, None)?;
                *under_way = under_way.saturating_sub(count);
                is_idle &= count == 0;
                if count < BATCH {
                    break;
                }
            }
        }
        if is_idle {
            wait(&mut peers, &mut back)?;
        }
    }
    Ok(())
}

/// Waits for what is under way; what does not come is lost, and makes room.
fn wait(peers: &mut [(Box<dyn PacketIo>, usize)], back: &mut Batch) -> io::Result<()> {
    for (peer, under_way) in peers {
        let count = peer.receive(back, Some(Duration::from_millis(50)))?;
        if count > 0 {
            *under_way = under_way.saturating_sub(count);
            return Ok(());
        }
        *under_way = 0;
    }
    Ok(())
}
