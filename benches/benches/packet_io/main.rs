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

mod bed;

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

use cepa_benches::packet_lane::ticks;
use cepa_host::packet_io::{
    Batch, DATAGRAM_SIZE_MAX, IoChoice, IoStatistics, PacketIo, PacketIoSettings, open,
};
use rustix::time::ClockId;

use bed::{Failure, Ground, Row, open_row, pin, rows};

/// How long a row is measured, after as much of a tenth to warm up.
const SPAN: Duration = Duration::from_millis(2500);
/// Peers of the forwarder.
const PEER_COUNT: usize = 4;
/// Datagrams that a peer sends at once, and that it has under way at most.
const BURST: usize = 64;
const WINDOW: usize = 512;
/// Slots of the forwarder's batch.
const BATCH: usize = 256;

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
    let mut is_whole = true;
    for row in rows() {
        let (over, name) = (row.over(), row.name);
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
    let ground = Ground::new(row)?;
    if !ground.is_apart {
        println!("(the far side's receiving is counted as the forwarder's)");
    }
    let (ground, is_over) = (&ground, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (place, places) = sync_channel(1);
        let forwarder = scope.spawn(move || {
            pin(0);
            let figures = ground
                .enter_near()
                .and_then(|()| forward(row, ground.near, &place));
            is_over.store(true, Ordering::Relaxed);
            figures
        });
        let Ok(to) = places.recv() else {
            return forwarder.join().map_err(|_| "the forwarder failed")?;
        };
        let loader = scope.spawn(move || {
            pin(1);
            ground.enter_far()?;
            load(ground.far, to, is_over)
        });
        let figures = forwarder.join().map_err(|_| "the forwarder failed")?;
        loader.join().map_err(|_| "the loader failed")??;
        figures
    })
}

/// Receives and sends back.
fn forward(row: &Row, ip: IpAddr, place: &SyncSender<SocketAddr>) -> Result<Figures, Failure> {
    let mut io = open_row(row, ip)?;
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
    let (begin, cpu) = (ticks(ClockId::Monotonic), ticks(ClockId::ThreadCPUTime));
    let (mut count, mut batches) = (0, 0);
    loop {
        let received = io.receive(batch, Some(Duration::from_millis(20)))?;
        let sent = io.send(batch.datagrams())?;
        count += sent as u64;
        batches += u64::from(received > 0);
        let taken = ticks(ClockId::Monotonic).saturating_sub(begin);
        if taken >= span {
            return Ok(Figures {
                count,
                batches,
                cpu: ticks(ClockId::ThreadCPUTime).saturating_sub(cpu),
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
