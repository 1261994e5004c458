//! What runs on the far side: a sender and a receiver, each at a socket of its own, on one thread.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::thread::park_timeout;

use cepa_benches::packet_lane::{Pool, RECEIVER, RELAY, SENDER, seal_into, ticks};
use cepa_host::packet_io::{Batch, IoChoice, PacketIo, PacketIoSettings, open};
use cepa_relay::packet::links::{LinkEvent, LinkTable};
use cepa_wire::packet::PacketBytes;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE};
use hdrhistogram::Histogram;
use rustix::time::ClockId;

use crate::bed::Failure;
use crate::flood::Flood;
use crate::work::{Gauges, Read, now};

/// Datagrams that are sent at once, and that are under way at most.
const BURST: usize = 64;
const WINDOW: usize = 1024;
/// Slots of a batch that is received.
const BATCH: usize = 256;
/// What did not come until then is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// The silence after which nothing more comes late.
const DRAIN_PAUSE: Duration = Duration::from_millis(5);
/// Latencies above this count as this: ten seconds.
const LATENCY_NS_MAX: u64 = 10_000_000_000;
/// How long a link may take, and the pause before the next packet that shall open it.
const LINK_MAX: Duration = Duration::from_secs(5);
const LINK_PAUSE: Duration = Duration::from_millis(200);

/// Whether links are used.
enum Links {
    /// Each datagram is a packet, sealed and opened.
    Sealed(Box<[LinkTable; 2]>),
    /// For one that forwards without looking.
    Plain,
}

pub(crate) struct Load {
    /// What receives, and what sends.
    ios: [Box<dyn PacketIo>; 2],
    links: Links,
    relay: SocketAddr,
    out: Batch,
    back: Batch,
}

/// What came of a pass at full speed.
pub(crate) struct Pass {
    pub(crate) arrived: usize,
    pub(crate) span: Duration,
    pub(crate) near: Read,
}

/// What came of one at a fixed rate.
pub(crate) struct Paced {
    pub(crate) arrived: usize,
    /// From when a packet was to be sent until its frame was open, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) near: Read,
}

/// Sockets of the far side: the receiver's and the sender's.
pub(crate) fn sockets(ip: IpAddr) -> Result<[Box<dyn PacketIo>; 2], Failure> {
    let settings = PacketIoSettings {
        choice: IoChoice::Mmsg,
        ..PacketIoSettings::new(SocketAddr::new(ip, 0))
    };
    Ok([open(&settings)?, open(&settings)?])
}

impl Load {
    pub(crate) fn new(ios: [Box<dyn PacketIo>; 2], relay: SocketAddr, is_plain: bool) -> Self {
        let table = |place: cepa_benches::packet_lane::Place| place.table(&[(RELAY, relay)]);
        let links = if is_plain {
            Links::Plain
        } else {
            Links::Sealed(Box::new([table(RECEIVER), table(SENDER)]))
        };
        Self {
            ios,
            links,
            relay,
            out: Batch::new(BURST),
            back: Batch::new(BATCH),
        }
    }

    /// Where the near side is.
    pub(crate) const fn relay(&self) -> SocketAddr {
        self.relay
    }

    /// The sender's links.
    pub(crate) fn table(&mut self) -> Option<&mut LinkTable> {
        match &mut self.links {
            Links::Sealed(tables) => tables.last_mut(),
            Links::Plain => None,
        }
    }

    /// Sends packet after packet until one comes: then all links are open, and all addresses known.
    pub(crate) fn link(&mut self, pool: &Pool) -> Result<(), Failure> {
        let begin = ticks(ClockId::Monotonic);
        for packet in &pool.packets {
            let until = ticks(ClockId::Monotonic) + LINK_PAUSE;
            self.send(core::slice::from_ref(packet))?;
            while ticks(ClockId::Monotonic) < until {
                self.transmit()?;
                if self.take(Some(Duration::from_millis(1)), |_| {})? > 0 {
                    self.transmit()?;
                    self.drain()?;
                    return Ok(());
                }
            }
            if until > begin + LINK_MAX {
                break;
            }
        }
        Err("no packet came through".into())
    }

    /// Throws away what comes late.
    fn drain(&mut self) -> io::Result<()> {
        while self.take(Some(DRAIN_PAUSE), |_| {})? > 0 {}
        Ok(())
    }

    /// Sends what links have to say.
    fn transmit(&mut self) -> io::Result<()> {
        let Links::Sealed(tables) = &mut self.links else {
            return Ok(());
        };
        for (table, io) in tables.iter_mut().zip(&mut self.ios) {
            self.out.clear();
            table.handle_timeout(now());
            while let Some(slot) = self.out.take_slot() {
                let Some(sent) = table.poll_transmit(now(), slot.slot_mut()) else {
                    self.out.give_back();
                    break;
                };
                slot.set_size(sent.size);
                slot.set_peer(sent.to);
            }
            io.send(self.out.datagrams())?;
        }
        Ok(())
    }

