//! What strangers send, and what it costs.

use cepa_crypto::link::{INITIATION_SIZE, KEEP_ALIVE_SIZE, RESPONSE_SIZE};

use super::*;

/// The first datagram of a handshake of node 0 with node 1.
fn initiation(world: &mut World) -> Datagram {
    world.send(0, World::relay(1), 1).unwrap();
    world.poll();
    let datagram = world.wire.pop_front().unwrap();
    assert_eq!(datagram.bytes.len(), INITIATION_SIZE);
    datagram
}

fn few(per_second: u32) -> LinkConfig {
    LinkConfig {
        handshake_rate: PacketRate {
            per_second,
            burst: per_second,
        },
        ..LinkConfig::default()
    }
}

#[test]
fn a_replayed_initiation_is_refused() {
    let mut world = world(2, 0);
    let first = initiation(&mut world);
    world.deliver(&first);
    world.settle();
    assert_eq!(world.bytes_at(1), [1]);
    let before = world.nodes[1].table.entry_count();
    world.deliver(&first);
    assert_eq!(world.nodes[1].dropped, [DropReason::HandshakeReplayed]);
    assert_eq!(world.nodes[1].table.entry_count(), before);
    // A second answer comes to nobody.
    assert_eq!(world.wire.len(), 0);
    assert!(matches!(
        world.send(1, World::relay(0), 2),
        Ok(Sealed::To(_))
    ));
    world.settle();
    assert_eq!(world.bytes_at(0), [2]);
}

#[test]
fn any_changed_message_leaves_everything_as_it_was() {
    let mut world = world(2, 0);
    let first = initiation(&mut world);
    let flipped = |datagram: &Datagram, bit: usize| {
        let mut bytes = datagram.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Datagram { bytes, ..*datagram }
    };
    for bit in 0..INITIATION_SIZE * 8 {
        world.deliver(&flipped(&first, bit));
    }
    let node = &mut world.nodes[1];
    assert_eq!(
        core::mem::take(&mut node.dropped).len(),
        INITIATION_SIZE * 8
    );
    assert_eq!(
        (node.table.stats().computed, node.table.entry_count()),
        (0, 0)
    );
    assert!(world.wire.is_empty());
    world.deliver(&first);
    let response = world.wire.pop_front().unwrap();
    assert_eq!(response.bytes.len(), RESPONSE_SIZE);
    for bit in 0..RESPONSE_SIZE * 8 {
        world.deliver(&flipped(&response, bit));
    }
    let node = &mut world.nodes[0];
    assert_eq!(core::mem::take(&mut node.dropped).len(), RESPONSE_SIZE * 8);
    assert_eq!(
        (node.table.stats().computed, node.table.entry_count()),
        (0, 1)
    );
    world.deliver(&response);
    world.poll();
    let frame = world.wire.pop_front().unwrap();
    for bit in 0..DATAGRAM_SIZE * 8 {
        world.deliver(&flipped(&frame, bit));
    }
    let node = &mut world.nodes[1];
    assert_eq!(core::mem::take(&mut node.dropped).len(), DATAGRAM_SIZE * 8);
    // Still half open: no frame has come.
    assert_eq!(node.table.stats().half_open, 1);
    assert!(!node.table.is_linked(World::relay(0)));
    world.deliver(&frame);
    assert_eq!(world.bytes_at(1), [1]);
    world.deliver(&frame);
    assert_eq!(world.nodes[1].dropped, [DropReason::LinkReplayed]);
}

