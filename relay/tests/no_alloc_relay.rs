//! A packet that goes on costs no allocation, and neither does one that is dropped, nor garbage.
#![expect(clippy::unwrap_used, reason = "tests")]

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_crypto::packet::{HopKeys, PathHop, build};
use cepa_crypto::x25519::{Backend, available};
use cepa_relay::packet::batch::Batch;
use cepa_relay::packet::bucket::PacketRate;
use cepa_relay::packet::directory::{PacketDirectory, RelayEntry};
use cepa_relay::packet::drop_reason::DropReason;
use cepa_relay::packet::links::{LinkConfig, LinkName, LinkPeer, LinkTable, Sealed, Transmit};
use cepa_relay::packet::relay::{Counted, PacketRelay, RelaySettings};
use cepa_relay::packet::replay_epochs::ReplayFilters;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::packet::{PacketBytes, RelayId};
use cepa_wire::{Ed25519PublicKey, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LENGTH: EpochLength = EpochLength::DAY;
/// As much as a tile reads at once.
const BATCH_SIZE: usize = 256;
/// Packets that differ; each is fresh once a round.
const UNIQUE_COUNT: usize = 8192;
/// One in so many waits for a millisecond.
const DELAYED_SHARE: usize = 8;

/// The tile has the number 1, who sends to it 2, whom it sends to 3.
fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 4000))
}

fn secret(number: u8) -> X25519SecretKey {
    X25519SecretKey::from_bytes([number; 32])
}

fn kem(number: u8) -> KemSecretKey {
    KemSecretKey::from_seed([number; 64])
}

fn config() -> LinkConfig {
    LinkConfig {
        relay_rate: PacketRate {
            per_second: 1,
            burst: 3_000_000,
        },
        ..LinkConfig::default()
    }
}

fn keys() -> HopKeys {
    let mut draws = 0;
    let draw = || {
        draws += 1;
        [draws; 32]
    };
    HopKeys::new(RelayId([1; 16]), LENGTH, Duration::from_hours(1), NOW, draw)
}

fn packets(keys: &HopKeys) -> Vec<PacketBytes> {
    let hop = |number: u8, delay_ms| PathHop {
        relay: RelayId([number; 16]),
        key: keys.published().current,
        delay_ms,
    };
    let mut state = 1_u64;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    };
    let packet = |nth: usize| {
        let path = [
            hop(1, u32::from(nth.is_multiple_of(DELAYED_SHARE))),
            hop(3, 0),
        ];
        build(&path, b"", &mut random).unwrap().bytes
    };
    (0..UNIQUE_COUNT).map(packet).collect()
}

struct World {
    relay: PacketRelay,
    counted: Arc<Counted>,
    /// Those that send to it, and are sent to.
    tables: [LinkTable; 2],
    batch: Batch,
    forwarded: usize,
}

impl World {
    fn new(keys: &HopKeys, warm: &PacketBytes) -> Self {
        let counted = Arc::new(Counted::default());
        let settings = RelaySettings {
            links: config(),
            ..RelaySettings::default()
        };
        let replay = ReplayFilters::new(1 << 20, LENGTH.epoch_at(NOW), [7; 16]);
        let mut relay = PacketRelay::new(
            settings,
            LinkIdentity::relay(secret(1), kem(1)),
            Arc::new(replay),
            Arc::clone(&counted),
            NOW,
            |bytes| bytes.fill(1),
        );
        let entry = |number: u8| RelayEntry {
            id: RelayId([number; 16]),
            ed25519: Ed25519PublicKey([number; 32]),
            link: secret(number).public_key(),
            kem: Arc::new(*kem(number).public_key()),
            address: address(number),
        };
        relay.set_directory(NOW, &PacketDirectory::new([entry(2), entry(3)]));
        let table = |number: u8| {
            let identity = LinkIdentity::relay(secret(number), kem(number));
            let random = move |bytes: &mut [u8]| bytes.fill(number);
            let mut table = LinkTable::new(config(), identity, NOW, random);
            let peer = LinkPeer {
                relay: RelayId([1; 16]),
                link: secret(1).public_key(),
                kem: Box::new(*kem(1).public_key()),
                address: address(1),
            };
            table.set_peers(NOW, &[peer]);
            table
        };
        let mut world = Self {
            relay,
            counted,
            tables: [table(2), table(3)],
            batch: Batch::new(BATCH_SIZE),
            forwarded: 0,
        };
        world.link_up(keys, warm);
        world
    }

