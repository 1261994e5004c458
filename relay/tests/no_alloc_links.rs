//! A frame costs no allocation: neither to open nor to seal, nor to refuse.

use core::net::SocketAddr;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_relay::packet::bucket::PacketRate;
use cepa_relay::packet::drop_reason::DropReason;
use cepa_relay::packet::links::{
    LinkConfig, LinkEvent, LinkName, LinkPeer, LinkTable, Sealed, Transmit,
};
use cepa_wire::Timestamp;
use cepa_wire::packet::RelayId;
use cepa_wire::packet::geometry::DATAGRAM_SIZE;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const FRAME_COUNT: u64 = 1_000_000;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 1))
}

fn peer(number: u8) -> LinkPeer {
    LinkPeer {
        relay: RelayId([number; 16]),
        link: X25519SecretKey::from_bytes([number; 32]).public_key(),
        kem: Box::new(*KemSecretKey::from_seed([number; 64]).public_key()),
        address: address(number),
    }
}

fn table(number: u8) -> LinkTable {
    let secret = X25519SecretKey::from_bytes([number; 32]);
    let identity = LinkIdentity::relay(secret, KemSecretKey::from_seed([number; 64]));
    let config = LinkConfig {
        relay_rate: PacketRate {
            per_second: 1,
            burst: 3_000_000,
        },
        ..LinkConfig::default()
    };
    let mut table = LinkTable::new(config, identity, NOW, move |bytes| bytes.fill(number));
    table.set_peers(NOW, &[peer(1), peer(2)]);
    table
}

/// Sends a datagram that one table wrote, and what is answered, until there is silence.
fn settle(tables: &mut [LinkTable; 2], buffer: &mut [u8; DATAGRAM_SIZE]) {
    for _ in 0..4 {
        for from in 0..2 {
            while let Some(Transmit { size, .. }) = tables[from].poll_transmit(NOW, buffer) {
                let [here, there] = [from, 1 - from];
                let to = |at: usize| address(if at == 0 { 1 } else { 2 });
                let event = tables[there].handle_datagram(NOW, to(here), &mut buffer[..size]);
                if let LinkEvent::Reply { size } = event {
                    tables[here].handle_datagram(NOW, to(there), &mut buffer[..size]);
                }
            }
        }
    }
}

#[test]
fn a_million_frames_allocate_nothing() {
    let mut tables = [table(1), table(2)];
    let mut buffer = [0; DATAGRAM_SIZE];
    let names = [1, 2].map(|number| LinkName::Relay(RelayId([number; 16])));
    let queued = tables[0].seal(NOW, names[1], &[7; 1200], &mut buffer);
    assert_eq!(queued, Ok(Sealed::Queued));
    settle(&mut tables, &mut buffer);
    assert!(tables[0].is_linked(names[1]) && tables[1].is_linked(names[0]));

    let mut opened = 0_u64;
    let counted = allocation_counter::measure(|| {
        for count in 0..FRAME_COUNT {
            let from = usize::from(count % 2 == 1);
            let sealed = tables[from].seal(NOW, names[1 - from], &[9; 1200], &mut buffer);
            assert!(matches!(sealed, Ok(Sealed::To(_))));
            let copy = buffer;
            let event = tables[1 - from].handle_datagram(NOW, address(9), &mut buffer);
            opened += u64::from(matches!(event, LinkEvent::Packet { .. }));
            if count % 16 == 0 {
                buffer = copy;
                let event = tables[1 - from].handle_datagram(NOW, address(9), &mut buffer);
                assert!(event == LinkEvent::Dropped(DropReason::LinkReplayed));
            }
        }
    });
    assert_eq!(opened, FRAME_COUNT);
    assert_eq!(counted.count_total, 0);
}
