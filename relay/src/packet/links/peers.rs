//! Who links lead to, and what is held for each.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cepa_crypto::link::{Cookie, Initiation, LinkKeys, Stamp};
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::{ClientId, PacketBytes};
use cepa_wire::{Timestamp, X25519PublicKey};

use super::{LinkName, LinkPeer, LinkTable};
use crate::packet::bucket::{PacketRate, TokenBucket};

/// What a number of ours stands for.
pub(super) enum Entry {
    /// A handshake that we began.
    Pending {
        slot: u32,
        initiation: Box<Initiation>,
    },
    /// Keys.
    Keyed { slot: u32, keys: Box<LinkKeys> },
}

/// Where a handshake of ours stands.
pub(super) struct Attempt {
    /// Initiations so far.
    pub(super) count: u32,
    pub(super) retry_at: Timestamp,
    /// An initiation is to be sent.
    pub(super) is_due: bool,
    /// It waits for an answer under this number.
    pub(super) pending: Option<u32>,
    /// It was asked for a cookie, and sent again at once for that.
    pub(super) had_cookie: bool,
}

pub(super) struct Peer {
    pub(super) name: LinkName,
    pub(super) key: X25519PublicKey,
    /// What only a relay has: we can open links to it.
    pub(super) kem: Option<Box<[u8; KEM_KEY_SIZE]>>,
    pub(super) address: Option<SocketAddr>,
    /// Numbers of keys: those in use, those before, and those that no frame came under yet.
    pub(super) current: Option<u32>,
    pub(super) previous: Option<u32>,
    pub(super) next: Option<u32>,
    pub(super) attempt: Option<Attempt>,
    pub(super) cookie: Option<(Cookie, Timestamp)>,
    /// The last stamp that we took.
    pub(super) stamp: Option<Stamp>,
    pub(super) queue: VecDeque<Box<PacketBytes>>,
    pub(super) bucket: TokenBucket,
    pub(super) sent_at: Timestamp,
    pub(super) keep_alive_due: bool,
    pub(super) is_ready: bool,
    pub(super) timer: Option<Timestamp>,
    pub(super) own_id: Option<ClientId>,
}

impl Peer {
    fn new(name: LinkName, key: X25519PublicKey, rate: PacketRate, now: Timestamp) -> Self {
        Self {
            name,
            key,
            kem: None,
            address: None,
            current: None,
            previous: None,
            next: None,
            attempt: None,
            cookie: None,
            stamp: None,
            queue: VecDeque::new(),
            bucket: TokenBucket::new(rate, now),
            sent_at: now,
            keep_alive_due: false,
            is_ready: false,
            timer: None,
            own_id: None,
        }
    }

    pub(super) const fn is_client(&self) -> bool {
        matches!(self.name, LinkName::Client(_))
    }
}

impl LinkTable {
    /// Says which relays there are. Who is no longer named, or has another link key, loses its link; who has
    /// another address or ML-KEM key keeps it. We ourselves and what is above
    /// [`super::LinkConfig::relay_count_max`] are passed over, and of two with one id or one key the
    /// first counts.
    pub fn set_peers(&mut self, now: Timestamp, peers: &[LinkPeer]) {
        let mut keys = BTreeSet::from([self.identity.public_key().0]);
        let mut named = BTreeMap::new();
        for peer in peers {
            let has_room = named.len() < self.config.relay_count_max;
            if has_room && !named.contains_key(&peer.relay) && keys.insert(peer.link.0) {
                named.insert(peer.relay, peer);
            }
        }
        for slot in self.slots() {
            let stays = |peer: &Peer| match peer.name {
                LinkName::Relay(id) => named.get(&id).is_some_and(|it| it.link == peer.key),
                LinkName::Client(_) => true,
            };
            if self.peer(slot).is_some_and(|peer| !stays(peer)) {
                self.forget(slot);
            }
        }
        for peer in named.values() {
            self.set_peer(now, peer);
        }
    }

    fn set_peer(&mut self, now: Timestamp, given: &LinkPeer) {
        let slot = self.relays.get(&given.relay).unwrap_or_else(|| {
            let name = LinkName::Relay(given.relay);
            let peer = Peer::new(name, given.link, self.config.relay_rate, now);
            self.add(peer)
        });
        let keeps_open = self.keeps_open();
        if let Some(peer) = self.peer_mut(slot) {
            peer.address = Some(given.address);
            if peer.kem.as_ref() != Some(&given.kem) {
                peer.kem = Some(given.kem.clone());
            }
        }
        if keeps_open {
            self.begin(slot, now);
        }
    }