    /// Opens both links, each by a packet that is for nobody.
    fn link_up(&mut self, keys: &HopKeys, packet: &PacketBytes) {
        let ours = LinkName::Relay(RelayId([1; 16]));
        let mut out = [0; 1232];
        for table in &mut self.tables {
            let queued = table.seal(NOW, ours, packet, &mut out);
            assert_eq!(queued, Ok(Sealed::Queued));
        }
        for _ in 0..4 {
            self.batch.clear();
            for (number, table) in (2..).zip(&mut self.tables) {
                while let Some(Transmit { size, .. }) = table.poll_transmit(NOW, &mut out) {
                    assert!(self.batch.push(address(number), &out[..size]));
                }
            }
            self.relay.handle_batch(keys, NOW, &mut self.batch);
            self.relay.poll_transmit(NOW, &mut self.batch);
            for (number, table) in (2..).zip(&mut self.tables) {
                for datagram in self.batch.datagrams_mut() {
                    if datagram.peer() == address(number) {
                        table.handle_datagram(NOW, address(1), datagram.bytes_mut());
                    }
                }
            }
        }
        assert!(self.tables.iter().all(|table| table.is_linked(ours)));
    }

    fn push(&mut self, packet: &PacketBytes, change: Option<usize>) {
        let slot = self.batch.take_slot().unwrap();
        let datagram = slot.slot_mut();
        datagram[16..1216].copy_from_slice(packet);
        if let Some(at) = change {
            datagram[16 + at % 300] ^= 1;
        }
        let to = LinkName::Relay(RelayId([1; 16]));
        let sealed = self.tables[0].seal_in_place(NOW, to, datagram);
        assert!(matches!(sealed, Ok(Sealed::To(_))));
        slot.set_size(1232);
        slot.set_peer(address(2));
    }

    /// Half fresh, then three replayed, two changed and three of garbage in sixteen.
    fn fill(&mut self, packets: &[PacketBytes], fresh: &mut usize) {
        self.batch.clear();
        for nth in 0..BATCH_SIZE {
            let old = (*fresh).saturating_sub(nth * 13) % UNIQUE_COUNT;
            match nth % 16 {
                0 | 2 | 4 | 6 | 8 | 10 | 12 | 14 => {
                    self.push(&packets[*fresh], None);
                    *fresh += 1;
                }
                1 | 5 | 9 => self.push(&packets[old.saturating_sub(1)], None),
                3 | 7 => self.push(&packets[old], Some(nth)),
                _ => {
                    let kind = u8::try_from(nth % 7).unwrap();
                    let slot = self.batch.take_slot().unwrap();
                    slot.slot_mut().fill(kind);
                    slot.slot_mut()[1..4].fill(0);
                    slot.set_size(if nth % 3 == 0 { nth } else { 1232 });
                    slot.set_peer(address(9));
                }
            }
        }
    }

    fn round(&mut self, keys: &HopKeys, packets: &[PacketBytes]) -> usize {
        let (mut fresh, mut count) = (0, 0);
        while fresh + BATCH_SIZE / 2 <= UNIQUE_COUNT {
            self.fill(packets, &mut fresh);
            count += self.batch.len();
            self.relay.handle_batch(keys, NOW, &mut self.batch);
            self.forwarded += self.batch.len();
        }
        let later = NOW.saturating_add(Duration::from_millis(1));
        loop {
            self.batch.clear();
            let is_all = self.relay.poll_transmit(later, &mut self.batch);
            self.forwarded += self.batch.len();
            if is_all {
                return count;
            }
        }
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counted.drops.count(reason)
    }
}

#[test]
fn a_million_packets_allocate_nothing() {
    // One after the other they take four times as long.
    let count = match available() {
        Backend::Scalar => 250_000,
        Backend::Avx512Ifma => 1_000_000,
    };
    let keys = keys();
    let packets = packets(&keys);
    let warm = [9; 1200];
    let mut handled = 0;
    while handled < count {
        let mut world = World::new(&keys, &warm);
        let counted = allocation_counter::measure(|| handled += world.round(&keys, &packets));
        assert_eq!(counted.count_total, 0);
        // The filter takes some fresh ones for old.
        let expected = UNIQUE_COUNT - UNIQUE_COUNT / 100..=UNIQUE_COUNT;
        assert!(expected.contains(&world.forwarded), "{}", world.forwarded);
        assert!(world.dropped(DropReason::Replayed) > 1000);
        assert!(world.dropped(DropReason::BadTag) > 1000);
        assert!(world.dropped(DropReason::MalformedFrame) > 100);
    }
}
