//! Who is in the packet lane: what control found out, as the packet tiles read it.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cepa_wire::packet::RelayId;
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::{Ed25519PublicKey, X25519PublicKey};

/// A relay that we may have a link to. Its descriptor was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    /// What routing blocks call it.
    pub id: RelayId,
    /// Its key in the view.
    pub ed25519: Ed25519PublicKey,
    /// The static key of its links.
    pub link: X25519PublicKey,
    /// The ML-KEM-768 key of its links.
    pub kem: Arc<[u8; KEM_KEY_SIZE]>,
    /// Where it takes datagrams.
    pub address: SocketAddr,
}

/// The relays that the view has and whose descriptor we have, without ourselves. Immutable: control puts
/// another in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketDirectory {
    by_id: BTreeMap<RelayId, RelayEntry>,
    by_link: BTreeMap<X25519PublicKey, RelayId>,
}

impl PacketDirectory {
    /// Of these relays. The first with an id, or with a link key, counts: a second of the same is left out.
    pub fn new(relays: impl IntoIterator<Item = RelayEntry>) -> Self {
        let mut directory = Self::default();
        for relay in relays {
            let is_known = directory.by_id.contains_key(&relay.id)
                || directory.by_link.contains_key(&relay.link);
            if !is_known {
                directory.by_link.insert(relay.link, relay.id);
                directory.by_id.insert(relay.id, relay);
            }
        }
        directory
    }

    /// The relay that a routing block names.
    pub fn find(&self, id: RelayId) -> Option<&RelayEntry> {
        self.by_id.get(&id)
    }

    /// The relay whose link has this static key: who opens a link with it is that relay, and else a
    /// client.
    pub fn find_by_link(&self, link: &X25519PublicKey) -> Option<&RelayEntry> {
        self.find(*self.by_link.get(link)?)
    }

    /// All of them, by their ids.
    pub fn relays(&self) -> impl ExactSizeIterator<Item = &RelayEntry> {
        self.by_id.values()
    }
}

/// What the packet lane shows over HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptorBoard {
    /// `GET /cepa/descriptor/v1`: our own descriptor, signed. `None` while we have no lane.
    pub own: Option<Bytes>,
    /// `GET /cepa/descriptors/v1`: every descriptor that we have, ours too
    /// ([`cepa_wire::packet::descriptor_list`]). `None` while we have no lane.
    pub all: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(id: u8, link: u8) -> RelayEntry {
        RelayEntry {
            id: RelayId([id; 16]),
            ed25519: Ed25519PublicKey([id; 32]),
            link: X25519PublicKey([link; 32]),
            kem: Arc::new([0; KEM_KEY_SIZE]),
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn relays_are_found_and_the_first_counts() {
        let all = [relay(2, 12), relay(1, 11), relay(2, 13), relay(3, 11)];
        let directory = PacketDirectory::new(all);
        let ids: Vec<_> = directory.relays().map(|relay| relay.id.0[0]).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(directory.find(RelayId([2; 16])), Some(&relay(2, 12)));
        assert_eq!(directory.find(RelayId([3; 16])), None);
        let by_link = |link| directory.find_by_link(&X25519PublicKey([link; 32]));
        assert_eq!(by_link(11), Some(&relay(1, 11)));
        assert_eq!(by_link(13), None);
    }
}