#[test]
fn garbage_costs_no_diffie_hellman_and_changes_nothing() {
    let mut world = world(2, 1);
    world.send(0, World::relay(1), 1).unwrap();
    world.settle();
    let before: Vec<_> = world.nodes.iter().map(|it| it.table.stats()).collect();
    let mut fill = random(7);
    let sizes = [
        0,
        15,
        16,
        KEEP_ALIVE_SIZE,
        80,
        RESPONSE_SIZE,
        1231,
        1232,
        1233,
    ];
    for round in 0..20_000_usize {
        let mut bytes = vec![0; sizes[round % sizes.len()]];
        fill(&mut bytes);
        if let Some(first) = bytes.first_mut().filter(|_| round % 7 != 0) {
            *first = u8::try_from(round % 6).unwrap();
        }
        if bytes.len() >= 16 && round % 5 != 0 {
            bytes[1..4].fill(0);
            bytes[1] = u8::from(bytes[0] == 4);
            // Numbers that are in use.
            bytes[4..8].copy_from_slice(&u32::try_from(round % 3).unwrap().to_le_bytes());
            bytes[8..16].fill(0);
        }
        world.deliver(&Datagram {
            from: address(round % 200),
            to: address(round % 3),
            bytes,
        });
    }
    assert!(world.wire.is_empty());
    for (node, before) in world.nodes.iter().zip(before) {
        assert_eq!(node.table.stats(), before);
    }
    assert!(matches!(
        world.send(0, World::relay(1), 2),
        Ok(Sealed::To(_))
    ));
    world.settle();
    assert_eq!(world.bytes_at(1), [1, 2]);
}

#[test]
fn under_load_a_cookie_is_asked_for_and_taken() {
    let mut world = World::new(2, 3, few(1));
    world.settle();
    // All clients came through, most by showing that they are where they say.
    let stats = world.nodes[0].table.stats();
    assert_eq!((stats.clients, stats.cookies), (3, 2));
    assert_eq!(stats.computed, 3);
    for node in &world.nodes[2..] {
        assert!(node.table.is_linked(World::relay(0)));
    }
    assert_eq!(world.nodes[0].dropped, []);
    // Somebody who sends from another's address gets nothing computed.
    let datagram = initiation_of_client(&mut world);
    let computed = world.nodes[0].table.stats().computed;
    for number in 0..100 {
        world.deliver(&Datagram {
            from: address(100 + number),
            to: address(0),
            bytes: datagram.bytes.clone(),
        });
    }
    assert_eq!(world.nodes[0].table.stats().computed, computed);
    assert_eq!(world.nodes[0].table.stats().cookies, 102);
}

/// A fresh initiation of a client that the guard has not seen.
fn initiation_of_client(world: &mut World) -> Datagram {
    let identity = LinkIdentity::client(secret(200));
    let mut table = LinkTable::new(LinkConfig::default(), identity, world.now, random(200));
    table.set_peers(world.now, &[link_peer(0)]);
    let mut out = [0; DATAGRAM_SIZE];
    let transmit = table.poll_transmit(world.now, &mut out).unwrap();
    Datagram {
        from: address(70),
        to: transmit.to,
        bytes: out[..transmit.size].to_vec(),
    }
}

#[test]
fn one_prefix_does_not_get_all_handshakes() {
    let mut world = world(1, 0);
    let mut clients: Vec<_> = (100..200)
        .map(|number| {
            let identity = LinkIdentity::client(secret(number));
            let table = LinkTable::new(LinkConfig::default(), identity, START, random(9));
            (table, [0; DATAGRAM_SIZE])
        })
        .collect();
    // Nothing is left of the common budget: a cookie each, and then the prefix counts.
    world.nodes[0].table.limits = HandshakeLimits::new(few(0).handshake_rate, START);
    let mut events = (0, 0);
    for (table, out) in &mut clients {
        table.set_peers(START, &[link_peer(0)]);
        for _ in 0..2 {
            let size = table.poll_transmit(START, out).unwrap().size;
            let guard = &mut world.nodes[0].table;
            match guard.handle_datagram(START, address(9), &mut out[..size]) {
                LinkEvent::Reply { size } => {
                    events.0 += 1;
                    table.handle_datagram(START, address(0), &mut out[..size]);
                }
                LinkEvent::Dropped(DropReason::HandshakeLimit) => events.1 += 1,
                _ => panic!("neither a cookie nor a refusal"),
            }
        }
    }
    assert_eq!(events, (100, 100));
    assert_eq!(world.nodes[0].table.stats().computed, 0);
}

