//! Packets from end to end, against the slow twin, and what happens to them when they are changed.

mod seeds;
mod twin;
mod vectors;

use core::time::Duration;

use cepa_wire::Timestamp;
use cepa_wire::packet::descriptor::{Descriptor, Ports};
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::packet::geometry::{CONTENT_SIZE, HEADER_SIZE, HOP_COUNT_MAX, PACKET_SIZE};
use cepa_wire::packet::{
    ClientId, Command, Packet, PacketBytes, RelayId, ReplyBlock, RoutingBlock,
};

use super::*;

/// Bytes that look random and are the same in each run.
fn random(seed: &str) -> impl FnMut(&mut [u8]) + use<> {
    let mut reader = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    move |bytes| reader.fill(bytes)
}

const EPOCH: Epoch = Epoch(7);

struct Relay {
    secret: [u8; 32],
    id: RelayId,
    hop: HopKey,
}

impl Relay {
    fn new(random: &mut impl FnMut(&mut [u8])) -> Self {
        let (mut secret, mut id) = ([0; 32], [0; 16]);
        random(&mut secret);
        random(&mut id);
        Self {
            secret,
            id: RelayId(id),
            hop: HopKey::new(X25519SecretKey::from_bytes(secret), RelayId(id), EPOCH),
        }
    }

    /// Peels, slowly too, and compares. Nothing changes when it fails.
    fn peel(&self, packet: &mut PacketBytes) -> Result<RoutingBlock, PeelError> {
        let before = *packet;
        let slow = twin::peel(self.secret, self.id.0, packet);
        let opened = open(&self.hop, packet);
        let tag = opened.as_ref().ok().map(|opened| *opened.replay_tag());
        assert_eq!(*packet, before);
        let fast = opened.and_then(|opened| opened.peel(packet));
        match (&slow, &fast) {
            (Ok(slow), Ok(fast)) => {
                assert_eq!(slow.packet[..], packet[..]);
                assert_eq!(slow.routing_block, fast.encode());
                assert_eq!(slow.replay_tag, tag.unwrap().0);
            }
            (Err(slow), Err(fast)) => {
                assert_eq!(slow, fast);
                assert_eq!(*packet, before, "left as it came");
            }
            _ => panic!("the twins differ"),
        }
        fast
    }
}

fn relays(count: usize, random: &mut impl FnMut(&mut [u8])) -> Vec<Relay> {
    (0..count).map(|_| Relay::new(random)).collect()
}

/// The path, with a delay at each hop.
fn path(relays: &[Relay]) -> Vec<PathHop> {
    let hops = relays.iter().zip(0..);
    hops.map(|(relay, index)| PathHop {
        relay: relay.id,
        key: relay.hop.public_key(),
        delay_ms: index * 1000,
    })
    .collect()
}

/// Peels along the path and gives the packet as it was after each hop; the last command is checked.
fn walk(
    relays: &[Relay],
    first: RelayId,
    mut packet: PacketBytes,
    last: Command,
) -> Vec<PacketBytes> {
    assert_eq!(first, relays[0].id);
    let mut seen = Vec::new();
    for (index, relay) in relays.iter().enumerate() {
        let block = relay.peel(&mut packet).unwrap();
        let expected = relays
            .get(index + 1)
            .map_or(last, |next| Command::Forward(next.id));
        assert!(block.command == expected);
        assert_eq!(block.delay_ms as usize, index * 1000);
        seen.push(packet);
    }
    seen
}

fn content(random: &mut impl FnMut(&mut [u8]), size: usize) -> Vec<u8> {
    let mut content = vec![0; size];
    random(&mut content);
    content
}

const CLIENT: ClientId = ClientId([0xc1; 16]);

