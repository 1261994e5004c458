//! Whole packet tiles that speak with each other, and clients at their guard.
#![expect(clippy::unwrap_used, reason = "tests")]

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::packet::{BuiltPacket, HopKeys, PathHop, build, reply_block};
use cepa_crypto::x25519::{self, Backend};
use cepa_relay::packet::answers::answer_packets;
use cepa_relay::packet::batch::{Batch, DATAGRAM_SIZE_MAX};
use cepa_relay::packet::bucket::PacketRate;
use cepa_relay::packet::directory::{PacketDirectory, RelayEntry};
use cepa_relay::packet::drop_reason::DropReason;
use cepa_relay::packet::links::{LinkConfig, LinkEvent, LinkName, LinkPeer, LinkTable};
use cepa_relay::packet::relay::{Counted, PacketRelay, RelaySettings};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::packet::fragment::{Fragment, MessageId, MessageKind, fragments};
use cepa_wire::packet::geometry::CONTENT_SIZE;
use cepa_wire::packet::request::{AnswerEncoding, PacketAnswer, PacketRequest};
use cepa_wire::packet::{PacketBytes, RelayId};
use cepa_wire::{Ed25519PublicKey, Timestamp};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LENGTH: EpochLength = EpochLength::DAY;
/// What one relay may send another here: tests send as fast as they can.
const RATE: PacketRate = PacketRate {
    per_second: 1_000_000,
    burst: 10_000_000,
};

fn random(seed: u64) -> impl FnMut(&mut [u8]) + Send + 'static {
    let mut state = seed;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    }
}

const fn relay_id(number: u8) -> RelayId {
    RelayId([number; 16])
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 4000))
}

fn secret(number: u8) -> X25519SecretKey {
    X25519SecretKey::from_bytes([number; 32])
}

fn kem(number: u8) -> KemSecretKey {
    KemSecretKey::from_seed([number; 64])
}

fn directory_without(us: u8) -> PacketDirectory {
    let others = (1..=3).filter(|number| *number != us);
    PacketDirectory::new(others.map(|number| RelayEntry {
        id: relay_id(number),
        ed25519: Ed25519PublicKey([number; 32]),
        link: secret(number).public_key(),
        kem: Arc::new(*kem(number).public_key()),
        address: address(number),
    }))
}

struct Node {
    relay: PacketRelay,
    keys: HopKeys,
    counted: Arc<Counted>,
}

/// In `scalar.rs` these tests run as on a CPU without AVX-512 IFMA.
fn choose_backend() {
    if env!("CARGO_CRATE_NAME") == "scalar" {
        x25519::choose(Backend::Scalar).unwrap();
    }
}

impl Node {
    fn new(number: u8) -> Self {
        choose_backend();
        let counted = Arc::new(Counted::default());
        let mut draws = number;
        let draw = || {
            draws = draws.wrapping_add(50);
            [draws; 32]
        };
        let keys = HopKeys::new(
            relay_id(number),
            LENGTH,
            Duration::from_hours(1),
            START,
            draw,
        );
        let settings = RelaySettings {
            links: LinkConfig {
                relay_rate: RATE,
                client_rate: RATE,
                ..LinkConfig::default()
            },
            delayed_count_max: 8,
            request_count_max: 2,
            ..RelaySettings::default()
        };
        let replay = ReplayFilters::new(1 << 20, LENGTH.epoch_at(START), [number; 16]);
        let identity = LinkIdentity::relay(secret(number), kem(number));
        let mut relay = PacketRelay::new(
            settings,
            identity,
            Arc::new(replay),
            Arc::clone(&counted),
            START,
            random(number.into()),
        );
        relay.set_directory(START, &directory_without(number));
        Self {
            relay,
            keys,
            counted,
        }
    }

    fn hop(&self, number: u8, delay_ms: u32) -> PathHop {
        PathHop {
            relay: relay_id(number),
            key: self.keys.published().current,
            delay_ms,
        }
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counted.drops.count(reason)
    }

