//! A sequence of operations on three tables that speak with each other, two relays and a client, and what
//! else strangers send: nothing panics, nothing grows, and no packet comes twice or changed.
#![no_main]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cepa_crypto::X25519SecretKey;
use cepa_crypto::link::{KemSecretKey, LinkIdentity};
use cepa_relay::packet::links::{
    LinkConfig, LinkEvent, LinkName, LinkPeer, LinkTable, Sealed, Transmit,
};
use cepa_wire::Timestamp;
use cepa_wire::packet::RelayId;
use cepa_wire::packet::geometry::DATAGRAM_SIZE;
use libfuzzer_sys::fuzz_target;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// Datagrams under way; more are lost.
const WIRE_COUNT_MAX: usize = 64;
const OPERATION_COUNT_MAX: usize = 200;

thread_local! {
    static PEERS: [LinkPeer; 2] = [0, 1].map(|number| LinkPeer {
        relay: RelayId([number; 16]),
        link: secret(number).public_key(),
        kem: Box::new(*kem(number).public_key()),
        address: address(number),
    });
}

fn secret(number: u8) -> X25519SecretKey {
    X25519SecretKey::from_bytes([number + 1; 32])
}

fn kem(number: u8) -> KemSecretKey {
    KemSecretKey::from_seed([number + 1; 64])
}

fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 1).into()
}

fn table(number: u8, peers: &[LinkPeer]) -> LinkTable {
    let identity = match number {
        2 => LinkIdentity::client(secret(2)),
        _ => LinkIdentity::relay(secret(number), kem(number)),
    };
    let mut state = u64::from(number);
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
    };
    let config = LinkConfig {
        relay_count_max: 4,
        client_count_max: 4,
        ..LinkConfig::default()
    };
    let mut table = LinkTable::new(config, identity, START, random);
    table.set_peers(START, if number == 2 { &peers[..1] } else { peers });
    table
}

struct World {
    tables: [LinkTable; 3],
    wire: VecDeque<(u8, SocketAddr, Vec<u8>)>,
    now: Timestamp,
    sent: usize,
    received: usize,
}

impl World {
    fn push(&mut self, from: u8, to: SocketAddr, bytes: &[u8]) {
        if self.wire.len() < WIRE_COUNT_MAX {
            self.wire.push_back((from, to, bytes.to_vec()));
        }
    }

    fn poll(&mut self) {
        let mut out = [0; DATAGRAM_SIZE];
        for number in 0..3 {
            while let Some(Transmit { to, size }) =
                self.tables[usize::from(number)].poll_transmit(self.now, &mut out)
            {
                self.push(number, to, &out[..size]);
            }
        }
    }

    fn deliver(&mut self, (from, to, mut bytes): (u8, SocketAddr, Vec<u8>)) {
        let Some(number) = (0..3).find(|number| address(*number) == to) else {
            return;
        };
        let table = &mut self.tables[usize::from(number)];
        match table.handle_datagram(self.now, address(from), &mut bytes) {
            LinkEvent::Packet { range, .. } => {
                self.received += 1;
                let packet = &bytes[range];
                assert!(packet.iter().all(|byte| *byte == packet[0]));
            }
            LinkEvent::Reply { size } => self.push(number, address(from), &bytes[..size]),
            LinkEvent::Established { .. } | LinkEvent::Taken | LinkEvent::Dropped(_) => {}
        }
    }

    fn send(&mut self, from: u8, to: u8) {
        let mut out = [0; DATAGRAM_SIZE];
        let name = LinkName::Relay(RelayId([to; 16]));
        let table = &mut self.tables[usize::from(from)];
        match table.seal(self.now, name, &[to; 1200], &mut out) {
            Ok(Sealed::To(to)) => self.push(from, to, &out),
            Ok(Sealed::Queued) => {}
            Err(_) => return,
        }
        self.sent += 1;
    }

    fn step(&mut self, operation: u8, argument: u8, rest: &[u8], peers: &[LinkPeer]) {
        let at = usize::from(argument) % self.wire.len().max(1);
        match operation % 8 {
            0 | 1 => self.send(argument % 3, argument / 3 % 2),
            2 | 3 => {
                if let Some(datagram) = self.wire.remove(at) {
                    self.deliver(datagram);
                }
            }
            4 => {
                if let Some(datagram) = self.wire.get(at).cloned() {
                    self.deliver(datagram);
                }
            }
            5 => {
                if let Some((from, to, mut bytes)) = self.wire.remove(at) {
                    for (byte, change) in bytes.iter_mut().skip(at).zip(rest.iter().take(4)) {
                        *byte ^= change;
                    }
                    self.deliver((from, to, bytes));
                }
            }
            6 => {
                let millis = 1_u64 << (argument % 19);
                self.now = self.now.saturating_add(Duration::from_millis(millis));
                self.tables
                    .iter_mut()
                    .for_each(|it| it.handle_timeout(self.now));
            }
            _ if argument % 4 == 0 => {
                let some = &peers[..usize::from(argument / 4 % 3)];
                self.tables[0].set_peers(self.now, some);
            }
            _ => {
                let bytes = rest[..rest.len().min(DATAGRAM_SIZE + 1)].to_vec();
                self.deliver((argument, address(argument % 3), bytes));
            }
        }
    }
}

fn run(peers: &[LinkPeer], input: &[u8]) {
    let mut world = World {
        tables: [0, 1, 2].map(|number| table(number, peers)),
        wire: VecDeque::new(),
        now: START,
        sent: 0,
        received: 0,
    };
    for (nth, pair) in input.chunks_exact(2).take(OPERATION_COUNT_MAX).enumerate() {
        world.poll();
        world.step(pair[0], pair[1], &input[2 * nth + 2..], peers);
        for table in &world.tables {
            // Two peers, each with three pairs of keys and a handshake.
            assert!(table.entry_count() <= 8);
        }
        assert!(world.received <= world.sent);
    }
}

fuzz_target!(|input: &[u8]| PEERS.with(|peers| run(peers, input)));
