//! The lane against relays that really peel, in a simulated network and over sockets.

mod relay;
mod simulation;
mod sockets;

use cepa_crypto::NodeKeys;
use cepa_wire::packet::descriptor_list::encode_list;
use cepa_wire::{ServiceNode, Timestamp};

use self::relay::Relay;
use super::LaneDirectory;
use super::directory::tests::{descriptor, node};

/// Some moment in epoch 10 of a minute each.
const NOW: Timestamp = Timestamp::from_millis(610_000);

/// Numbers that look random, from a seed.
struct Numbers(u64);

impl Numbers {
    /// `SplitMix64` (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True so many times in a hundred.
    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn source(&mut self) -> impl FnMut(&mut [u8]) {
        |bytes| {
            for byte in bytes {
                *byte = self.next().to_le_bytes()[3];
            }
        }
    }
}

/// So many relays and what a client knows of them; their ports are given.
fn network(ports: &[u16]) -> (Vec<Relay>, Vec<ServiceNode>, LaneDirectory) {
    let numbers = 1_u8..;
    let relays: Vec<_> = numbers
        .clone()
        .zip(ports)
        .map(|(it, _)| Relay::new(it))
        .collect();
    let nodes: Vec<_> = numbers.clone().zip(ports).map(|(it, _)| node(it)).collect();
    let descriptors: Vec<_> = numbers
        .zip(ports)
        .zip(&relays)
        .map(|((number, port), relay)| {
            descriptor(number, |it| {
                it.ports.packet = *port;
                it.link = *relay.identity.public_key();
                *it.kem = *relay.kem_key();
                (it.hop_keys.current, it.hop_keys.next) = (relay.hop_key(), relay.hop_key());
            })
        })
        .collect();
    let list = encode_list(descriptors.iter().map(Vec::as_slice));
    let directory = LaneDirectory::new(&[list], &nodes, NOW);
    assert_eq!(directory.relays().count(), ports.len());
    (relays, nodes, directory)
}

fn key_of(number: u8) -> cepa_wire::Ed25519PublicKey {
    NodeKeys::from_seed([number; 32]).ed25519_public()
}