#[test]
fn clients_that_are_idle_longest_give_way_and_relays_never() {
    let config = LinkConfig {
        client_count_max: 3,
        ..LinkConfig::default()
    };
    let mut world = World::new(2, 6, config);
    world.send(1, World::relay(0), 1).unwrap();
    world.poll();
    // One after the other, so that it is known who is the oldest.
    let mut initiations: Vec<_> = world.wire.drain(..).collect();
    initiations.sort_by_key(|it| it.from);
    for datagram in initiations {
        world.now = world.now.saturating_add(Duration::from_millis(10));
        world.deliver(&datagram);
        world.settle();
        if datagram.from == address(4) {
            // The first speaks again, and so the second goes first.
            world.send(2, World::relay(0), 2).unwrap();
            world.settle();
        }
        assert!(world.nodes[0].table.stats().clients <= 3);
    }
    let stats = world.nodes[0].table.stats();
    assert_eq!((stats.clients, stats.evicted), (3, 3));
    let ids: Vec<_> = world.nodes[2..]
        .iter()
        .map(|it| it.table.own_id_at(relay_id(0)).unwrap())
        .collect();
    let linked = ids
        .iter()
        .map(|id| world.nodes[0].table.is_linked(LinkName::Client(*id)));
    let linked: Vec<_> = linked.collect();
    assert_eq!(linked, [false, false, false, true, true, true]);
    assert!(world.nodes[0].table.is_linked(World::relay(1)));
    // Each has one pair of keys.
    assert_eq!(world.nodes[0].table.entry_count(), 4);
}

#[test]
fn half_open_handshakes_are_bounded_and_forgotten() {
    let config = LinkConfig {
        half_open_count_max: 2,
        ..LinkConfig::default()
    };
    let mut world = World::new(1, 5, config);
    world.poll();
    let initiations: Vec<_> = world.wire.drain(..).collect();
    for datagram in &initiations {
        world.deliver(datagram);
    }
    assert_eq!(world.wire.len(), 2);
    assert_eq!(world.nodes[0].dropped, [DropReason::HandshakeLimit; 3]);
    assert_eq!(world.nodes[0].table.stats().half_open, 2);
    assert_eq!(world.nodes[0].table.entry_count(), 2);
    world.wire.clear();
    world.advance_with(HALF_OPEN_MAX, |world| {
        world.poll();
        world.wire.clear();
    });
    let table = &world.nodes[0].table;
    assert_eq!((table.stats().half_open, table.entry_count()), (0, 0));
    assert_eq!(table.clients.len(), 0);
    world.advance(Duration::from_mins(2));
    assert_eq!(world.nodes[0].table.stats().clients, 5);
}

#[test]
fn a_relay_that_is_not_in_the_view_gets_no_link() {
    let mut world = world(3, 0);
    world.nodes[1].table.set_peers(START, &[link_peer(2)]);
    let first = initiation(&mut world);
    world.deliver(&first);
    assert_eq!(world.nodes[1].dropped, [DropReason::HandshakeUnknown]);
    assert_eq!(world.nodes[1].table.entry_count(), 0);
    // Nobody opens a link to a client.
    let mut world = self::world(1, 1);
    let mut to_client = link_peer(1);
    to_client.relay = relay_id(5);
    world.nodes[0].table.set_peers(START, &[to_client]);
    world.send(0, World::relay(5), 1).unwrap();
    world.settle();
    assert_eq!(world.nodes[1].dropped, [DropReason::HandshakeFailed]);
}

#[test]
fn a_peer_with_another_kem_key_gets_no_link() {
    let mut world = world(2, 0);
    let mut other = link_peer(1);
    other.kem = link_peer(0).kem;
    world.nodes[0].table.set_peers(START, &[other.clone()]);
    world.send(0, World::relay(1), 1).unwrap();
    world.settle();
    assert_eq!(world.nodes[0].dropped, [DropReason::HandshakeFailed]);
    assert!(!world.nodes[0].table.is_linked(World::relay(1)));
    // The right one comes with a new descriptor, and the next try succeeds.
    world.nodes[0].table.set_peers(START, &[link_peer(1)]);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.bytes_at(1), [1]);
    // What is no key at all ends the handshake at once.
    other.kem.fill(0xff);
    let mut world = self::world(2, 0);
    world.nodes[0].table.set_peers(START, &[other]);
    world.send(0, World::relay(1), 1).unwrap();
    world.settle();
    let stats = world.nodes[0].table.stats();
    assert_eq!((stats.given_up, stats.dropped, stats.queued), (1, 1, 0));
}
