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
use cepa_meter::count;
use cepa_relay::packet::batch::Batch;
use cepa_relay::packet::directory::PacketDirectory;
use cepa_relay::packet::relay::{Counted, PacketRelay, RelaySettings};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::Timestamp;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::gate::{Entered, Entering, Gate};
use crate::packet_io::{IoChoice, PacketIoSettings, XdpMode, XdpSettings, open};
use crate::packet_port::Port;
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
/// How many times in one turn answers, what waited, and what links have to say are written: as much as four
/// batches that are read. What is left is for the next turn, which does not wait.
const WRITE_COUNT_MAX: usize = 4;
/// Answers in one outbox at most: the other half is for what waited.
const ANSWER_COUNT_MAX: usize = OUTBOX_CAPACITY / 2;
/// How often the datagrams are counted.
const COUNT_PAUSE: Duration = Duration::from_secs(1);
/// How often the replay filter is measured.
const MEASURE_PAUSE: Duration = Duration::from_secs(10);
/// The pause before a port is opened anew that failed.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A tile that runs.
pub(crate) struct RunningTile {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    returns: Arc<PacketReturns>,
}

impl RunningTile {
    /// Tells it to stop, and waits for its end. What answers were given it sends before.
    pub(crate) fn stop(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Release);
        self.returns.wake();
        let joined = self.thread.join();
        joined.map_err(|_| "the packet tile ended in a panic".to_owned())
    }
}

struct PacketTile {
    port: Port,
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
    /// Something was left to be written.
    has_more: bool,
    time: TileTime,
    /// When the turn began that had datagrams and is not measured yet.
    step_begun: Option<u64>,
    measure_at: Timestamp,
    count_at: Timestamp,
}

