//! The packet tile: one thread that owns the packet lane's port. It reads a batch, lets relay do what there is
//! to do with it, and writes what that gives; requests go to the shards, and their answers come back here.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use cepa_crypto::packet::{HopKeys, has_aes};
use cepa_relay::packet::batch::Batch;
use cepa_relay::packet::directory::PacketDirectory;
use cepa_relay::packet::drop_reason::DropReason;
use cepa_relay::packet::relay::{Counted, PacketRelay, RelaySettings};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::Timestamp;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::gate::{Entered, Entering, Gate};
use crate::packet_io::{IoChoice, PacketIo, PacketIoSettings, Waker, XdpMode, XdpSettings, open};
use crate::packet_settings::{PacketBackend, PacketSettings};
use crate::packets::PacketReturns;
use crate::{StartError, clock, random};

/// Datagrams that are read at once: four batches of the Diffie-Hellman. What came while they were worked on,
/// some two milliseconds, waits in the socket.
const INBOX_CAPACITY: usize = 256;
/// Datagrams beside those of a batch that are written at once.
const OUTBOX_CAPACITY: usize = 256;
/// The longest that the tile waits: it looks whether it is to stop, and what the directory says.
const TICK: Duration = Duration::from_millis(100);
/// The shortest: the clock of delays has milliseconds.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// How often the replay filter is measured.
const MEASURE_PAUSE: Duration = Duration::from_secs(10);
/// The pause before a port is opened anew that failed.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A tile that runs.
pub(crate) struct RunningTile {
    thread: JoinHandle<()>,
    waker: Waker,
}

impl RunningTile {
    /// Waits for its end, which comes once the node is told to stop.
    pub(crate) fn join(self) -> Result<(), String> {
        self.waker.wake();
        let joined = self.thread.join();
        joined.map_err(|_| "the packet tile ended in a panic".to_owned())
    }
}

struct PacketTile {
    io: Box<dyn PacketIo>,
    io_settings: PacketIoSettings,
    relay: PacketRelay,
    hop_keys: Arc<ArcSwap<HopKeys>>,
    directory: Arc<ArcSwap<PacketDirectory>>,
    known: Arc<PacketDirectory>,
    counted: Arc<Counted>,
    returns: Arc<PacketReturns>,
    gate: Gate,
    stop: Arc<AtomicBool>,
    inbox: Batch,
    outbox: Batch,
    /// The latest time that was seen: it only goes forward here.
    now: Timestamp,
    measure_at: Timestamp,
}

/// Starts the tile of a node; it listens when this returns.
pub(crate) fn spawn(
    settings: PacketSettings,
    bind_ip: Ipv4Addr,
    gate: Gate,
    stop: Arc<AtomicBool>,
) -> Result<RunningTile, StartError> {
    let (report, reports) = sync_channel(1);
    let address = SocketAddr::from((bind_ip, settings.port));
    let failed = |reason: String| StartError::PacketTile { address, reason };
    let thread = thread::Builder::new().name("packet-0".to_owned());
    let running = thread
        .spawn(move || run(settings, address, gate, stop, &report))
        .map_err(|error| failed(error.to_string()))?;
    match reports.recv() {
        Ok(Ok(waker)) => Ok(RunningTile {
            thread: running,
            waker,
        }),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(_) => Err(failed("it ended in a panic".to_owned())),
    }
}

fn run(
    settings: PacketSettings,
    address: SocketAddr,
    gate: Gate,
    stop: Arc<AtomicBool>,
    report: &SyncSender<Result<Waker, String>>,
) {
    let mut cpus = CpuSet::new();
    cpus.set(settings.cpu);
    let pinned = sched_setaffinity(None, &cpus);
    let made = pinned
        .map_err(|error| format!("cannot run on core {}: {error}", settings.cpu))
        .and_then(|()| PacketTile::new(settings, address, gate, stop));
    match made {
        Ok(mut tile) => {
            drop(report.send(Ok(tile.io.waker())));
            tile.run();
        }
        Err(reason) => drop(report.send(Err(reason))),
    }
}

