//! The whole hop of a packet, from the datagram that came to the one that goes: link open, X25519,
//! keys, tag, replay filter, header, payload, link seal. Through what the packet tile runs, in
//! batches; and the same steps packet by packet with x25519-dalek, in the same rounds. Then where a
//! packet's time goes.
//!
//! `cargo bench -p benches --bench hop`: some ten seconds. Medians of rounds, by the thread's clock.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it prints a table")]

use core::hint::black_box;
use core::time::Duration;
use std::sync::Arc;

use cepa_benches::packet_lane::{
    Lane, Place, Pool, RECEIVER, RELAY, SENDER, START, epoch, fill, filters, forget, hop_key,
    hop_secret, link, median, nanos_each, ticks,
};
use cepa_crypto::packet::{HopKey, parts};
use cepa_crypto::x25519::{SharedSecret, available, diffie_hellman_many};
use cepa_relay::packet::batch::{Batch, Datagram};
use cepa_relay::packet::links::{LinkEvent, LinkName, LinkTable, Sealed};
use cepa_relay::packet::replay_epochs::{ReplayFilters, Seen};
use cepa_wire::X25519PublicKey;
use cepa_wire::packet::geometry::{
    HEADER_STREAM_SIZE, LINK_HEADER_SIZE, PACKET_SIZE, PAYLOAD_SIZE, SEALED_SIZE,
};
use cepa_wire::packet::{Command, Packet, PacketBytes};
use rustix::time::ClockId;

const BATCHES: [usize; 5] = [1, 8, 16, 32, 64];
/// The batch whose parts are measured.
const BATCH: usize = 64;
const ROUND_COUNT: usize = 301;
/// Packets of a round, for each batch.
const PACKET_COUNT: usize = 512;
/// Packets of a round that go alone or by x25519-dalek: each costs ten times as much.
const SINGLE_COUNT: usize = 128;

/// The parts, in their order.
const PARTS: [&str; 8] = [
    "link open",
    "X25519",
    "keys",
    "tag",
    "replay filter",
    "header",
    "payload",
    "link seal",
];

/// The hop without the tile: its links, its key, its filter.
struct Apart {
    sender: LinkTable,
    links: LinkTable,
    hop: HopKey,
    filters: Arc<ReplayFilters>,
    dalek: x25519_dalek::StaticSecret,
}

impl Apart {
    fn new() -> Self {
        let peers = [SENDER, RECEIVER].map(|place: Place| (place, place.address()));
        let mut links = RELAY.table(&peers);
        let mut sender = SENDER.table(&[(RELAY, RELAY.address())]);
        let mut receiver = RECEIVER.table(&[(RELAY, RELAY.address())]);
        link((SENDER, &mut sender), (RELAY, &mut links));
        link((RELAY, &mut links), (RECEIVER, &mut receiver));
        Self {
            sender,
            links,
            hop: hop_key(),
            filters: filters(),
            dalek: x25519_dalek::StaticSecret::from(*hop_secret().to_bytes()),
        }
    }

    /// Nanoseconds a packet, one by one, with x25519-dalek.
    fn measure_dalek(&mut self, packets: &[PacketBytes]) -> f64 {
        forget(&self.filters);
        let mut batch = Batch::new(BATCH);
        let mut taken = Duration::ZERO;
        for packets in packets.chunks(BATCH) {
            fill(&mut self.sender, packets, &mut batch);
            let begin = ticks(ClockId::ThreadCPUTime);
            for datagram in batch.datagrams_mut() {
                assert!(self.hop_by_dalek(datagram).is_some(), "it goes on");
            }
            taken += ticks(ClockId::ThreadCPUTime).saturating_sub(begin);
        }
        nanos_each(taken, packets.len())
    }

    fn hop_by_dalek(&mut self, datagram: &mut Datagram) -> Option<()> {
        let from = datagram.peer();
        let event = self
            .links
            .handle_datagram(START, from, datagram.bytes_mut());
        let LinkEvent::Packet { range, .. } = event else {
            return None;
        };
        let packet: &mut PacketBytes = datagram.bytes_mut().get_mut(range)?.try_into().ok()?;
        let ephemeral = x25519_dalek::PublicKey::from(Packet::new(packet).ephemeral_key().0);
        let shared = self.dalek.diffie_hellman(&ephemeral);
        if !shared.was_contributory() {
            return None;
        }
        let opened = parts::open(&self.hop, packet, shared.as_bytes()).ok()?;
        if self.filters.insert(opened.epoch(), &opened.replay_tag().0) != Seen::New {
            return None;
        }
        let Command::Forward(relay) = opened.peel(packet).ok()?.command else {
            return None;
        };
        let to = LinkName::Relay(relay);
        let sealed = self.links.seal_in_place(START, to, datagram.slot_mut());
        let Ok(Sealed::To(address)) = sealed else {
            return None;
        };
        datagram.set_peer(address);
        Some(())
    }

    /// Nanoseconds a packet of each of [`PARTS`], in batches of [`BATCH`].
    fn measure_parts(&mut self, packets: &[PacketBytes]) -> [f64; PARTS.len()] {
        forget(&self.filters);
        let mut taken = [Duration::ZERO; PARTS.len()];
        let mut batch = Batch::new(BATCH);
        let mut count = 0;
        for packets in packets.chunks_exact(BATCH) {
            count += fill(&mut self.sender, packets, &mut batch);
            let spans = self.parts_of(batch.datagrams_mut());
            let sums = taken.iter_mut().zip(spans);
            sums.for_each(|(sum, span)| *sum += span);
        }
        taken.map(|span| nanos_each(span, count))
    }

