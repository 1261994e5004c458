//! The relays of the packet lane, as their own descriptors say, and which keys they have now.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use cepa_crypto::packet::{PathHop, relay_id, verify_descriptor};
use cepa_wire::packet::RelayId;
use cepa_wire::packet::descriptor::{Descriptor, KEM_KEY_SIZE, PublishedHopKeys};
use cepa_wire::packet::descriptor_list::parse_list;
use cepa_wire::packet::epoch::EpochLength;
use cepa_wire::{Ed25519PublicKey, ServiceNode, Timestamp, X25519PublicKey};

/// A relay that packets may go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRelay {
    /// What routing blocks call it.
    pub id: RelayId,
    /// The node's key in the network.
    pub ed25519: Ed25519PublicKey,
    /// Static key of its links.
    pub link: X25519PublicKey,
    /// ML-KEM-768 key of its links.
    pub kem: Box<[u8; KEM_KEY_SIZE]>,
    /// Where the network says that it is.
    pub ip: Ipv4Addr,
    /// Its UDP port.
    pub port: u16,
    /// What packets are built with.
    pub hop_keys: PublishedHopKeys,
    /// When its descriptor was made.
    pub published: Timestamp,
}

impl LaneRelay {
    /// Where it takes datagrams.
    pub fn address(&self) -> SocketAddr {
        (self.ip, self.port).into()
    }

    /// It as a hop that is reached now; `None` when its keys are of other epochs.
    pub fn hop(&self, now: Timestamp, delay_ms: u32) -> Option<PathHop> {
        let keys = &self.hop_keys;
        let epoch = keys.length.epoch_at(now);
        // Its clock or ours may be somewhat off: the first key of those is taken for a while before.
        let key = if epoch == keys.epoch || epoch.next() == keys.epoch {
            keys.current
        } else if epoch == keys.epoch.next() {
            keys.next
        } else {
            return None;
        };
        Some(PathHop {
            relay: self.id,
            key,
            delay_ms,
        })
    }
}

/// The relays that are both in the list of service nodes and have told of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneDirectory {
    relays: BTreeMap<RelayId, LaneRelay>,
}

impl LaneDirectory {
    /// Unites the lists of several nodes, since each could leave relays out: of one relay the newest
    /// descriptor counts. What is malformed, not signed by a node of `nodes`, at another address than the
    /// network says, or has no key for now, is left out; so is a second relay of an id. Some 60 us a
    /// descriptor.
    pub fn new<L: AsRef<[u8]>>(lists: &[L], nodes: &[ServiceNode], now: Timestamp) -> Self {
        let by_key: BTreeMap<_, _> = nodes
            .iter()
            .map(|node| (node.pubkey_ed25519, node))
            .collect();
        let mut relays: BTreeMap<RelayId, LaneRelay> = BTreeMap::new();
        let lists = lists.iter().filter_map(|list| parse_list(list.as_ref()));
        for bytes in lists.flatten() {
            let Ok(descriptor) = verify_descriptor(bytes) else {
                continue;
            };
            let node = by_key.get(&descriptor.ed25519);
            let Some(relay) = node.and_then(|node| relay_of(descriptor, node)) else {
                continue;
            };
            let is_better = relays.get(&relay.id).is_none_or(|known| {
                known.ed25519 == relay.ed25519 && known.published < relay.published
            });
            if is_better && relay.hop(now, 0).is_some() {
                relays.insert(relay.id, relay);
            }
        }
        Self { relays }
    }

    /// Finds a relay.
    pub fn find(&self, id: RelayId) -> Option<&LaneRelay> {
        self.relays.get(&id)
    }

    /// Finds a node.
    pub fn find_node(&self, key: &Ed25519PublicKey) -> Option<&LaneRelay> {
        self.find(relay_id(key))
            .filter(|relay| relay.ed25519 == *key)
    }

    /// All relays, by id.
    pub fn relays(&self) -> impl ExactSizeIterator<Item = &LaneRelay> {
        self.relays.values()
    }

    /// The shortest epoch of a relay.
    pub fn shortest_epoch(&self) -> Option<Duration> {
        let lengths = self.relays().map(|relay| relay.hop_keys.length);
        lengths.map(EpochLength::as_duration).min()
    }

    /// How many of the relays have a key for `now`.
    pub fn usable_count(&self, now: Timestamp) -> usize {
        self.relays().filter(|it| it.hop(now, 0).is_some()).count()
    }
}