    /// The client with this key: a new one has no link and no address yet. `None` when there is no room.
    pub(super) fn client(&mut self, now: Timestamp, key: X25519PublicKey) -> Option<u32> {
        let id = self.identity.client_id(&key);
        if let Some(slot) = self.clients.get(&id) {
            return Some(slot);
        }
        let count_max = self.config.client_count_max + self.config.half_open_count_max;
        if self.clients.len() >= count_max {
            return None;
        }
        let peer = Peer::new(LinkName::Client(id), key, self.config.client_rate, now);
        Some(self.add(peer))
    }

    fn add(&mut self, peer: Peer) -> u32 {
        let slot = self.free_peers.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.heard.push(Timestamp::MAX);
            // Both counts are bounded far below.
            u32::try_from(self.peers.len() - 1).unwrap_or(u32::MAX)
        });
        match peer.name {
            LinkName::Relay(id) => {
                self.relays.insert(id, slot);
                self.relay_keys.insert(peer.key, slot);
            }
            LinkName::Client(id) => self.clients.insert(id, slot),
        }
        if let Some(room) = self.peers.get_mut(slot as usize) {
            *room = Some(peer);
        }
        slot
    }

    /// Removes a peer and all that is held for it.
    pub(super) fn forget(&mut self, slot: u32) {
        self.drop_attempt(slot);
        self.drop_next(slot);
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        for index in [peer.current, peer.previous].into_iter().flatten() {
            self.entries.remove(index);
        }
        match peer.name {
            LinkName::Relay(id) => {
                self.relays.remove(&id);
                self.relay_keys.remove(&peer.key);
            }
            LinkName::Client(id) => self.clients.remove(&id),
        }
        if let Some(at) = peer.timer {
            self.timers.remove(&(at, slot));
        }
        if peer.is_ready {
            self.ready.retain(|other| *other != slot);
        }
        self.drop_queue(&peer.queue);
        self.set_heard(slot, Timestamp::MAX);
        self.free_peers.push(slot);
    }

    /// Notes when a client was heard; the end of time for one without a link.
    pub(super) fn set_heard(&mut self, slot: u32, at: Timestamp) {
        let Some(heard) = self.heard.get_mut(slot as usize) else {
            return;
        };
        let (before, after) = (*heard < Timestamp::MAX, at < Timestamp::MAX);
        *heard = at;
        self.stats.clients -= usize::from(before && !after);
        self.stats.clients += usize::from(after && !before);
    }

    /// Lets the clients go that were idle longest, until there are as many as may be. `newest` stays.
    pub(super) fn evict_clients(&mut self, newest: u32) {
        while self.stats.clients > self.config.client_count_max {
            let slots = (0..).zip(&self.heard);
            let others = slots.filter(|(slot, _)| *slot != newest);
            let oldest = others.min_by_key(|(_, heard)| **heard);
            let Some((slot, _)) = oldest.filter(|(_, heard)| **heard < Timestamp::MAX) else {
                return;
            };
            self.forget(slot);
            self.stats.evicted += 1;
        }
    }

    pub(super) fn drop_queue(&mut self, queue: &VecDeque<Box<PacketBytes>>) {
        self.stats.queued -= queue.len();
        self.stats.dropped += queue.len() as u64;
    }

    /// Ends a handshake that we began.
    pub(super) fn drop_attempt(&mut self, slot: u32) {
        let attempt = self.peer_mut(slot).and_then(|peer| peer.attempt.take());
        if let Some(index) = attempt.and_then(|attempt| attempt.pending) {
            self.entries.remove(index);
        }
    }

    /// Removes the keys that no frame came under.
    pub(super) fn drop_next(&mut self, slot: u32) {
        let next = self.peer_mut(slot).and_then(|peer| peer.next.take());
        if let Some(index) = next {
            self.entries.remove(index);
            self.stats.half_open -= 1;
        }
    }

    /// Puts keys into use; what was in use is kept for frames under way.
    pub(super) fn promote(&mut self, slot: u32, index: u32) {
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        let before = peer.current.replace(index);
        let old = core::mem::replace(&mut peer.previous, before);
        if let Some(old) = old {
            self.entries.remove(old);
        }
    }

    pub(super) fn slots(&self) -> core::ops::Range<u32> {
        0..u32::try_from(self.peers.len()).unwrap_or(u32::MAX)
    }

    /// The keys under a number.
    pub(super) fn keys_mut(&mut self, index: Option<u32>) -> Option<&mut LinkKeys> {
        match self.entries.get_mut(index?)? {
            Entry::Keyed { keys, .. } => Some(keys),
            Entry::Pending { .. } => None,
        }
    }
}