impl PacketTile {
    fn new(
        settings: PacketSettings,
        address: SocketAddr,
        gate: Gate,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        let io_settings = PacketIoSettings {
            choice: io_choice(settings.backend),
            ..PacketIoSettings::new(address)
        };
        let io = open(&io_settings).map_err(|error| error.to_string())?;
        let now = clock::now();
        let keys = settings.hop_keys.load();
        let replay = ReplayFilters::new(settings.replay_filter_size, keys.epoch(), random::bytes());
        drop(keys);
        let relay = PacketRelay::new(
            RelaySettings::default(),
            settings.link,
            Arc::new(replay),
            Arc::clone(&settings.counted),
            now,
            random::fill,
        );
        if !has_aes() {
            tracing::warn!(
                "this processor has no AES instructions: a packet costs some ten times as much"
            );
        }
        tracing::info!(back_end = io.kind().name(), "packets are taken");
        Ok(Self {
            returns: Arc::new(PacketReturns::new(io.waker())),
            io,
            io_settings,
            relay,
            hop_keys: settings.hop_keys,
            directory: settings.directory,
            known: Arc::default(),
            counted: settings.counted,
            gate,
            stop,
            inbox: Batch::new(INBOX_CAPACITY),
            outbox: Batch::new(OUTBOX_CAPACITY),
            now,
            measure_at: now,
        })
    }

    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.turn() {
                tracing::warn!(%error, "the port of packets failed; it is opened anew");
                self.reopen();
            }
        }
    }

    /// Reads, works, writes.
    fn turn(&mut self) -> io::Result<()> {
        let pause = self.pause();
        self.io.receive(&mut self.inbox, Some(pause))?;
        self.tell_time();
        self.follow_directory();
        // Not for longer than a turn: keys that are over are to be erased.
        let keys = self.hop_keys.load_full();
        let now = self.now;
        self.relay.handle_batch(&keys, now, &mut self.inbox);
        self.io.send(self.inbox.datagrams())?;
        self.enter_requests();
        self.relay.handle_timeout(&keys, now);
        if now >= self.measure_at {
            self.relay.measure_replay_fill(&keys);
            self.measure_at = now.saturating_add(MEASURE_PAUSE);
        }
        drop(keys);
        self.write_rest(now)
    }

    /// Writes answers, what waited, and what links have to say.
    fn write_rest(&mut self, now: Timestamp) -> io::Result<()> {
        loop {
            self.outbox.clear();
            while !self.outbox.is_full()
                && let Some(packet) = self.returns.pop()
            {
                self.relay.send_answer(now, &packet, &mut self.outbox);
            }
            let is_all = self.relay.poll_transmit(now, &mut self.outbox);
            if !self.outbox.is_empty() {
                self.io.send(self.outbox.datagrams())?;
            }
            if is_all && !self.outbox.is_full() {
                return Ok(());
            }
        }
    }

    /// Hands whole requests to the shards.
    fn enter_requests(&mut self) {
        while let Some(message) = self.relay.poll_request() {
            let entered = Entered {
                from: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                request: Entering::Packet {
                    message,
                    returns: Arc::clone(&self.returns),
                },
            };
            if !self.gate.enter(entered) {
                self.counted.drops.add(DropReason::DeliverFull, 1);
            }
        }
    }

    fn follow_directory(&mut self) {
        let directory = self.directory.load();
        if !Arc::ptr_eq(&directory, &self.known) {
            self.relay.set_directory(self.now, &directory);
            self.known = Arc::clone(&directory);
        }
    }

    fn tell_time(&mut self) {
        self.now = self.now.max(clock::now());
    }

    fn pause(&self) -> Duration {
        if self.relay.is_clearing() {
            return Duration::ZERO;
        }
        let now = self.now.max(clock::now());
        let due = self.relay.poll_timeout();
        let pause = due.map_or(TICK, |due| due.saturating_since(now));
        pause.clamp(WAIT_MIN, TICK)
    }

    fn reopen(&mut self) {
        // Nothing else is done on this thread.
        thread::park_timeout(REOPEN_PAUSE);
        match open(&self.io_settings) {
            Ok(io) => {
                self.returns = Arc::new(PacketReturns::new(io.waker()));
                self.io = io;
            }
            Err(error) => tracing::warn!(%error, "the port of packets can't be opened"),
        }
    }
}

fn io_choice(backend: PacketBackend) -> IoChoice {
    match backend {
        PacketBackend::Auto => IoChoice::Auto,
        PacketBackend::IoUring => IoChoice::IoUring,
        PacketBackend::Mmsg => IoChoice::Mmsg,
        PacketBackend::AfXdp { interface, queue } => IoChoice::AfXdp(XdpSettings {
            interface,
            queue,
            // The kernel's own is no faster than io_uring.
            mode: XdpMode::Native,
        }),
    }
}