fn relay_of(descriptor: Descriptor, node: &ServiceNode) -> Option<LaneRelay> {
    let has_address = descriptor.addresses.iter().any(|it| *it == node.ip);
    let is_good =
        has_address && descriptor.ports.packet != 0 && descriptor.x25519 == node.pubkey_x25519;
    is_good.then(|| LaneRelay {
        id: relay_id(&descriptor.ed25519),
        ed25519: descriptor.ed25519,
        link: descriptor.link,
        kem: descriptor.kem,
        ip: node.ip,
        port: descriptor.ports.packet,
        hop_keys: descriptor.hop_keys,
        published: descriptor.published,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use cepa_crypto::packet::sign_descriptor;
    use cepa_crypto::{Ed25519SecretKey, NodeKeys};
    use cepa_wire::packet::descriptor::Ports;
    use cepa_wire::packet::descriptor_list::encode_list;
    use cepa_wire::packet::epoch::Epoch;

    use super::*;
    use crate::testing::service_node;

    const LENGTH: EpochLength = EpochLength::from_secs(60).unwrap();

    pub(in super::super) fn node(number: u8) -> ServiceNode {
        service_node(&NodeKeys::from_seed([number; 32]))
    }

    /// A descriptor of epoch 10 of a minute each.
    pub(in super::super) fn descriptor(
        number: u8,
        change: impl FnOnce(&mut Descriptor),
    ) -> Vec<u8> {
        let node = node(number);
        let mut descriptor = Descriptor {
            ed25519: node.pubkey_ed25519,
            x25519: node.pubkey_x25519,
            link: X25519PublicKey([number; 32]),
            kem: Box::new([4; KEM_KEY_SIZE]),
            addresses: vec![node.ip.into()],
            ports: Ports {
                packet: 1000 + u16::from(number),
                ..Ports::default()
            },
            hop_keys: PublishedHopKeys {
                epoch: Epoch(10),
                length: LENGTH,
                current: X25519PublicKey([6; 32]),
                next: X25519PublicKey([7; 32]),
            },
            features: Vec::new(),
            published: at(600),
        };
        change(&mut descriptor);
        let key = Ed25519SecretKey::from_seed([number; 32]);
        sign_descriptor(descriptor, &key).encode()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn ports(directory: &LaneDirectory) -> Vec<u16> {
        let mut ports: Vec<_> = directory.relays().map(|relay| relay.port).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn only_what_a_node_says_of_itself_counts() {
        let nodes: Vec<_> = (1..=7).map(node).collect();
        let mut forged = descriptor(3, |_| ());
        *forged.iter_mut().rev().nth(3).unwrap() ^= 1;
        let all = [
            descriptor(1, |_| ()),
            descriptor(2, |it| it.addresses = vec![[10, 0, 0, 1].into()]),
            forged,
            descriptor(4, |it| it.ports.packet = 0),
            descriptor(5, |it| it.x25519.0[0] ^= 1),
            descriptor(6, |it| it.hop_keys.epoch = Epoch(5)),
            descriptor(7, |_| ()),
            descriptor(8, |_| ()),
        ];
        let list = encode_list(all.iter().map(Vec::as_slice));
        let directory = LaneDirectory::new(&[list, b"no list".to_vec()], &nodes, at(630));
        assert_eq!(ports(&directory), [1001, 1007]);
        let first = directory.find_node(&nodes[0].pubkey_ed25519).unwrap();
        assert_eq!(first.address(), "127.0.0.1:1001".parse().unwrap());
        assert!(directory.find_node(&nodes[1].pubkey_ed25519).is_none());
    }

    #[test]
    fn lists_are_united_and_the_newest_counts() {
        let nodes: Vec<_> = (1..=3).map(node).collect();
        let newer = |it: &mut Descriptor| (it.published, it.ports.packet) = (at(601), 77);
        let lists = [
            encode_list([descriptor(1, |_| ()).as_slice()]),
            encode_list([descriptor(1, newer).as_slice(), &descriptor(3, |_| ())]),
            encode_list([descriptor(1, |_| ()).as_slice()]),
        ];
        assert_eq!(
            ports(&LaneDirectory::new(&lists, &nodes, at(630))),
            [77, 1003]
        );
    }

    #[test]
    fn the_key_is_that_of_the_time() {
        let list = encode_list([descriptor(1, |_| ()).as_slice()]);
        let directory = LaneDirectory::new(&[list], &[node(1)], at(630));
        let relay = directory.relays().next().unwrap();
        let key = |seconds| relay.hop(at(seconds), 0).map(|hop| hop.key.0[0]);
        assert_eq!(key(539), None);
        assert_eq!([540, 600, 659].map(key), [Some(6); 3]);
        assert_eq!([660, 719].map(key), [Some(7); 2]);
        assert_eq!(key(720), None);
        assert_eq!(directory.usable_count(at(720)), 0);
    }
}
