//! A sequence of operations on two packet tiles and a client at one of them, and what strangers send: every
//! datagram and every packet is in one place, no request comes twice, what is held stays within its bounds, and
//! no timer is due again as soon as it was served.
#![no_main]

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::packet::{BuiltPacket, HopKeys, PathHop, answer, build, reply_block};
use cepa_relay::packet::answers::answer_packets;
use cepa_relay::packet::batch::Batch;
use cepa_relay::packet::directory::{PacketDirectory, RelayEntry};
use cepa_relay::packet::drop_reason::DropReason;
use cepa_relay::packet::links::{LinkConfig, LinkEvent, LinkName, LinkPeer, LinkTable, Sealed};
use cepa_relay::packet::relay::{Counted, PacketRelay, RelaySettings};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::packet::fragment::{MessageId, MessageKind, fragments};
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, FRAGMENT_COUNT_MAX};
use cepa_wire::packet::reassembler::ReassemblerLimits;
use cepa_wire::packet::request::{AnswerEncoding, PacketAnswer, PacketRequest};
use cepa_wire::packet::{ClientId, PacketBytes, RelayId};
use cepa_wire::{Ed25519PublicKey, Timestamp};
use libfuzzer_sys::fuzz_target;

/// In the middle of an epoch.
const START: Timestamp = Timestamp::from_millis(1_800_000_030_000);
const LENGTH: EpochLength = EpochLength::from_secs(60).unwrap();
const GRACE: Duration = Duration::from_secs(10);
/// Datagrams under way; more are lost.
const WIRE_COUNT_MAX: usize = 64;
const OPERATION_COUNT_MAX: usize = 120;
const CLIENT: u8 = 2;

fn settings() -> RelaySettings {
    RelaySettings {
        links: LinkConfig {
            relay_count_max: 4,
            client_count_max: 4,
            half_open_count_max: 4,
            queued_count_max: 6,
            ..LinkConfig::default()
        },
        delayed_count_max: 4,
        reassembler: ReassemblerLimits {
            message_count_max: 4,
            fragment_count_max: FRAGMENT_COUNT_MAX,
            finished_count_max: 64,
            timeout: Duration::from_secs(60),
        },
        request_count_max: 3,
    }
}

thread_local! {
    static KEMS: [KemSecretKey; 2] = [1, 2].map(|seed| KemSecretKey::from_seed([seed; 64]));
}

fn secret(number: u8) -> X25519SecretKey {
    X25519SecretKey::from_bytes([number + 1; 32])
}

fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 1).into()
}

fn id(number: u8) -> RelayId {
    RelayId([number; 16])
}

fn random(seed: u8) -> impl FnMut(&mut [u8]) + Send + 'static {
    let mut state = u64::from(seed);
    move |bytes| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    }
}

fn kem(number: u8) -> Box<[u8; 1184]> {
    KEMS.with(|kems| Box::new(*kems[usize::from(number)].public_key()))
}

struct Node {
    relay: PacketRelay,
    keys: HopKeys,
    counted: Arc<Counted>,
    /// Datagrams that were given to it.
    given: u64,
    /// Requests that it had.
    requests: BTreeSet<[u8; 16]>,
    draws: u8,
}

impl Node {
    fn new(number: u8) -> Self {
        let counted = Arc::new(Counted::default());
        let mut draws = 100 * (number + 1);
        let keys = HopKeys::new(id(number), LENGTH, GRACE, START, || {
            draws += 1;
            [draws; 32]
        });
        let kem = KemSecretKey::from_seed([number + 1; 64]);
        let relay = PacketRelay::new(
            settings(),
            LinkIdentity::relay(secret(number), kem),
            Arc::new(ReplayFilters::new(1 << 13, keys.epoch(), [number; 16])),
            Arc::clone(&counted),
            START,
            random(number),
        );
        let mut node = Self {
            relay,
            keys,
            counted,
            given: 0,
            requests: BTreeSet::new(),
            draws: 0,
        };
        node.set_directory(number, START, true);
        node
    }

    fn set_directory(&mut self, us: u8, now: Timestamp, is_full: bool) {
        let other = 1 - us;
        let entry = RelayEntry {
            id: id(other),
            ed25519: Ed25519PublicKey([other; 32]),
            link: secret(other).public_key(),
            kem: Arc::from(kem(other)),
            address: address(other),
        };
        let directory = PacketDirectory::new(is_full.then_some(entry));
        self.relay.set_directory(now, &directory);
    }

    fn handle_keys(&mut self, now: Timestamp) {
        let draws = &mut self.draws;
        self.keys.handle_timeout(now, || {
            *draws = draws.wrapping_add(1);
            [*draws; 32]
        });
    }

