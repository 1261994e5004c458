//! The packet lane, end to end: a sender's datagrams go through the loop of a packet tile, on a
//! core of its own if there are two, to a receiver, which opens them. Over loopback and over a pair
//! of virtual interfaces (which needs root), as the bench `packet_io` has them. Beside each row
//! stands what the same datagrams cost when they are forwarded without a look, and what the hop
//! costs without a network, of the same run. Then a flood of garbage beside good traffic.
//!
//! `cargo bench -p benches --bench packet_lane`, with a part of a back end's name for those alone:
//! less than a minute. Figures are medians; latencies say nothing while others use the cores.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it prints tables")]

#[path = "../packet_io/bed.rs"]
mod bed;
mod flood;
mod load;
mod work;

use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cepa_benches::packet_lane::{
    Lane, Pool, RECEIVER, SENDER, filters, forget, median, nanos_each, relay,
};
use cepa_host::packet_io::Datagram;
use cepa_relay::packet::relay::Counted;
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::packet::link_frame::LinkHeader;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::time::ClockId;

use bed::{Failure, Ground, Row, open_row, pin, rows};
use flood::{Flood, Garbage};
use load::{Load, Paced, settled, sockets};
use work::{Forwarder, Gauges, Tile, Work, run};

/// Packets of the pool, and of a pass: each is new to the replay filter, which is emptied between.
const PACKET_COUNT: usize = 60_000;
const PASS_COUNT: usize = 5;
/// Of a pass that is not looked at.
const WARM_COUNT: usize = 10_000;
/// The rate at which latencies are measured, and for how long.
const RATE: u32 = 20_000;
const SPAN: Duration = Duration::from_secs(1);
/// Garbage a second, and for how long it comes at once.
const FLOOD_RATE: u32 = 4 * RATE;
const FLOOD_SPAN: Duration = Duration::from_millis(300);
const FLOOD_ROUND_COUNT: usize = 5;
/// Packets and rounds of the hop without a network.
const HOP_COUNT: usize = 2048;
const HOP_ROUND_COUNT: usize = 21;
const HOP_BATCH: usize = 64;

/// The near side, as the far side sees it.
struct Near {
    gauges: Gauges,
    filters: Arc<ReplayFilters>,
    counted: Arc<Counted>,
    is_plain: bool,
}

/// What came of a row.
struct Figures {
    rate: f64,
    cost: f64,
    batch: f64,
    lost: usize,
    /// None of one that forwards only.
    paced: Option<Paced>,
}

fn main() {
    let pool = pool();
    println!(
        "| over | back end | packets/s | CPU ns a packet | packets/s a core | a batch | floor ns | \
         hop ns | CPU / (hop + floor) | p50 us | p99 us | lost |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let (mut is_whole, rows) = (true, rows());
    for row in &rows {
        if let Err(error) = print_row(row, &pool) {
            is_whole = false;
            let (over, name) = (row.over(), row.name);
            println!("| {over} | {name} | skipped: {error} | | | | | | | | | |");
        }
    }
    println!(
        "\nCPU: of the tile's thread, at full speed. Floor: the same, forwarded without a look. \
         Hop: batches of {HOP_BATCH} without a network.\nLatencies: at {RATE} packets a second, \
         from when a packet was due to when its frame was open. Lost: of {}.",
        PASS_COUNT * PACKET_COUNT + count_of(SPAN)
    );
    if !is_whole {
        println!("What was skipped needs root, network namespaces and a kernel that allows it.");
    }
    let on_loopback = |row: &&Row| row.over() == "loopback";
    if let Some(row) = rows.iter().rfind(on_loopback)
        && let Err(error) = print_floods(row, &pool)
    {
        println!("floods: skipped: {error}");
    }
}

const fn count_of(span: Duration) -> usize {
    RATE as usize * span.as_millis() as usize / 1000
}

fn pool() -> Pool {
    let bar = ProgressBar::new(PACKET_COUNT as u64);
    if let Ok(style) = ProgressStyle::with_template("packets {bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let pool = Pool::new(PACKET_COUNT, || bar.inc(1));
    bar.finish_and_clear();
    pool
}

fn print_row(row: &Row, pool: &Pool) -> Result<(), Failure> {
    let floor = on_ground(row, true, pool, measure)?;
    let figures = on_ground(row, false, pool, measure)?;
    let hop = hop(pool)?;
    let (over, name) = (row.over(), row.name);
    let Figures { rate, cost, .. } = figures;
    let paced = figures.paced.ok_or("no latencies")?;
    let lost = figures.lost + count_of(SPAN).saturating_sub(paced.arrived);
    println!(
        "| {over} | {name} | {rate:.0} | {cost:.0} | {:.0} | {:.0} | {:.0} | {hop:.0} | {:.2} | \
         {:.0} | {:.0} | {lost} |",
        1e9 / cost,
        figures.batch,
        floor.cost,
        cost / (hop + floor.cost),
        quantile(&paced, 0.5),
        quantile(&paced, 0.99),
    );
    Ok(())
}

/// In microseconds.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn quantile(paced: &Paced, quantile: f64) -> f64 {
    paced.latencies.value_at_quantile(quantile) as f64 / 1000.0
}

/// Nanoseconds of work a packet, on the near side's core, without a network.
fn hop(pool: &Pool) -> Result<f64, Failure> {
    let packets = pool.packets.get(..HOP_COUNT).unwrap_or_default();
    let measured = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            pin(0);
            let mut lane = Lane::new(pool);
            let (rounds, clock) = (0..HOP_ROUND_COUNT, ClockId::ThreadCPUTime);
            let mut figures: Vec<_> = rounds
                .map(|_| lane.measure(packets, HOP_BATCH, clock))
                .collect();
            median(&mut figures)
        });
        work.join()
    });
    measured.map_err(|_| "the hop failed".into())
}