#[test]
fn requests_arrive() {
    let mut random = random("requests");
    for round in 0..40 {
        let relays = relays(round % HOP_COUNT_MAX + 1, &mut random);
        let content = content(&mut random, [0, 1, 400, CONTENT_SIZE][round % 4]);
        let built = build(&path(&relays), &content, &mut random).unwrap();
        let seen = walk(&relays, built.first, built.bytes, Command::Deliver);
        let arrived = Packet::new(seen.last().unwrap()).content();
        assert_eq!(arrived[..content.len()], content);
        assert!(arrived[content.len()..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn replies_arrive() {
    let mut random = random("replies");
    for round in 0..40 {
        let relays = relays(round % HOP_COUNT_MAX + 1, &mut random);
        let content = content(&mut random, [0, 1, 400, CONTENT_SIZE][round % 4]);
        let (block, keys) = reply_block(&path(&relays), CLIENT, &mut random).unwrap();
        let block = ReplyBlock::parse(&block.encode());
        let built = answer(&block, &content).unwrap();
        let seen = walk(&relays, built.first, built.bytes, Command::Reply(CLIENT));
        let arrived = seen.last().unwrap();
        assert!(ReplyId::of(arrived) == keys.id());
        let opened = keys.open(arrived).unwrap();
        assert_eq!(opened[..content.len()], content);
        assert!(opened[content.len()..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn no_path_is_too_long_or_too_short() {
    let mut random = random("lengths");
    let relays = relays(HOP_COUNT_MAX + 1, &mut random);
    let path = path(&relays);
    let mut error = |path: &[PathHop], content: &[u8]| build(path, content, &mut random).err();
    assert_eq!(error(&path, &[]), Some(BuildError::PathLength));
    assert_eq!(error(&[], &[]), Some(BuildError::PathLength));
    assert_eq!(
        error(&path[..1], &[0; CONTENT_SIZE + 1]),
        Some(BuildError::ContentSize)
    );
    let (mut slow, mut weak) = (path[0], path[0]);
    slow.delay_ms = 60_001;
    weak.key = X25519PublicKey([0; 32]);
    assert_eq!(error(&[slow], &[]), Some(BuildError::Delay));
    assert_eq!(error(&[weak], &[]), Some(BuildError::WeakKey));
}

#[test]
fn any_bit_of_the_header_is_held_by_the_tag() {
    let mut random = random("header bits");
    let relays = relays(2, &mut random);
    let built = build(&path(&relays), b"text", &mut random).unwrap();
    let mut second = built.bytes;
    relays[0].peel(&mut second).unwrap();
    for (relay, good) in relays.iter().zip([built.bytes, second]) {
        for bit in 0..HEADER_SIZE * 8 {
            let mut packet = good;
            packet[bit / 8] ^= 1 << (bit % 8);
            let changed = packet;
            assert!(
                peel(&relay.hop, &mut packet) == Err(PeelError::BadTag),
                "{bit}"
            );
            assert_eq!(packet, changed, "left as it came");
        }
    }
}

#[test]
fn any_bit_of_the_payload_is_held_by_the_last_hop() {
    let mut random = random("payload bits");
    let relays = relays(2, &mut random);
    let built = build(&path(&relays), b"text", &mut random).unwrap();
    for bit in HEADER_SIZE * 8..PACKET_SIZE * 8 {
        let mut packet = built.bytes;
        packet[bit / 8] ^= 1 << (bit % 8);
        peel(&relays[0].hop, &mut packet).unwrap();
        let changed = packet;
        let last = peel(&relays[1].hop, &mut packet);
        assert!(last == Err(PeelError::PayloadTampered), "{bit}");
        assert_eq!(packet, changed, "left as it came");
    }
}

#[test]
fn a_changed_answer_is_not_read() {
    let mut random = random("answer bits");
    let relays = relays(3, &mut random);
    for bit in (HEADER_SIZE * 8..PACKET_SIZE * 8).step_by(97) {
        let (block, keys) = reply_block(&path(&relays), CLIENT, &mut random).unwrap();
        let mut packet = answer(&block, b"text").unwrap().bytes;
        packet[bit / 8] ^= 1 << (bit % 8);
        for relay in &relays {
            peel(&relay.hop, &mut packet).unwrap();
        }
        assert!(ReplyId::of(&packet) == keys.id());
        assert_eq!(keys.open(&packet), Err(PayloadTampered));
    }
}

#[test]
fn others_cannot_peel() {
    let mut random = random("others");
    let relays = relays(3, &mut random);
    let built = build(&path(&relays), b"text", &mut random).unwrap();
    let mut packet = built.bytes;
    for relay in &relays[1..] {
        assert!(relay.peel(&mut packet) == Err(PeelError::BadTag));
    }
    // The right key under another name.
    let secret = X25519SecretKey::from_bytes(relays[0].secret);
    let other = HopKey::new(secret, relays[1].id, EPOCH);
    assert!(peel(&other, &mut packet) == Err(PeelError::BadTag));
    packet[..32].fill(0);
    assert!(relays[0].peel(&mut packet) == Err(PeelError::WeakKey));
}

#[test]
fn what_a_client_may_not_ask_is_refused() {
    let mut random = random("blocks");
    let relays = relays(1, &mut random);
    let built = build(&path(&relays), b"text", &mut random).unwrap();
    // Whoever knows the keys changes the command and makes the tag fit.
    let keys = {
        let packet = Packet::new(&built.bytes);
        let secret = X25519SecretKey::from_bytes(relays[0].secret);
        let shared = secret.diffie_hellman(&packet.ephemeral_key()).unwrap();
        keys::LayerKeys::derive(&shared, &packet.ephemeral_key(), relays[0].id)
    };
    let mut packet = built.bytes;
    packet[48] ^= 2 ^ 9;
    let tag = header::tag(&keys.tag, Packet::new(&packet).sealed());
    packet[32..48].copy_from_slice(&tag);
    assert!(relays[0].peel(&mut packet) == Err(PeelError::BadRoutingBlock));
}

#[test]
fn many_are_as_one_by_one() {
    let mut random = random("many");
    let relays = relays(3, &mut random);
    let hop = &relays[0].hop;
    for count in [0, 1, 2, 7, 8, 9, 63, 64, 65, 130] {
        let mut packets: Vec<PacketBytes> = (0..count)
            .map(|index| {
                let path = path(&relays[..=index % 3]);
                let mut packet = build(&path, b"text", &mut random).unwrap().bytes;
                match index % 7 {
                    3 => packet[..32].fill(0),
                    4 => packet[index] ^= 1,
                    5 => packet[1199] ^= 1,
                    _ => {}
                }
                packet
            })
            .collect();
        let mut singly = packets.clone();
        let mut peeled = vec![Err(PeelError::BadTag); count];
        let mut frames: Vec<_> = packets.iter_mut().collect();
        peel_many(hop, &mut frames, &mut peeled);
        for (packet, peeled) in singly.iter_mut().zip(peeled) {
            assert!(peel(hop, packet) == peeled);
        }
        assert!(singly == packets);
        let mut few = [const { Err(PeelError::WeakKey) }; 3];
        open_many(hop, &singly, &mut few);
        let touched = few
            .iter()
            .filter(|it| !matches!(it, Err(PeelError::WeakKey)));
        assert!(touched.count() <= count.min(3));
    }
}

#[test]
fn packets_of_two_epochs_are_opened_together() {
    let mut random = random("epochs");
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    let (id, length) = (RelayId([9; 16]), EpochLength::from_secs(60).unwrap());
    let mut draw = || {
        let mut seed = [0; 32];
        random(&mut seed);
        seed
    };
    let mut keys = HopKeys::new(id, length, Duration::from_secs(10), at(0), &mut draw);
    let old = keys.published();
    keys.handle_timeout(at(60), &mut draw);
    let mut packets = Vec::new();
    for index in 0..150 {
        let key = if index % 3 == 0 {
            old.current
        } else {
            old.next
        };
        let hop = PathHop {
            relay: id,
            key,
            delay_ms: 0,
        };
        let mut packet = build(&[hop], b"text", &mut random).unwrap().bytes;
        packet[100] ^= u8::from(index % 5 == 0);
        packets.push(packet);
    }
    let mut opened: Vec<_> = packets.iter().map(|_| Err(PeelError::WeakKey)).collect();
    for (now, old_is_good) in [(at(69), true), (at(70), false)] {
        keys.open_many(now, &packets, &mut opened);
        for (index, opened) in opened.iter().enumerate() {
            let epoch = opened.as_ref().map(Opened::epoch);
            let is_old = index % 3 == 0;
            let expected = if index % 5 == 0 || is_old && !old_is_good {
                Err(&PeelError::BadTag)
            } else {
                Ok(Epoch(u64::from(!is_old)))
            };
            assert_eq!(epoch, expected, "{index}");
        }
    }
}

/// Every bit of every packet on the wire is set about half of the time, whatever the length of the path,
/// the place on it, and the direction. Only the highest bit of an X25519 key is always zero.
#[test]
fn packets_look_alike_everywhere() {
    const COUNT: u32 = 400;
    let mut random = random("alike");
    let relays = relays(HOP_COUNT_MAX, &mut random);
    for count in [1, 3, HOP_COUNT_MAX] {
        let (relays, path) = (&relays[..count], path(&relays[..count]));
        // A request and a reply, before each hop; and the header that is left at the end, which tells the
        // last hop nothing either.
        let mut places = vec![vec![0_u32; PACKET_SIZE * 8]; 2 * (count + 1)];
        for _ in 0..COUNT {
            let request = build(&path, b"the same text", &mut random).unwrap();
            let (block, _) = reply_block(&path, CLIENT, &mut random).unwrap();
            let reply = answer(&block, b"the same text").unwrap();
            for (packet, places) in [request.bytes, reply.bytes]
                .iter_mut()
                .zip(places.chunks_mut(count + 1))
            {
                for (index, bits) in places.iter_mut().enumerate() {
                    for (bit, ones) in bits.iter_mut().enumerate() {
                        *ones += u32::from(packet[bit / 8] >> (bit % 8) & 1);
                    }
                    if let Some(relay) = relays.get(index) {
                        peel(&relay.hop, packet).unwrap();
                    }
                }
            }
        }
        for (place, bits) in places.iter().enumerate() {
            let at_end = place % (count + 1) == count;
            // A request that arrived has its content.
            let size = if place == count {
                HEADER_SIZE
            } else {
                PACKET_SIZE
            };
            for (bit, ones) in bits.iter().take(size * 8).enumerate() {
                let good = if bit == 255 && !at_end {
                    *ones == 0
                } else {
                    // Seven standard deviations of 10.
                    ones.abs_diff(COUNT / 2) < 70
                };
                assert!(good, "{count} hops, place {place}, bit {bit}: {ones}");
            }
        }
    }
}

fn signed_descriptor() -> (Descriptor, Vec<u8>) {
    let key = crate::Ed25519SecretKey::from_seed([1; 32]);
    let mut keys = HopKeys::new(
        relay_id(&key.public_key()),
        EpochLength::DAY,
        Duration::from_hours(1),
        Timestamp::from_millis(1_800_000_000_000),
        || [5; 32],
    );
    keys.handle_timeout(Timestamp::from_millis(1_800_000_000_001), || [6; 32]);
    let descriptor = Descriptor {
        ed25519: key.public_key(),
        x25519: X25519PublicKey([2; 32]),
        link: X25519PublicKey([3; 32]),
        kem: Box::new([4; 1184]),
        addresses: vec![[127, 0, 0, 1].into()],
        ports: Ports::default(),
        hop_keys: keys.published(),
        features: Vec::new(),
        published: Timestamp::from_millis(1_800_000_000_000),
    };
    let bytes = sign_descriptor(descriptor.clone(), &key).encode();
    (descriptor, bytes)
}

#[test]
fn descriptors_are_signed() {
    let (descriptor, bytes) = signed_descriptor();
    assert_eq!(verify_descriptor(&bytes), Ok(descriptor));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(verify_descriptor(&changed).is_err(), "{at}");
    }
}