    /// Every datagram and every packet is in one place, and nothing grows.
    fn check(&self) {
        let counters = &self.counted.packets;
        let drops = &self.counted.drops;
        let dropped = |is_of_link: bool| -> u64 {
            let reasons = DropReason::ALL.iter();
            let reasons = reasons.filter(|reason| reason.is_of_link() == is_of_link);
            reasons.map(|reason| drops.count(*reason)).sum()
        };
        let held = self.relay.held();
        let waiting = (held.waiting + held.queued) as u64;
        let peeled = counters.peeled.load(Relaxed);
        let taken = peeled + counters.link_messages.load(Relaxed) + dropped(true);
        assert_eq!(self.given, taken);
        let ends = [&counters.forwarded, &counters.replied, &counters.delivered];
        let ends: u64 = ends.iter().map(|counter| counter.load(Relaxed)).sum();
        let packets = peeled + counters.answered.load(Relaxed);
        assert_eq!(packets, ends + dropped(false) + waiting);
        assert!(held.waiting <= 4 && held.queued <= 6 && held.requests <= 3);
        // Five peers, each with three pairs of keys and a handshake, and what is half open.
        assert!(held.link_entries <= 5 * 4 + 4);
    }
}

struct World {
    nodes: [Node; 2],
    client: LinkTable,
    wire: VecDeque<(u8, SocketAddr, Vec<u8>)>,
    now: Timestamp,
    random: Box<dyn FnMut(&mut [u8])>,
    message_count: u8,
}

impl World {
    fn new() -> Self {
        let identity = LinkIdentity::client(secret(CLIENT));
        let mut client = LinkTable::new(settings().links, identity, START, random(CLIENT));
        let guard = LinkPeer {
            relay: id(0),
            link: secret(0).public_key(),
            kem: kem(0),
            address: address(0),
        };
        client.set_peers(START, &[guard]);
        Self {
            nodes: [0, 1].map(Node::new),
            client,
            wire: VecDeque::new(),
            now: START,
            random: Box::new(random(77)),
            message_count: 0,
        }
    }

    fn push(&mut self, from: u8, to: SocketAddr, bytes: &[u8]) {
        if self.wire.len() < WIRE_COUNT_MAX {
            self.wire.push_back((from, to, bytes.to_vec()));
        }
    }

    fn push_batch(&mut self, from: u8, batch: &Batch) {
        for datagram in batch.datagrams() {
            self.push(from, datagram.peer(), datagram.bytes());
        }
    }

    fn poll(&mut self) {
        let mut out = [0; DATAGRAM_SIZE];
        while let Some(sent) = self.client.poll_transmit(self.now, &mut out) {
            self.push(CLIENT, sent.to, &out[..sent.size]);
        }
        let mut batch = Batch::new(3);
        for number in 0..2 {
            loop {
                batch.clear();
                let relay = &mut self.nodes[usize::from(number)].relay;
                let is_all = relay.poll_transmit(self.now, &mut batch);
                self.push_batch(number, &batch);
                if is_all {
                    break;
                }
            }
        }
    }

    fn deliver(&mut self, datagrams: Vec<(u8, SocketAddr, Vec<u8>)>) {
        let mut batch = Batch::new(16);
        for number in 0..2 {
            batch.clear();
            let for_it = datagrams.iter().filter(|(_, to, _)| *to == address(number));
            for (from, _, bytes) in for_it {
                self.nodes[usize::from(number)].given +=
                    u64::from(batch.push(address(*from), bytes));
            }
            let node = &mut self.nodes[usize::from(number)];
            let count = batch.len();
            node.relay.handle_batch(&node.keys, self.now, &mut batch);
            assert!(batch.len() <= count);
            self.push_batch(number, &batch);
        }
        for (from, to, mut bytes) in datagrams {
            if to == address(CLIENT) {
                let event = self
                    .client
                    .handle_datagram(self.now, address(from), &mut bytes);
                if let LinkEvent::Reply { size } = event {
                    self.push(CLIENT, address(from), &bytes[..size]);
                }
            }
        }
    }

    fn path(&self, relays: &[u8], delay_ms: u32) -> Vec<PathHop> {
        let hop = |number: &u8| {
            let node = &self.nodes[usize::from(*number).min(1)];
            let published = node.keys.published();
            let is_next = LENGTH.epoch_at(self.now) > published.epoch;
            PathHop {
                relay: id(*number),
                key: if is_next {
                    published.next
                } else {
                    published.current
                },
                delay_ms,
            }
        };
        relays.iter().map(hop).collect()
    }