/// Passes at full speed, and one at a fixed rate.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn measure(load: &mut Load, near: &Near, pool: &Pool) -> Result<Figures, Failure> {
    let gauges = &near.gauges;
    load.pass(pool.packets.get(..WARM_COUNT).unwrap_or_default(), gauges)?;
    let (mut rates, mut costs, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    let mut lost = 0;
    for _ in 0..PASS_COUNT {
        near.forget();
        let pass = load.pass(&pool.packets, gauges)?;
        rates.push(1e9 / nanos_each(pass.span, pass.arrived));
        costs.push(nanos_each(pass.near.cpu, pass.arrived));
        batches.push(pass.arrived as f64 / pass.near.turns.max(1) as f64);
        lost += pool.packets.len().saturating_sub(pass.arrived);
    }
    let paced = if near.is_plain {
        None
    } else {
        near.forget();
        Some(load.paced((pool, RATE, SPAN), gauges, None)?)
    };
    Ok(Figures {
        rate: median(&mut rates),
        cost: median(&mut costs),
        batch: median(&mut batches),
        lost,
        paced,
    })
}

impl Near {
    fn new(is_plain: bool) -> Self {
        Self {
            gauges: Gauges::default(),
            filters: filters(),
            counted: Arc::default(),
            is_plain,
        }
    }

    fn forget(&self) {
        if !self.is_plain {
            forget(&self.filters);
        }
    }

    /// Datagrams that went no further.
    fn dropped(&self) -> usize {
        let samples = self.counted.drops.snapshot();
        let dropped = samples
            .iter()
            .map(cepa_meter::Sample::recorded)
            .sum::<u64>();
        usize::try_from(dropped).unwrap_or(usize::MAX)
    }

    fn work(&self, receiver: SocketAddr, sender: SocketAddr) -> Box<dyn Work> {
        if self.is_plain {
            return Box::new(Forwarder::new(receiver));
        }
        let others = [SENDER.entry(sender), RECEIVER.entry(receiver)];
        Box::new(Tile::new(relay(&self.filters, &self.counted, others)))
    }

    /// Opens the port, waits for who is there, and works until it is over.
    fn run(
        &self,
        (row, ground): (&Row, &Ground),
        place: &SyncSender<SocketAddr>,
        peers: &Receiver<[SocketAddr; 2]>,
    ) -> Result<(), Failure> {
        pin(0);
        ground.enter_near()?;
        let mut io = open_row(row, ground.near)?;
        place.send(io.local_address())?;
        // If the far side failed, it says why.
        let Ok([receiver, sender]) = peers.recv() else {
            return Ok(());
        };
        let mut work = self.work(receiver, sender);
        Ok(run(&mut *work, &mut *io, &self.gauges)?)
    }
}

/// Runs both sides, each in a thread of its own, since they go to other namespaces.
fn on_ground<T: Send>(
    row: &Row,
    is_plain: bool,
    pool: &Pool,
    far: impl FnOnce(&mut Load, &Near, &Pool) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let (ground, near) = (&Ground::new(row)?, &Near::new(is_plain));
    if !ground.is_apart {
        println!("(the far side's receiving is counted as the tile's)");
    }
    let ((place, places), (tell, told)) = (sync_channel(1), sync_channel(1));
    let load = move || {
        pin(1);
        ground.enter_far()?;
        let ios = sockets(ground.far)?;
        let relay = places.recv().map_err(|_| "the near side failed")?;
        tell.send([&ios[0], &ios[1]].map(|io| io.local_address()))?;
        let mut load = Load::new(ios, relay, is_plain);
        load.link(pool)?;
        near.forget();
        far(&mut load, near, pool)
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || near.run((row, ground), &place, &told));
        let loaded = scope.spawn(load).join().map_err(|_| "the far side failed");
        near.gauges.is_over.store(true, Ordering::Relaxed);
        worker.join().map_err(|_| "the near side failed")??;
        loaded?
    })
}