/// Starts the tile of a node; it listens when this returns.
pub(crate) fn spawn(
    settings: PacketSettings,
    bind_ip: Ipv4Addr,
    gate: Gate,
) -> Result<RunningTile, StartError> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    let (report, reports) = sync_channel(1);
    let address = SocketAddr::from((bind_ip, settings.port));
    let failed = |reason: String| StartError::PacketTile { address, reason };
    let thread = thread::Builder::new().name("packet-0".to_owned());
    let running = thread
        .spawn(move || run(settings, address, gate, stopping, &report))
        .map_err(|error| failed(error.to_string()))?;
    match reports.recv() {
        Ok(Ok(returns)) => Ok(RunningTile {
            thread: running,
            stop,
            returns,
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
    report: &SyncSender<Result<Arc<PacketReturns>, String>>,
) {
    let mut cpus = CpuSet::new();
    cpus.set(settings.cpu);
    let pinned = sched_setaffinity(None, &cpus);
    let made = pinned
        .map_err(|error| format!("cannot run on core {}: {error}", settings.cpu))
        .and_then(|()| PacketTile::new(settings, address, gate, stop));
    match made {
        Ok(mut tile) => {
            drop(report.send(Ok(Arc::clone(&tile.returns))));
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
            port: Port::new(io),
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
            has_more: false,
            time: TileTime::new(now, clock::ticks()),
            step_begun: None,
            measure_at: now,
            count_at: now,
        })
    }

    fn run(&mut self) {
        // What was answered before the end was told is seen when that is.
        while !self.stop.load(Ordering::Acquire)
            || (self.port.is_open() && !self.returns.is_empty())
        {
            if let Err(error) = self.turn() {
                tracing::warn!(%error, "the port of packets failed; it is opened anew");
                self.reopen();
            }
        }
        self.port.count(&self.counted.io);
    }

    /// Reads, works, writes.
    fn turn(&mut self) -> io::Result<()> {
        let pause = self.pause();
        self.port.io()?.receive(&mut self.inbox, Some(pause))?;
        let nanos = self.read_nanos();
        self.step_begun = (!self.inbox.is_empty()).then_some(nanos);
        let ahead = self.time.advance(clock::now(), clock::to_ticks(nanos));
        self.relay.set_ahead(ahead);
        let counters = &self.counted.packets;
        count(&counters.turns);
        let waiting = u64::try_from(self.returns.len()).unwrap_or(u64::MAX);
        counters.answers_waiting.store(waiting, Ordering::Relaxed);
        self.follow_directory();
        // Not for longer than a turn: keys that are over are to be erased.
        let keys = self.hop_keys.load_full();
        let now = self.time.now;
        self.relay.handle_batch(&keys, now, &mut self.inbox);
        // Before anything can fail: these came, and are whole.
        self.enter_requests();
        self.relay.handle_timeout(&keys, now);
        if now >= self.measure_at {
            self.relay.measure(&keys);
            self.measure_at = now.saturating_add(MEASURE_PAUSE);
        }
        drop(keys);
        if now >= self.count_at {
            self.port.count(&self.counted.io);
            self.count_at = now.saturating_add(COUNT_PAUSE);
        }
        self.port.io()?.send(self.inbox.datagrams())?;
        self.write_rest(now)
    }

    /// Writes answers, what waited, and what links have to say; not without end, since shards may answer as
    /// fast as this writes.
    fn write_rest(&mut self, now: Timestamp) -> io::Result<()> {
        for _ in 0..WRITE_COUNT_MAX {
            self.outbox.clear();
            for _ in 0..ANSWER_COUNT_MAX {
                let Some(packet) = self.returns.pop() else {
                    break;
                };
                self.relay.send_answer(now, &packet, &mut self.outbox);
            }
            let is_all = self.relay.poll_transmit(now, &mut self.outbox);
            if !self.outbox.is_empty() {
                self.port.io()?.send(self.outbox.datagrams())?;
            }
            self.has_more = !is_all || !self.returns.is_empty();
            if !self.has_more {
                break;
            }
        }
        Ok(())
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
                self.relay.refuse_request();
            }
        }
    }

    fn follow_directory(&mut self) {
        let directory = self.directory.load();
        if !Arc::ptr_eq(&directory, &self.known) {
            self.relay.set_directory(self.time.now, &directory);
            self.known = Arc::clone(&directory);
        }
    }

    fn pause(&mut self) -> Duration {
        if self.has_more || self.relay.is_clearing() {
            return Duration::ZERO;
        }
        let ticks = clock::to_ticks(self.read_nanos());
        self.time.advance(clock::now(), ticks);
        let due = self.relay.poll_timeout();
        let pause = due.map_or(TICK, |due| due.saturating_since(self.time.now));
        pause.clamp(WAIT_MIN, TICK)
    }

    /// Reads the clock of spans; the turn before that had datagrams ended about now, so that one reading serves
    /// both.
    fn read_nanos(&mut self) -> u64 {
        let nanos = clock::nanos();
        if let Some(begun) = self.step_begun.take() {
            let taken = nanos.saturating_sub(begun);
            self.counted.packets.step_seconds.record(taken);
        }
        nanos
    }

    fn reopen(&mut self) {
        self.port.close(&self.counted.io);
        if self.stop.load(Ordering::Acquire) {
            return;
        }
        // Nothing else is done on this thread.
        thread::park_timeout(REOPEN_PAUSE);
        match open(&self.io_settings) {
            Ok(io) => {
                // Whoever has an answer for us has these returns.
                self.returns.set_waker(io.waker());
                self.port.open(io);
            }
            Err(error) => {
                tracing::debug!(%error, "the port of packets");
                let reason = error.reason();
                tracing::warn!(%reason, "the port of packets can't be opened; trying again");
            }
        }
    }
}

/// The tile's time: the system's, which it follows ahead. When that goes back, it goes on as fast as time
/// does: packets wait, and links retry, by it.
struct TileTime {
    now: Timestamp,
    ticks: Timestamp,
}

impl TileTime {
    const fn new(now: Timestamp, ticks: Timestamp) -> Self {
        Self { now, ticks }
    }