    /// A packet of the client: a request by some path, or one for a client.
    fn packet(&mut self, argument: u8) -> Option<BuiltPacket> {
        let delay_ms = [0, 0, 1, 700, 60_000, 60_001][usize::from(argument / 16 % 6)];
        let paths: [&[u8]; 8] = [
            &[0, 1],
            &[0, 1],
            &[0],
            &[0, 1, 0],
            &[0, 9],
            &[0, 0],
            &[0, 1, 0],
            &[0],
        ];
        let kind = argument % 8;
        let path = self.path(paths[usize::from(kind)], delay_ms);
        let us = self.client.own_id_at(id(0)).unwrap_or(ClientId([8; 16]));
        if kind >= 6 {
            let (block, _) = reply_block(&path, us, &mut self.random).ok()?;
            return answer(&block, b"").ok();
        }
        self.message_count += 1;
        let back: &[u8] = if argument < 128 { &[0] } else { &[1, 0] };
        let back = self.path(back, 0);
        let (block, _) = reply_block(&back, us, &mut self.random).ok()?;
        let request = PacketRequest::encode(&[block], "info", b"").ok()?;
        let name = MessageId([self.message_count; 16]);
        let content = fragments(name, MessageKind::Request, &request)
            .ok()?
            .next()?;
        build(&path, &content, &mut self.random).ok()
    }

    fn send(&mut self, packet: &PacketBytes) {
        let mut out = [0; DATAGRAM_SIZE];
        let sealed = self
            .client
            .seal(self.now, LinkName::Relay(id(0)), packet, &mut out);
        if let Ok(Sealed::To(to)) = sealed {
            self.push(CLIENT, to, &out);
        }
    }

    /// Answers what waits at a node.
    fn answer(&mut self, number: u8) {
        let mut batch = Batch::new(2);
        let node = &mut self.nodes[usize::from(number)];
        while let Some(message) = node.relay.poll_request() {
            assert!(node.requests.insert(message.id.0), "a request came twice");
            let Ok(request) = PacketRequest::parse(&message.bytes) else {
                node.relay.refuse_request();
                continue;
            };
            let told = PacketAnswer::Body {
                status: 200,
                encoding: AnswerEncoding::Raw,
                body: b"answer",
            };
            for packet in answer_packets(message.id, &request, &told) {
                node.relay.send_answer(self.now, &packet, &mut batch);
            }
        }
        self.push_batch(number, &batch);
    }

    fn handle_timeouts(&mut self) {
        self.client.handle_timeout(self.now);
        for node in &mut self.nodes {
            node.relay.handle_timeout(&node.keys, self.now);
        }
        self.poll();
        for node in &self.nodes {
            assert!(node.relay.poll_timeout().is_none_or(|due| due > self.now));
        }
    }

    fn step(&mut self, operation: u8, argument: u8, rest: &[u8]) {
        let at = usize::from(argument) % self.wire.len().max(1);
        match operation % 12 {
            0 | 1 => {
                if let Some(mut packet) = self.packet(argument) {
                    if operation > 200 {
                        let bytes = packet.bytes.iter_mut().skip(at * 7);
                        bytes
                            .zip(rest)
                            .take(2)
                            .for_each(|(byte, change)| *byte ^= change);
                    }
                    self.send(&packet.bytes);
                }
            }
            2 => self.deliver(self.wire.get(at).cloned().into_iter().collect()),
            3 | 4 => {
                let count = self.wire.len().min(usize::from(argument % 16) + 1);
                let datagrams = self.wire.drain(..count).collect();
                self.deliver(datagrams);
            }
            5 => {
                if let Some((from, to, mut bytes)) = self.wire.remove(at) {
                    let changed = bytes.iter_mut().skip(at).zip(rest.iter().take(4));
                    changed.for_each(|(byte, change)| *byte ^= change);
                    self.deliver(vec![(from, to, bytes)]);
                }
            }
            6 => {
                // Up to half a year.
                let millis = 1_u64 << (argument % 35);
                self.now = self.now.saturating_add(Duration::from_millis(millis));
                self.handle_timeouts();
            }
            7 => {
                let now = self.now;
                self.nodes.iter_mut().for_each(|node| node.handle_keys(now));
                (0..argument % 4).for_each(|_| self.handle_timeouts());
            }
            8 if argument % 4 == 0 => {
                let (us, is_full) = (argument / 4 % 2, argument / 8 % 2 == 0);
                self.nodes[usize::from(us)].set_directory(us, self.now, is_full);
            }
            8 | 9 => self.answer(argument % 2),
            10 => {
                let millis = 1_u64 << (argument % 20);
                self.now = self.now.saturating_sub(Duration::from_millis(millis));
            }
            _ => {
                let bytes = rest[..rest.len().min(DATAGRAM_SIZE + 1)].to_vec();
                self.deliver(vec![(argument, address(argument % 3), bytes)]);
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut world = World::new();
    for (nth, pair) in input.chunks_exact(2).take(OPERATION_COUNT_MAX).enumerate() {
        world.poll();
        world.step(pair[0], pair[1], &input[2 * nth + 2..]);
        world.nodes.iter().for_each(Node::check);
    }
});