    /// Sends up to [`BURST`] packets; gives how many went.
    fn send(&mut self, packets: &[PacketBytes]) -> io::Result<usize> {
        let (now, out) = (now(), &mut self.out);
        out.clear();
        for packet in packets {
            let Some(slot) = out.take_slot() else { break };
            let is_ready = match &mut self.links {
                Links::Sealed(tables) => {
                    let [_, sender] = &mut **tables;
                    seal_into(sender, now, packet, slot)
                }
                Links::Plain => {
                    slot.set_size(DATAGRAM_SIZE);
                    slot.set_peer(self.relay);
                    true
                }
            };
            if !is_ready {
                out.give_back();
            }
        }
        let [_, io] = &mut self.ios;
        io.send(out.datagrams())
    }

    /// Receives what is there, and tells of each packet; gives how many there were.
    fn take(
        &mut self,
        wait: Option<Duration>,
        mut arrived: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut count = 0;
        let [receiver, sender] = &mut self.ios;
        receiver.receive(&mut self.back, wait)?;
        let Links::Sealed(tables) = &mut self.links else {
            return Ok(self.back.len());
        };
        let (now, [receiving, sending]) = (now(), &mut **tables);
        self.back.retain(|datagram| {
            let from = datagram.peer();
            match receiving.handle_datagram(now, from, datagram.bytes_mut()) {
                LinkEvent::Packet { .. } => {
                    arrived(datagram.bytes().get(LINK_HEADER_SIZE..).unwrap_or_default());
                    count += 1;
                    false
                }
                LinkEvent::Reply { size } => {
                    datagram.set_size(size);
                    true
                }
                _ => false,
            }
        });
        if !self.back.is_empty() {
            receiver.send(self.back.datagrams())?;
        }
        // Only of the link itself.
        if wait.is_some() && sender.receive(&mut self.back, None)? > 0 {
            for datagram in self.back.datagrams_mut() {
                let from = datagram.peer();
                sending.handle_datagram(now, from, datagram.bytes_mut());
            }
        }
        Ok(count)
    }

    /// All packets, as fast as they go: so many are under way.
    pub(crate) fn pass(&mut self, packets: &[PacketBytes], gauges: &Gauges) -> io::Result<Pass> {
        self.drain()?;
        let before = gauges.read();
        let begin = ticks(ClockId::Monotonic);
        let (mut rest, mut under_way, mut arrived) = (packets, 0_usize, 0);
        let mut last = begin;
        while !rest.is_empty() || under_way > 0 {
            let has_room = under_way + BURST <= WINDOW && !rest.is_empty();
            if has_room {
                let (burst, others) = rest.split_at(BURST.min(rest.len()));
                under_way += self.send(burst)?;
                rest = others;
            }
            let wait = (!has_room).then_some(LOST_AFTER);
            let count = self.take(wait, |_| {})?;
            arrived += count;
            if count > 0 {
                last = ticks(ClockId::Monotonic);
            }
            let is_lost = count == 0 && !has_room;
            under_way = if is_lost {
                0
            } else {
                under_way.saturating_sub(count)
            };
        }
        Ok(Pass {
            arrived,
            span: last.saturating_sub(begin),
            near: settled(gauges).since(&before),
        })
    }

    /// Packets of a pool, `rate` a second for `span`, whether the others come or not.
    pub(crate) fn paced(
        &mut self,
        (pool, rate, span): (&Pool, u32, Duration),
        gauges: &Gauges,
        mut flood: Option<&mut Flood>,
    ) -> Result<Paced, Failure> {
        self.drain()?;
        let before = gauges.read();
        let mut latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?;
        let period = Duration::from_secs(1) / rate;
        let count = usize::try_from(span.as_nanos() / period.as_nanos())?;
        let packets = pool.packets.get(..count).ok_or("the pool is too small")?;
        let due = |index: usize| period * u32::try_from(index).unwrap_or(u32::MAX);
        let begin = ticks(ClockId::Monotonic);
        let (mut sent, mut arrived) = (0, 0);
        loop {
            let at = ticks(ClockId::Monotonic).saturating_sub(begin);
            let late = usize::try_from(at.as_nanos() / period.as_nanos())? + 1;
            let until = late.min(count).min(sent + BURST);
            self.send(packets.get(sent..until).unwrap_or_default())?;
            sent = until;
            if let Some(flood) = &mut flood {
                flood.send(at.min(span))?;
            }
            arrived += self.take(None, |packet| {
                let taken = ticks(ClockId::Monotonic).saturating_sub(begin);
                let latency = pool
                    .find(packet)
                    .map(|index| taken.saturating_sub(due(index)));
                let latency = latency.unwrap_or(span).as_nanos();
                latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
            })?;
            let is_late = at > span + LOST_AFTER;
            if sent == count && at >= span && (arrived == count || is_late) {
                break;
            }
        }
        Ok(Paced {
            arrived,
            latencies,
            near: settled(gauges).since(&before),
        })
    }
}

/// Garbage without anything else, as fast as it goes.
pub(crate) fn flood_alone(flood: &mut Flood, span: Duration) -> io::Result<()> {
    let begin = ticks(ClockId::Monotonic);
    while ticks(ClockId::Monotonic).saturating_sub(begin) < span {
        // More than one burst is always due.
        flood.send(Duration::MAX)?;
    }
    Ok(())
}

/// The gauges when the near side has nothing more to do.
pub(crate) fn settled(gauges: &Gauges) -> Read {
    loop {
        let turns = gauges.read().turns;
        park_timeout(Duration::from_millis(5));
        let read = gauges.read();
        if read.turns == turns {
            return read;
        }
    }
}