    /// Every packet is in one place.
    fn assert_balance(&self) {
        let [peeled, answered, forwarded, replied, delivered] = [
            "packet_peeled",
            "packet_answered",
            "packet_forwarded",
            "packet_replied",
            "packet_delivered",
        ]
        .map(|name| self.counted(name));
        // What links refuse, no packet was seen of.
        let behind = DropReason::ALL.iter().filter(|it| !it.is_of_link());
        let dropped: u64 = behind.map(|reason| self.dropped(*reason)).sum();
        let held = self.relay.held();
        let held = (held.waiting + held.queued) as u64;
        let ends = forwarded + replied + delivered + dropped + held;
        assert_eq!(peeled + answered, ends);
    }

    fn counted(&self, name: &str) -> u64 {
        let samples = self.counted.packets.snapshot();
        samples
            .iter()
            .find(|sample| sample.name().trim_end_matches("_total") == format!("cepa_{name}"))
            .unwrap()
            .recorded()
    }
}

type InFlight = (SocketAddr, SocketAddr, Vec<u8>);

/// Three relays and a client, whose datagrams all arrive.
struct World {
    nodes: Vec<Node>,
    client: LinkTable,
    /// What the client got.
    received: Vec<PacketBytes>,
    in_flight: Vec<InFlight>,
    now: Timestamp,
}

const CLIENT: u8 = 9;

impl World {
    fn new() -> Self {
        let identity = LinkIdentity::client(secret(CLIENT));
        let mut client = LinkTable::new(
            LinkConfig::default(),
            identity,
            START,
            random(CLIENT.into()),
        );
        client.set_peers(
            START,
            &[LinkPeer {
                relay: relay_id(1),
                link: secret(1).public_key(),
                kem: Box::new(*kem(1).public_key()),
                address: address(1),
            }],
        );
        Self {
            nodes: (1..=3).map(Node::new).collect(),
            client,
            received: Vec::new(),
            in_flight: Vec::new(),
            now: START,
        }
    }

    fn path(&self, hops: &[(u8, u32)]) -> Vec<PathHop> {
        let hop = |(number, delay): &(u8, u32)| {
            let node = &self.nodes[usize::from(*number) - 1];
            node.hop(*number, *delay)
        };
        hops.iter().map(hop).collect()
    }

    /// The client sends a packet to its guard.
    fn send(&mut self, packet: &BuiltPacket) {
        let mut datagram = [0; DATAGRAM_SIZE_MAX];
        let to = LinkName::Relay(packet.first);
        let sealed = self.client.seal(self.now, to, &packet.bytes, &mut datagram);
        if let cepa_relay::packet::links::Sealed::To(to) = sealed.unwrap() {
            self.in_flight.push((address(CLIENT), to, datagram.into()));
        }
    }