    fn parts_of(&mut self, datagrams: &mut [Datagram]) -> [Duration; PARTS.len()] {
        let open = span(|| {
            for datagram in datagrams.iter_mut() {
                let from = datagram.peer();
                let event = self
                    .links
                    .handle_datagram(START, from, datagram.bytes_mut());
                assert!(matches!(event, LinkEvent::Packet { .. }), "it opens");
            }
        });
        let peers: Vec<_> = datagrams.iter().map(ephemeral).collect();
        let mut shared: [SharedSecret; BATCH] = core::array::from_fn(|_| SharedSecret::default());
        let secret = hop_secret();
        let diffie_hellman = span(|| diffie_hellman_many(&secret, &peers, &mut shared));
        let mut tags = [[0; 16]; BATCH];
        let keys = span(|| {
            let each = tags.iter_mut().zip(&shared).zip(&peers);
            for ((tag, shared), peer) in each {
                // All are: the packets are good.
                let secret = shared.contributory().unwrap_or(&[0; 32]);
                *tag = parts::keys(secret, peer, RELAY.id());
            }
        });
        let [tag, header, payload] = Self::symmetric(datagrams);
        let replay = span(|| {
            for tag in &tags {
                assert!(self.filters.insert(epoch(), tag) == Seen::New, "it is new");
            }
        });
        let seal = span(|| {
            for datagram in datagrams.iter_mut() {
                let to = RECEIVER.name();
                let sealed = self.links.seal_in_place(START, to, datagram.slot_mut());
                assert!(sealed.is_ok(), "there is a link");
            }
        });
        [
            open,
            diffie_hellman,
            keys,
            tag,
            replay,
            header,
            payload,
            seal,
        ]
    }

    /// Tag, header and payload: with any keys, since all cost as much.
    fn symmetric(datagrams: &mut [Datagram]) -> [Duration; 3] {
        let key = black_box([9; 32]);
        let tag = span(|| {
            for datagram in datagrams.iter_mut() {
                if let Some(sealed) = part::<SEALED_SIZE>(datagram, 48) {
                    black_box(parts::tag(&key, sealed));
                }
            }
        });
        let header = span(|| {
            for datagram in datagrams.iter_mut() {
                if let Some(text) = part::<HEADER_STREAM_SIZE>(datagram, 48) {
                    parts::header(&key, text);
                }
            }
        });
        let payload = span(|| {
            for datagram in datagrams.iter_mut() {
                if let Some(payload) = part::<PAYLOAD_SIZE>(datagram, PACKET_SIZE - PAYLOAD_SIZE) {
                    parts::payload(&key, payload);
                }
            }
        });
        [tag, header, payload]
    }
}

fn ephemeral(datagram: &Datagram) -> X25519PublicKey {
    let bytes = datagram.bytes().get(LINK_HEADER_SIZE..);
    let key = bytes.and_then(|bytes| bytes.first_chunk());
    X25519PublicKey(key.copied().unwrap_or_default())
}

/// Bytes of the packet in a datagram.
fn part<const SIZE: usize>(datagram: &mut Datagram, from: usize) -> Option<&mut [u8; SIZE]> {
    let bytes = datagram.slot_mut().get_mut(LINK_HEADER_SIZE + from..)?;
    bytes.first_chunk_mut()
}

fn span(work: impl FnOnce()) -> Duration {
    let begin = ticks(ClockId::Monotonic);
    work();
    ticks(ClockId::Monotonic).saturating_sub(begin)
}

fn main() {
    let pool = Pool::new(PACKET_COUNT, || {});
    let (mut lane, mut apart) = (Lane::new(&pool), Apart::new());
    let mut whole = BATCHES.map(|_| Vec::new());
    let mut dalek = Vec::new();
    let mut parts = PARTS.map(|_| Vec::new());
    let few = pool.packets.get(..SINGLE_COUNT).unwrap_or_default();
    for _ in 0..ROUND_COUNT {
        for (size, figures) in BATCHES.into_iter().zip(&mut whole) {
            let packets = if size == 1 { few } else { &pool.packets };
            figures.push(lane.measure(packets, size, ClockId::ThreadCPUTime));
        }
        dalek.push(apart.measure_dalek(few));
        let measured = apart.measure_parts(&pool.packets);
        let each = parts.iter_mut().zip(measured);
        each.for_each(|(figures, figure)| figures.push(figure));
    }
    let whole = whole.map(|mut figures| median(&mut figures));
    print_whole(&whole, median(&mut dalek));
    let of_parts = parts.map(|mut figures| median(&mut figures));
    print_parts(whole.last().copied().unwrap_or_default(), &of_parts);
}

fn print_whole(whole: &[f64], dalek: f64) {
    println!(
        "X25519 by {:?}; the median of {ROUND_COUNT} rounds.\n",
        available()
    );
    println!("| whole hop | ns a packet | packets/s a core | dalek / this |");
    println!("| --- | ---: | ---: | ---: |");
    let row = |name: &str, cost: f64| {
        println!(
            "| {name} | {cost:.0} | {:.0} | {:.1} |",
            1e9 / cost,
            dalek / cost
        );
    };
    for (size, cost) in BATCHES.iter().zip(whole) {
        row(&format!("tile, batch {size}"), *cost);
    }
    row("one by one, x25519-dalek", dalek);
}

fn print_parts(whole: f64, parts: &[f64]) {
    println!("\n| of a packet, batch {BATCH} | ns | share |");
    println!("| --- | ---: | ---: |");
    let row = |name: &str, cost: f64| {
        println!("| {name} | {cost:.0} | {:.1} % |", cost / whole * 100.0);
    };
    for (name, cost) in PARTS.iter().zip(parts) {
        row(name, *cost);
    }
    row("the rest", whole - parts.iter().sum::<f64>());
    row("whole", whole);
}
