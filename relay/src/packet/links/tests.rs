//! Tables that speak with each other over a network that loses, doubles and delays.

mod properties;
mod strangers;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, REJECT_AFTER, REKEY_AFTER};
use cepa_wire::packet::PacketBytes;
use cepa_wire::packet::geometry::{DATAGRAM_SIZE, LINK_HEADER_SIZE};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn random(seed: u64) -> impl FnMut(&mut [u8]) + Send + 'static {
    let mut state = seed;
    move |bytes| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_be_bytes()[0];
        }
    }
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(number).unwrap()], 40_000))
}

const fn relay_id(number: u8) -> RelayId {
    RelayId([number; 16])
}

fn secret(number: u8) -> X25519SecretKey {
    X25519SecretKey::from_bytes([number + 1; 32])
}

fn kem(number: u8) -> KemSecretKey {
    KemSecretKey::from_seed([number + 1; 64])
}

fn link_peer(number: u8) -> LinkPeer {
    LinkPeer {
        relay: relay_id(number),
        link: secret(number).public_key(),
        kem: Box::new(*kem(number).public_key()),
        address: address(number.into()),
    }
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct Node {
    table: LinkTable,
    address: SocketAddr,
    packets: Vec<(LinkName, PacketBytes)>,
    established: usize,
    dropped: Vec<DropReason>,
}

struct World {
    nodes: Vec<Node>,
    wire: VecDeque<Datagram>,
    /// Who sends and hears nothing.
    unplugged: Option<SocketAddr>,
    now: Timestamp,
}

impl World {
    /// Relays that know each other, and clients that know the first of them.
    fn new(relay_count: u8, client_count: u8, config: LinkConfig) -> Self {
        let peers: Vec<_> = (0..relay_count).map(link_peer).collect();
        let nodes = (0..relay_count + client_count).map(|number| {
            let is_relay = number < relay_count;
            let identity = if is_relay {
                LinkIdentity::relay(secret(number), kem(number))
            } else {
                LinkIdentity::client(secret(number))
            };
            let mut table = LinkTable::new(config, identity, START, random(number.into()));
            table.set_peers(START, if is_relay { &peers } else { &peers[..1] });
            Node {
                table,
                address: address(number.into()),
                packets: Vec::new(),
                established: 0,
                dropped: Vec::new(),
            }
        });
        Self {
            nodes: nodes.collect(),
            wire: VecDeque::new(),
            unplugged: None,
            now: START,
        }
    }

    fn send(&mut self, from: usize, to: LinkName, byte: u8) -> Result<Sealed, DropReason> {
        let mut out = [0; DATAGRAM_SIZE];
        let node = &mut self.nodes[from];
        let sealed = node.table.seal(self.now, to, &[byte; 1200], &mut out);
        if let Ok(Sealed::To(to)) = sealed {
            self.wire.push_back(Datagram {
                from: node.address,
                to,
                bytes: out.to_vec(),
            });
        }
        sealed
    }

    /// Takes what the tables want to send.
    fn poll(&mut self) {
        let mut out = [0; DATAGRAM_SIZE];
        for node in &mut self.nodes {
            while let Some(Transmit { to, size }) = node.table.poll_transmit(self.now, &mut out) {
                self.wire.push_back(Datagram {
                    from: node.address,
                    to,
                    bytes: out[..size].to_vec(),
                });
            }
        }
    }

    /// Delivers a datagram that was taken from the wire.
    fn deliver(&mut self, datagram: &Datagram) {
        if [datagram.from, datagram.to]
            .map(Some)
            .contains(&self.unplugged)
        {
            return;
        }
        let mut bytes = datagram.bytes.clone();
        let to = self.nodes.iter_mut().find(|it| it.address == datagram.to);
        let Some(node) = to else { return };
        let table = &mut node.table;
        match table.handle_datagram(self.now, datagram.from, &mut bytes) {
            LinkEvent::Packet { link, range } => {
                assert_eq!(range.start, LINK_HEADER_SIZE);
                node.packets.push((link, bytes[range].try_into().unwrap()));
            }
            LinkEvent::Reply { size } => {
                assert!(size < datagram.bytes.len());
                self.wire.push_back(Datagram {
                    from: datagram.to,
                    to: datagram.from,
                    bytes: bytes[..size].to_vec(),
                });
            }
            LinkEvent::Established { .. } => node.established += 1,
            LinkEvent::Taken => {}
            LinkEvent::Dropped(reason) => node.dropped.push(reason),
        }
    }

    /// Delivers until nothing is under way.
    fn settle(&mut self) {
        self.poll();
        while let Some(datagram) = self.wire.pop_front() {
            self.deliver(&datagram);
            self.poll();
        }
    }

    /// Lets time go by; `step` is what happens at each timer.
    fn advance_with(&mut self, span: Duration, mut step: impl FnMut(&mut Self)) {
        let end = self.now.saturating_add(span);
        loop {
            let timers = self.nodes.iter().filter_map(|it| it.table.poll_timeout());
            let next = timers.min().unwrap_or(end).clamp(self.now, end);
            self.now = next;
            for node in &mut self.nodes {
                node.table.handle_timeout(next);
            }
            step(self);
            if next == end {
                return;
            }
        }
    }

    fn advance(&mut self, span: Duration) {
        self.advance_with(span, Self::settle);
    }

    fn relay(number: u8) -> LinkName {
        LinkName::Relay(relay_id(number))
    }

    /// The bytes that a node's packets are filled with.
    fn bytes_at(&self, number: usize) -> Vec<u8> {
        let packets = self.nodes[number].packets.iter();
        packets.map(|(_, packet)| packet[0]).collect()
    }
}

fn world(relay_count: u8, client_count: u8) -> World {
    World::new(relay_count, client_count, LinkConfig::default())
}

#[test]
fn a_packet_opens_a_link_that_serves_both_ways() {
    let mut world = world(2, 0);
    for byte in 0..5 {
        assert_eq!(world.send(0, World::relay(1), byte), Ok(Sealed::Queued));
    }
    world.settle();
    assert_eq!(world.bytes_at(1), [0, 1, 2, 3, 4]);
    assert!(world.nodes[1].packets[0].0 == World::relay(0));
    assert_eq!(world.nodes[0].established, 1);
    assert_eq!(
        world.send(1, World::relay(0), 9),
        Ok(Sealed::To(address(0)))
    );
    world.settle();
    assert_eq!(world.bytes_at(0), [9]);
    for node in &world.nodes {
        assert_eq!(node.table.entry_count(), 1);
        assert_eq!(node.dropped, []);
        assert_eq!(
            (node.table.stats().half_open, node.table.stats().queued),
            (0, 0)
        );
        assert_eq!(node.table.stats().computed, 1);
    }
}

/// What the documentation of [`LinkConfig`] says.
#[test]
fn a_link_has_no_more_memory_than_told() {
    fn is_send<T: Send>() {}
    is_send::<LinkTable>();
    let keys = size_of::<cepa_crypto::link::LinkKeys>();
    let link = 3 * (keys + size_of::<Entry>()) + size_of::<Option<Peer>>();
    assert!(link < 6 * 1024, "{link}, keys {keys}");
}

#[test]
fn unknown_names_are_told() {
    let mut world = world(2, 0);
    let unknown = world.send(0, World::relay(7), 0);
    assert_eq!(unknown, Err(DropReason::UnknownRelay));
    // We ourselves are no peer.
    assert_eq!(
        world.send(0, World::relay(0), 0),
        Err(DropReason::UnknownRelay)
    );
    let client = LinkName::Client(ClientId([0; 16]));
    assert_eq!(world.send(0, client, 0), Err(DropReason::UnknownClient));
}

#[test]
fn a_client_holds_its_link_open_and_keeps_its_id() {
    let mut world = world(1, 1);
    world.settle();
    let id = world.nodes[1].table.own_id_at(relay_id(0)).unwrap();
    let client = LinkName::Client(id);
    assert_eq!(world.nodes[0].table.stats().clients, 1);
    assert_eq!(world.send(0, client, 1), Ok(Sealed::To(address(1))));
    world.advance(Duration::from_mins(30));
    assert_eq!(world.send(0, client, 2), Ok(Sealed::To(address(1))));
    world.settle();
    assert_eq!(world.bytes_at(1), [1, 2]);
    let stats = world.nodes[0].table.stats();
    assert_eq!((stats.clients, stats.half_open), (1, 0));
    // One handshake each two minutes.
    assert!((14..=16).contains(&stats.computed), "{}", stats.computed);
    assert_eq!(world.nodes[0].dropped, []);
    // It goes away: it is forgotten when its keys are over, and knows its id when it comes back.
    world.unplugged = Some(address(1));
    world.advance(REJECT_AFTER + Duration::from_secs(1));
    assert_eq!(world.nodes[0].table.stats().clients, 0);
    assert_eq!(world.send(0, client, 3), Err(DropReason::UnknownClient));
    world.unplugged = None;
    world.advance(REJECT_AFTER);
    assert!(world.nodes[1].table.own_id_at(relay_id(0)) == Some(id));
    assert_eq!(world.send(0, client, 4), Ok(Sealed::To(address(1))));
}

#[test]
fn a_client_roams_with_its_newest_frame() {
    let mut world = world(1, 1);
    world.settle();
    let client = LinkName::Client(world.nodes[1].table.own_id_at(relay_id(0)).unwrap());
    world.send(1, World::relay(0), 1).unwrap();
    let old = world.wire.pop_front().unwrap();
    world.nodes[1].address = address(50);
    world.send(1, World::relay(0), 2).unwrap();
    world.settle();
    assert_eq!(world.send(0, client, 3), Ok(Sealed::To(address(50))));
    // An older frame, and a forged one, come from elsewhere: nothing changes.
    world.deliver(&old);
    assert_eq!(world.bytes_at(0), [2, 1]);
    let mut forged = world.wire.pop_front().unwrap();
    forged.to = address(0);
    forged.from = address(51);
    world.deliver(&forged);
    assert_eq!(world.send(0, client, 4), Ok(Sealed::To(address(50))));
    // A relay stays where the view says.
    let mut world = self::world(2, 0);
    world.send(0, World::relay(1), 1).unwrap();
    world.settle();
    world.nodes[0].address = address(52);
    world.send(0, World::relay(1), 1).unwrap();
    world.settle();
    assert_eq!(
        world.send(1, World::relay(0), 1),
        Ok(Sealed::To(address(0)))
    );
}

#[test]
fn keys_are_renewed_under_traffic_without_a_loss() {
    let mut world = world(2, 0);
    let mut sent = [0_u64; 2];
    world.send(0, World::relay(1), 0).unwrap();
    world.settle();
    for round in 0..1000_u64 {
        world.now = world.now.saturating_add(Duration::from_secs(1));
        for (from, to) in [(0, 1), (1, 0)] {
            if round % 3 == from as u64 {
                continue;
            }
            let sealed = world.send(from, World::relay(to), 7).unwrap();
            assert!(matches!(sealed, Sealed::To(_)), "{round}");
            sent[from] += 1;
        }
        // What is under way during a handshake comes after it.
        let held = world.wire.pop_front();
        world.settle();
        if let Some(held) = held {
            world.deliver(&held);
        }
        for node in &mut world.nodes {
            node.table.handle_timeout(world.now);
            assert!(node.table.entry_count() <= 4);
        }
    }
    assert_eq!(world.nodes[1].packets.len() as u64, sent[0] + 1);
    assert_eq!(world.nodes[0].packets.len() as u64, sent[1]);
    for node in &world.nodes {
        assert_eq!(node.dropped, []);
        assert!(node.table.stats().computed >= 8);
    }
    // And nobody speaks any more: nothing is left.
    world.advance(REJECT_AFTER);
    for node in &world.nodes {
        assert_eq!(node.table.entry_count(), 0);
        assert!(!node.table.is_linked(World::relay(0)));
        assert_eq!(node.table.poll_timeout(), None);
    }
}

#[test]
fn both_begin_at_once() {
    let mut world = world(2, 0);
    world.send(0, World::relay(1), 1).unwrap();
    world.send(1, World::relay(0), 2).unwrap();
    world.settle();
    assert_eq!((world.bytes_at(1), world.bytes_at(0)), (vec![1], vec![2]));
    for (from, to) in [(0, 1), (1, 0)] {
        for _ in 0..3 {
            let sealed = world.send(from, World::relay(to), 3);
            assert!(matches!(sealed, Ok(Sealed::To(_))));
            world.settle();
        }
    }
    assert_eq!((world.bytes_at(1).len(), world.bytes_at(0).len()), (4, 4));
    world.advance(HALF_OPEN_MAX);
    for node in &world.nodes {
        assert_eq!(node.table.stats().half_open, 0);
        assert!(node.table.entry_count() <= 3);
    }
    world.advance(REKEY_AFTER);
    assert!(world.send(0, World::relay(1), 3).is_ok());
}

#[test]
fn what_waits_is_bounded_and_given_up() {
    let config = LinkConfig {
        queued_count_max: 40,
        ..LinkConfig::default()
    };
    let mut world = World::new(3, 0, config);
    // Nobody is there.
    world.nodes[1].address = address(98);
    world.nodes[2].address = address(99);
    let sent = |world: &mut World, to| {
        let sent = (0..100).filter(|_| world.send(0, World::relay(to), 1).is_ok());
        sent.count()
    };
    assert_eq!(sent(&mut world, 1), QUEUE_COUNT_MAX);
    assert_eq!(sent(&mut world, 2), 8);
    assert_eq!(
        world.send(0, World::relay(2), 1),
        Err(DropReason::LinkNotReady)
    );
    world.poll();
    let mut initiations = world.wire.drain(..).count();
    world.advance_with(Duration::from_mins(2), |world| {
        world.poll();
        initiations += world.wire.drain(..).count();
    });
    assert_eq!(initiations, 2 * ATTEMPT_COUNT_MAX as usize);
    let stats = world.nodes[0].table.stats();
    assert_eq!((stats.given_up, stats.dropped, stats.queued), (2, 40, 0));
    assert_eq!(world.nodes[0].table.entry_count(), 0);
    // It is tried again when there is something to send.
    world.nodes[1].address = address(1);
    world.send(0, World::relay(1), 5).unwrap();
    world.settle();
    assert_eq!(world.bytes_at(1), [5]);
}

#[test]
fn views_change() {
    let mut world = world(3, 0);
    world.send(0, World::relay(1), 1).unwrap();
    world.send(0, World::relay(2), 1).unwrap();
    world.settle();
    // The first moves, the second is gone, and one has our key.
    let mut moved = link_peer(1);
    moved.address = address(60);
    let mut twin = link_peer(2);
    twin.link = secret(1).public_key();
    let table = &mut world.nodes[0].table;
    table.set_peers(world.now, &[moved.clone(), link_peer(0), twin]);
    assert_eq!(
        world.send(0, World::relay(1), 2),
        Ok(Sealed::To(address(60)))
    );
    assert_eq!(
        world.send(0, World::relay(2), 2),
        Err(DropReason::UnknownRelay)
    );
    assert_eq!(world.nodes[0].table.entry_count(), 1);
    // Another key is another link.
    moved.link = secret(9).public_key();
    world.nodes[0].table.set_peers(world.now, &[moved]);
    assert_eq!(world.nodes[0].table.entry_count(), 0);
    assert_eq!(world.send(0, World::relay(1), 2), Ok(Sealed::Queued));
    world.nodes[0].table.set_peers(world.now, &[]);
    let table = &mut world.nodes[0].table;
    assert_eq!((table.entry_count(), table.stats().queued), (0, 0));
    assert_eq!(
        table.poll_transmit(world.now, &mut [0; DATAGRAM_SIZE]),
        None
    );
    assert_eq!(table.poll_timeout(), None);
    // No more than the table is for.
    let config = LinkConfig {
        relay_count_max: 2,
        ..LinkConfig::default()
    };
    let identity = LinkIdentity::client(secret(77));
    let mut table = LinkTable::new(config, identity, START, random(1));
    let peers: Vec<_> = (0..5).map(link_peer).collect();
    table.set_peers(START, &peers);
    assert_eq!((table.relays.len(), table.relay_keys.len()), (2, 2));
}

#[test]
fn a_link_sends_no_more_than_its_rate() {
    let rate = PacketRate {
        per_second: 10,
        burst: 5,
    };
    let config = LinkConfig {
        client_rate: rate,
        ..LinkConfig::default()
    };
    let mut world = World::new(1, 1, config);
    world.settle();
    for _ in 0..20 {
        world.send(1, World::relay(0), 1).unwrap();
    }
    world.settle();
    assert_eq!(world.bytes_at(0).len(), 5);
    assert_eq!(world.nodes[0].dropped, [DropReason::RateLimited; 15]);
    world.now = world.now.saturating_add(Duration::from_millis(200));
    for _ in 0..20 {
        world.send(1, World::relay(0), 1).unwrap();
    }
    world.settle();
    assert_eq!(world.bytes_at(0).len(), 7);
}
