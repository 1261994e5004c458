//! What runs on the near side: the loop of the packet tile, or one that forwards without looking.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use cepa_benches::packet_lane::{START, hop_keys, ticks};
use cepa_crypto::packet::HopKeys;
use cepa_host::packet_io::{Batch, PacketIo};
use cepa_relay::packet::relay::PacketRelay;
use cepa_wire::Timestamp;
use rustix::time::ClockId;

/// Slots of both batches, as the packet tile has them.
const BATCH: usize = 256;
const TICK: Duration = Duration::from_millis(100);
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Now, on a clock without a date.
pub(crate) fn now() -> Timestamp {
    START.saturating_add(ticks(ClockId::Monotonic))
}

/// What the near side says of itself after each turn.
#[derive(Default)]
pub(crate) struct Gauges {
    cpu_ns: AtomicU64,
    turns: AtomicU64,
    pub(crate) is_over: AtomicBool,
}

/// Gauges at one time.
#[derive(Clone, Copy)]
pub(crate) struct Read {
    pub(crate) cpu: Duration,
    pub(crate) turns: u64,
}

impl Read {
    /// What came since.
    pub(crate) const fn since(&self, before: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            turns: self.turns - before.turns,
        }
    }
}

impl Gauges {
    pub(crate) fn read(&self) -> Read {
        Read {
            cpu: Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed)),
            turns: self.turns.load(Ordering::Relaxed),
        }
    }

    fn tell(&self) {
        let cpu = ticks(ClockId::ThreadCPUTime).as_nanos();
        let cpu = u64::try_from(cpu).unwrap_or(u64::MAX);
        self.cpu_ns.store(cpu, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// One turn after the other.
pub(crate) trait Work {
    fn turn(&mut self, io: &mut dyn PacketIo) -> io::Result<()>;
}

/// Turns until it is over.
pub(crate) fn run(work: &mut dyn Work, io: &mut dyn PacketIo, gauges: &Gauges) -> io::Result<()> {
    while !gauges.is_over.load(Ordering::Relaxed) {
        work.turn(io)?;
        gauges.tell();
    }
    Ok(())
}

/// Sends everything to one address.
pub(crate) struct Forwarder {
    to: SocketAddr,
    batch: Batch,
}

impl Forwarder {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self {
            to,
            batch: Batch::new(BATCH),
        }
    }
}

impl Work for Forwarder {
    fn turn(&mut self, io: &mut dyn PacketIo) -> io::Result<()> {
        io.receive(&mut self.batch, Some(TICK))?;
        for datagram in self.batch.datagrams_mut() {
            datagram.set_peer(self.to);
        }
        io.send(self.batch.datagrams())?;
        Ok(())
    }
}

/// What the packet tile does in its turns, as `host/src/packet_tile.rs` has it; there are no
/// requests.
pub(crate) struct Tile {
    relay: PacketRelay,
    keys: Arc<HopKeys>,
    inbox: Batch,
    outbox: Batch,
    now: Timestamp,
}

impl Tile {
    pub(crate) fn new(relay: PacketRelay) -> Self {
        Self {
            relay,
            keys: Arc::new(hop_keys()),
            inbox: Batch::new(BATCH),
            outbox: Batch::new(BATCH),
            now: START,
        }
    }

    fn pause(&self) -> Duration {
        if self.relay.is_clearing() {
            return Duration::ZERO;
        }
        let now = self.now.max(now());
        let due = self.relay.poll_timeout();
        let pause = due.map_or(TICK, |due| due.saturating_since(now));
        pause.clamp(WAIT_MIN, TICK)
    }

    fn write_rest(&mut self, io: &mut dyn PacketIo) -> io::Result<()> {
        loop {
            self.outbox.clear();
            let is_all = self.relay.poll_transmit(self.now, &mut self.outbox);
            if !self.outbox.is_empty() {
                io.send(self.outbox.datagrams())?;
            }
            if is_all && !self.outbox.is_full() {
                return Ok(());
            }
        }
    }
}

impl Work for Tile {
    fn turn(&mut self, io: &mut dyn PacketIo) -> io::Result<()> {
        let pause = self.pause();
        io.receive(&mut self.inbox, Some(pause))?;
        self.now = self.now.max(now());
        let keys = Arc::clone(&self.keys);
        self.relay.handle_batch(&keys, self.now, &mut self.inbox);
        io.send(self.inbox.datagrams())?;
        while self.relay.poll_request().is_some() {}
        self.relay.handle_timeout(&keys, self.now);
        self.write_rest(io)
    }
}