    /// Lets all that is under way arrive, until nothing is.
    fn settle(&mut self) {
        loop {
            self.transmit();
            if self.in_flight.is_empty() {
                return;
            }
            for (from, to, bytes) in core::mem::take(&mut self.in_flight) {
                self.deliver(from, to, bytes);
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, mut bytes: Vec<u8>) {
        if to == address(CLIENT) {
            match self.client.handle_datagram(self.now, from, &mut bytes) {
                LinkEvent::Packet { range, .. } => {
                    self.received.push(bytes[range].try_into().unwrap());
                }
                LinkEvent::Dropped(reason) => unreachable!("the client dropped: {reason:?}"),
                _ => {}
            }
            return;
        }
        let number = (1..=3).find(|number| address(*number) == to).unwrap();
        let mut batch = Batch::new(16);
        assert!(batch.push(from, &bytes));
        self.handle(number, &mut batch);
    }

    fn handle(&mut self, number: u8, batch: &mut Batch) {
        let node = &mut self.nodes[usize::from(number) - 1];
        node.relay.handle_batch(&node.keys, self.now, batch);
        for sent in batch.datagrams() {
            self.in_flight
                .push((address(number), sent.peer(), sent.bytes().into()));
        }
    }

    fn transmit(&mut self) {
        let mut datagram = [0; DATAGRAM_SIZE_MAX];
        while let Some(sent) = self.client.poll_transmit(self.now, &mut datagram) {
            let bytes = datagram[..sent.size].into();
            self.in_flight.push((address(CLIENT), sent.to, bytes));
        }
        let mut batch = Batch::new(3);
        for (number, node) in (1..).zip(&mut self.nodes) {
            node.relay.handle_timeout(&node.keys, self.now);
            loop {
                batch.clear();
                let is_all = node.relay.poll_transmit(self.now, &mut batch);
                for sent in batch.datagrams() {
                    let sent = (address(number), sent.peer(), sent.bytes().into());
                    self.in_flight.push(sent);
                }
                if is_all {
                    break;
                }
            }
        }
    }

    fn advance(&mut self, span: Duration) {
        self.now = self.now.saturating_add(span);
        self.settle();
    }
}

#[test]
fn a_request_is_answered_over_links_and_reply_blocks() {
    let mut world = World::new();
    let mut random = random(1);
    // The client learns its id with its link.
    let there = world.path(&[(1, 0), (2, 0), (3, 0)]);
    world.send(&build(&there, b"no fragment", &mut random).unwrap());
    world.settle();
    assert_eq!(world.nodes[2].dropped(DropReason::BadFragment), 1);
    let id = world.client.own_id_at(relay_id(1)).unwrap();

    let back = world.path(&[(2, 0), (1, 0)]);
    let (block, keys) = reply_block(&back, id, &mut random).unwrap();
    let request = PacketRequest::encode(&[block], "info", b"{}").unwrap();
    for content in fragments(MessageId([1; 16]), MessageKind::Request, &request).unwrap() {
        world.send(&build(&there, &content, &mut random).unwrap());
    }
    world.settle();
    let message = world.nodes[2].relay.poll_request().unwrap();
    let request = PacketRequest::parse(&message.bytes).unwrap();
    assert_eq!((request.method(), request.params()), ("info", &b"{}"[..]));

    let told = PacketAnswer::Body {
        status: 200,
        encoding: AnswerEncoding::Json,
        body: b"{\"version\":[2,11,0]}",
    };
    let mut batch = Batch::new(4);
    for packet in answer_packets(message.id, &request, &told) {
        world.nodes[2]
            .relay
            .send_answer(world.now, &packet, &mut batch);
    }
    for sent in batch.datagrams() {
        let sent = (address(3), sent.peer(), sent.bytes().into());
        world.in_flight.push(sent);
    }
    world.settle();
    let packet = world.received.pop().unwrap();
    let content = keys.open(&packet).unwrap();
    let fragment = Fragment::parse(&content).unwrap();
    assert_eq!(PacketAnswer::parse(fragment.data()), Ok(told));
    assert_eq!(world.nodes[0].counted("packet_replied"), 1);
    assert_eq!(world.nodes[1].counted("packet_forwarded"), 3);
    assert_eq!(world.nodes[2].counted("packet_delivered"), 1);
    assert_eq!(world.nodes[2].counted("packet_answered"), 1);
    for node in &world.nodes {
        node.assert_balance();
    }
}

#[test]
fn packets_wait_as_long_as_their_client_said() {
    let mut world = World::new();
    let mut random = random(2);
    let path = world.path(&[(1, 250), (2, 0)]);
    for _ in 0..10 {
        world.send(&build(&path, b"", &mut random).unwrap());
    }
    world.settle();
    assert_eq!(world.nodes[0].counted("packet_delayed"), 8);
    assert_eq!(world.nodes[0].dropped(DropReason::DelayWheelFull), 2);
    let due = world.nodes[0].relay.poll_timeout().unwrap();
    assert!(due <= START.saturating_add(Duration::from_millis(250)));
    world.advance(Duration::from_millis(249));
    assert_eq!(world.nodes[1].dropped(DropReason::BadFragment), 0);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.nodes[1].dropped(DropReason::BadFragment), 8);
    assert_eq!(world.nodes[0].counted("packet_waiting"), 0);
}

#[test]
fn what_is_bad_ends_in_its_own_counter() {
    let mut world = World::new();
    let mut random = random(3);
    let path = world.path(&[(1, 0), (2, 0)]);
    let good = build(&path, b"", &mut random).unwrap();
    world.send(&good);
    world.settle();
    // Seen before: at the guard, whatever link it comes by.
    world.send(&good);
    let mut changed = build(&path, b"", &mut random).unwrap();
    changed.bytes[40] ^= 1;
    world.send(&changed);
    let unknown = PathHop {
        relay: relay_id(77),
        ..world.path(&[(2, 0)])[0]
    };
    let to_nobody = [world.path(&[(1, 0)])[0], unknown];
    world.send(&build(&to_nobody, b"", &mut random).unwrap());
    let nobody = cepa_wire::packet::ClientId([8; 16]);
    let other = world.client.own_id_at(relay_id(1)).unwrap();
    for (client, path) in [
        (nobody, world.path(&[(1, 0)])),
        (other, world.path(&[(1, 0)])),
    ] {
        let (block, _) = reply_block(&path, client, &mut random).unwrap();
        world.send(&cepa_crypto::packet::answer(&block, b"").unwrap());
    }
    // By way of another relay it is anybody's.
    let around = world.path(&[(1, 0), (2, 0), (1, 0)]);
    let (block, _) = reply_block(&around, nobody, &mut random).unwrap();
    world.send(&cepa_crypto::packet::answer(&block, b"").unwrap());
    world.settle();
    assert!(world.received.is_empty());
    let guard = &world.nodes[0];
    for (reason, count) in [
        (DropReason::Replayed, 1),
        (DropReason::BadTag, 1),
        (DropReason::UnknownRelay, 1),
        (DropReason::UnknownClient, 1),
        (DropReason::ClientToClient, 2),
    ] {
        assert_eq!(guard.dropped(reason), count, "{reason:?}");
    }
    assert_eq!(guard.counted("packet_forwarded"), 2);
    // Garbage of any size reaches no packet.
    for size in [0, 1, 15, 16, 100, 1231, DATAGRAM_SIZE_MAX] {
        world.deliver(address(CLIENT), address(1), vec![4; size]);
    }
    let guard = &world.nodes[0];
    assert_eq!(guard.counted("packet_peeled"), 8);
    let malformed = guard.dropped(DropReason::MalformedFrame);
    assert_eq!(malformed + guard.dropped(DropReason::UnknownLink), 7);
}

#[test]
fn whole_requests_have_a_bound() {
    let mut world = World::new();
    let mut random = random(4);
    let path = world.path(&[(1, 0), (2, 0)]);
    for number in 0..3 {
        let id = MessageId([number; 16]);
        for content in fragments(id, MessageKind::Request, b"request").unwrap() {
            world.send(&build(&path, &content, &mut random).unwrap());
        }
    }
    world.settle();
    let terminal = &mut world.nodes[1];
    assert_eq!(terminal.dropped(DropReason::DeliverFull), 1);
    assert_eq!(terminal.counted("packet_delivered"), 2);
    terminal.assert_balance();
    assert_eq!(
        core::iter::from_fn(|| terminal.relay.poll_request()).count(),
        2
    );
}

#[test]
fn a_new_epoch_has_a_new_filter_and_keys_of_old_ones_open_nothing() {
    let mut world = World::new();
    let mut random = random(5);
    let path = world.path(&[(1, 0)]);
    let early = build(&path, &[0; CONTENT_SIZE], &mut random).unwrap();
    world.send(&early);
    world.settle();
    for day in 1..=3_u8 {
        world.now = START.saturating_add(Duration::from_hours(24 * u64::from(day) + 2));
        let node = &mut world.nodes[0];
        let mut draws = 100 + day;
        let draw = || {
            draws += 30;
            [draws; 32]
        };
        assert!(node.keys.handle_timeout(world.now, draw));
        // The grace period of the one before is over.
        node.keys.handle_timeout(world.now, || [0; 32]);
        for _ in 0..100 {
            node.relay.handle_timeout(&node.keys, world.now);
        }
        assert!(!node.relay.is_clearing());
        world.send(&early);
        let path = world.path(&[(1, 0)]);
        let fresh = build(&path, &[0; CONTENT_SIZE], &mut random).unwrap();
        world.send(&fresh);
        world.settle();
        world.send(&fresh);
        world.settle();
        let node = &world.nodes[0];
        assert_eq!(node.dropped(DropReason::BadTag), u64::from(day));
        assert_eq!(node.dropped(DropReason::Replayed), u64::from(day));
        assert_eq!(node.dropped(DropReason::WrongEpoch), 0);
        assert_eq!(node.dropped(DropReason::BadFragment), 1 + u64::from(day));
        node.assert_balance();
    }
}

#[test]
fn a_node_that_slept_for_epochs_takes_packets_again() {
    for days in 2..=5_u8 {
        let mut world = World::new();
        let mut random = random(days.into());
        // So far into the new epoch that keys of the one before are over, and of the next not yet taken.
        world.now = START.saturating_add(Duration::from_hours(24 * u64::from(days) + 2));
        let node = &mut world.nodes[0];
        let mut draws = 100;
        let draw = || {
            draws += 1;
            [draws; 32]
        };
        assert!(node.keys.handle_timeout(world.now, draw));
        for _ in 0..100 {
            node.relay.handle_timeout(&node.keys, world.now);
        }
        for copy in 0..2 {
            let path = world.path(&[(1, 0)]);
            let fresh = build(&path, &[copy; CONTENT_SIZE], &mut random).unwrap();
            for _ in 0..2 {
                world.send(&fresh);
                world.settle();
            }
        }
        let node = &world.nodes[0];
        assert_eq!(node.dropped(DropReason::WrongEpoch), 0, "{days} days");
        assert_eq!(node.dropped(DropReason::Replayed), 2);
    }
}

#[test]
fn a_clock_that_is_set_back_by_days_leaves_keys_and_filters_for_now() {
    let mut world = World::new();
    let mut random = random(8);
    let days = Duration::from_hours(24 * 5);
    let slept = START.saturating_add(days);
    for (now, ahead) in [(slept, Duration::ZERO), (slept, days)] {
        world.now = now;
        let node = &mut world.nodes[0];
        let mut draws = u8::from(ahead.is_zero()) + 100;
        let draw = || {
            draws += 2;
            [draws; 32]
        };
        let date = now.saturating_sub(ahead);
        node.relay.set_ahead(ahead);
        node.keys = HopKeys::new(relay_id(1), LENGTH, Duration::from_hours(1), date, draw);
        for _ in 0..100 {
            node.relay.handle_timeout(&node.keys, world.now);
        }
        let path = world.path(&[(1, 0)]);
        let fresh = build(&path, &[0; CONTENT_SIZE], &mut random).unwrap();
        for _ in 0..2 {
            world.send(&fresh);
            world.settle();
        }
    }
    let node = &world.nodes[0];
    assert_eq!(node.dropped(DropReason::BadFragment), 2);
    assert_eq!(node.dropped(DropReason::Replayed), 2);
}

#[test]
fn a_packet_that_waits_for_its_link_is_counted_when_it_goes_or_is_dropped() {
    let mut world = World::new();
    let mut random = random(6);
    let path = world.path(&[(1, 0), (2, 0), (3, 0)]);
    for _ in 0..3 {
        world.send(&build(&path, b"", &mut random).unwrap());
    }
    // The guard's datagrams to the next relay are lost.
    let relay = address(2);
    for second in 0..200 {
        world.now = START.saturating_add(Duration::from_secs(second));
        world.transmit();
        for (from, to, bytes) in core::mem::take(&mut world.in_flight) {
            if to != relay {
                world.deliver(from, to, bytes);
            }
        }
        let guard = &world.nodes[0];
        guard.assert_balance();
        assert_eq!(guard.counted("packet_forwarded"), 0);
        let held = guard.relay.held();
        let queued = guard.dropped(DropReason::LinkNotReady) + held.queued as u64;
        assert_eq!(queued, guard.counted("packet_peeled"));
    }
    let guard = &world.nodes[0];
    assert_eq!(guard.counted("packet_peeled"), 3);
    assert_eq!(guard.dropped(DropReason::LinkNotReady), 3);
    assert_eq!(guard.counted("packet_link_given_up"), 1);
    assert_eq!(guard.counted("packet_link_queued"), 0);
}