/// What came of a flood.
struct Flooded {
    name: &'static str,
    /// Nanoseconds of the tile for one, without anything else, as fast as they come.
    alone: f64,
    /// What one costs more beside packets.
    beside: f64,
    /// Of packets, without and with.
    p50: [f64; 2],
    p99: [f64; 2],
    lost: [usize; 2],
}

fn print_floods(row: &Row, pool: &Pool) -> Result<(), Failure> {
    println!(
        "\n{FLOOD_RATE} datagrams of garbage a second beside {RATE} packets, over {} by {}; \
         without: they go to another port.\n",
        row.over(),
        row.name
    );
    println!(
        "| garbage | CPU ns each, alone at full speed | beside packets | p50 us of packets \
         without | with | slowed | p99 us without | with | lost without | with |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for flooded in on_ground(row, false, pool, floods)? {
        let (name, alone, beside) = (flooded.name, flooded.alone, flooded.beside);
        let ([p50, p50_with], [p99, p99_with]) = (flooded.p50, flooded.p99);
        let slowed = (p50_with / p50 - 1.0) * 100.0;
        let [lost, lost_with] = flooded.lost;
        println!(
            "| {name} | {alone:.0} | {beside:.0} | {p50:.1} | {p50_with:.1} | {slowed:+.1} % | \
             {p99:.1} | {p99_with:.1} | {lost} | {lost_with} |"
        );
    }
    Ok(())
}

fn floods(load: &mut Load, near: &Near, pool: &Pool) -> Result<Vec<Flooded>, Failure> {
    let all = [
        Garbage::Random,
        Garbage::WrongSizes,
        Garbage::UnknownLinks,
        Garbage::BadMacs,
        Garbage::Forged(load.header(pool)?),
    ];
    let each = all
        .into_iter()
        .map(|garbage| measure_flood(garbage, load, near, pool));
    each.collect()
}

/// Garbage alone, and then rounds with and without it.
fn measure_flood(
    garbage: Garbage,
    load: &mut Load,
    near: &Near,
    pool: &Pool,
) -> Result<Flooded, Failure> {
    let relay = load.relay();
    let deaf = UdpSocket::bind((relay.ip(), 0))?;
    let mut flood = Flood::new(garbage, relay, relay, FLOOD_RATE)?;
    let (before, dropped) = (settled(&near.gauges), near.dropped());
    load::flood_alone(&mut flood, FLOOD_SPAN)?;
    let cpu = settled(&near.gauges).since(&before).cpu;
    let alone = nanos_each(cpu, near.dropped() - dropped);
    let (mut p50, mut p99, mut cpu) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    let mut lost = [0; 2];
    for _ in 0..FLOOD_ROUND_COUNT {
        for (with, to) in [deaf.local_addr()?, relay].into_iter().enumerate() {
            near.forget();
            flood.restart(to);
            let wanted = (pool, RATE, FLOOD_SPAN);
            let paced = load.paced(wanted, &near.gauges, Some(&mut flood))?;
            p50[with].push(quantile(&paced, 0.5));
            p99[with].push(quantile(&paced, 0.99));
            cpu[with].push(nanos_each(paced.near.cpu, flood.sent()));
            lost[with] += count_of(FLOOD_SPAN).saturating_sub(paced.arrived);
        }
    }
    let medians = |mut figures: [Vec<f64>; 2]| figures.each_mut().map(|it| median(it));
    let [without, with] = medians(cpu);
    Ok(Flooded {
        name: garbage.name(),
        alone,
        beside: with - without,
        p50: medians(p50),
        p99: medians(p99),
        lost,
    })
}

impl Load {
    /// The header of a frame that the sender would send.
    fn header(&mut self, pool: &Pool) -> Result<LinkHeader, Failure> {
        let mut batch = cepa_host::packet_io::Batch::new(1);
        let slot: &mut Datagram = batch.take_slot().ok_or("no slot")?;
        let table = self.table().ok_or("no links")?;
        let packet = pool.packets.first().ok_or("no packet")?;
        cepa_benches::packet_lane::seal_into(table, work::now(), packet, slot);
        Ok(LinkHeader::parse(slot.bytes())?.0)
    }
}