    /// Gives by how much it is ahead of the system's.
    fn advance(&mut self, system: Timestamp, ticks: Timestamp) -> Duration {
        let passed = ticks.saturating_since(self.ticks);
        self.now = self.now.saturating_add(passed).max(system);
        self.ticks = self.ticks.max(ticks);
        self.now.saturating_since(system)
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use cepa_crypto::X25519SecretKey;
    use cepa_crypto::link::{KemSecretKey, LinkIdentity};
    use cepa_crypto::packet::{BuiltPacket, PathHop, build};
    use cepa_relay::packet::links::{LinkConfig, LinkName, LinkPeer, LinkTable};
    use cepa_wire::packet::RelayId;
    use cepa_wire::packet::epoch::EpochLength;
    use cepa_wire::packet::fragment::{MessageId, MessageKind, fragments};

    use super::*;
    use crate::gate::make_gate;

    const RELAY: RelayId = RelayId([1; 16]);

    fn settings(port: u16) -> PacketSettings {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let cpus = 0..CpuSet::MAX_CPU;
        let draw = || random::bytes();
        let grace = Duration::from_hours(1);
        let keys = HopKeys::new(RELAY, EpochLength::DAY, grace, clock::now(), draw);
        PacketSettings {
            port,
            backend: PacketBackend::Mmsg,
            cpu: cpus.into_iter().find(|cpu| allowed.is_set(*cpu)).unwrap(),
            link: LinkIdentity::relay(
                X25519SecretKey::from_bytes([1; 32]),
                KemSecretKey::from_seed([1; 64]),
            ),
            replay_filter_size: 1 << 16,
            hop_keys: Arc::new(ArcSwap::from_pointee(keys)),
            directory: Arc::default(),
            counted: Arc::default(),
            board: Arc::default(),
        }
    }

    /// Sends a packet to the tile as a client does.
    fn send(socket: &UdpSocket, to: SocketAddr, packet: &BuiltPacket) {
        let identity = LinkIdentity::client(X25519SecretKey::from_bytes([2; 32]));
        let now = clock::now();
        let mut links = LinkTable::new(LinkConfig::default(), identity, now, random::fill);
        let peer = LinkPeer {
            relay: RELAY,
            link: X25519SecretKey::from_bytes([1; 32]).public_key(),
            kem: Box::new(*KemSecretKey::from_seed([1; 64]).public_key()),
            address: to,
        };
        links.set_peers(now, &[peer]);
        let name = LinkName::Relay(RELAY);
        let mut buffer = [0; 1232];
        links.seal(now, name, &packet.bytes, &mut buffer).unwrap();
        while links.stats().sent_to_relays == 0 {
            while let Some(sent) = links.poll_transmit(now, &mut buffer) {
                socket.send_to(&buffer[..sent.size], sent.to).unwrap();
            }
            if links.stats().sent_to_relays == 0 {
                let (size, from) = socket.recv_from(&mut buffer).unwrap();
                links.handle_datagram(now, from, &mut buffer[..size]);
            }
        }
    }

    #[test]
    fn requests_enter_and_what_was_answered_before_the_end_is_sent() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let settings = settings(address.port());
        let counted = Arc::clone(&settings.counted);
        let key = settings.hop_keys.load().published().current;
        let (gate, mut ends) = make_gate(1, Arc::default());
        let tile = spawn(settings, Ipv4Addr::LOCALHOST, gate).unwrap();
        let hop = PathHop {
            relay: RELAY,
            key,
            delay_ms: 0,
        };
        let id = MessageId([5; 16]);
        let content = fragments(id, MessageKind::Request, b"request").unwrap();
        let content = content.into_iter().next().unwrap();
        let packet = build(&[hop], &content, &mut random::fill).unwrap();
        send(&socket, address, &packet);
        let entered = (0..2000).find_map(|_| {
            thread::park_timeout(Duration::from_millis(10));
            ends[0].try_recv().ok()
        });
        let Entering::Packet { message, returns } = entered.unwrap().request else {
            panic!("a packet was sent");
        };
        assert_eq!(message.bytes, b"request");
        // More than one turn writes, to a relay that is not.
        let answers = (0..3000).map(|_| BuiltPacket {
            first: packet.first,
            bytes: packet.bytes,
        });
        assert_eq!(returns.push_all(answers), 0);
        tile.stop().unwrap();
        assert_eq!(counted.packets.answered.load(Ordering::Relaxed), 3000);
        assert_eq!(counted.packets.delivered.load(Ordering::Relaxed), 1);
        assert!(counted.io.received.load(Ordering::Relaxed) >= 2);
    }

    #[test]
    fn time_goes_on_whatever_the_clock_does() {
        let at = Timestamp::from_millis;
        let mut time = TileTime::new(at(5000), at(10));
        let steps = [
            (5003, 13, 5003),
            // It was set back.
            (1000, 20, 5010),
            (1100, 120, 5110),
            // And right again.
            (6000, 125, 6000),
            (6000, 125, 6000),
        ];
        for (system, ticks, expected) in steps {
            let ahead = time.advance(at(system), at(ticks));
            assert_eq!(time.now, at(expected));
            assert_eq!(ahead, Duration::from_millis(expected - system));
        }
    }
}
