//! The links of a node, or of a client to its guards, sans-IO: datagrams in, packets out, and back
//! (`cepa_crypto::link` has the handshake and the keys). One table, one tile.
//!
//! A peer has up to three pairs of keys, as in `WireGuard`: those in use, those before, for frames under
//! way, and those of a handshake that we answered, which come into use with the first frame under them.
//!
//! - **Relays** come from [`LinkTable::set_peers`] and stay at the address that they have there. A link to one
//!   is opened when there is a packet for it, and ends three minutes after its last keys, which are
//!   renewed only when frames go: so one that is silent goes by itself.
//! - **Clients** come by a handshake, as many as [`LinkConfig`] says; then who was idle longest gives way.
//!   Their address is that of the newest frame. A client that lets its keys run out is forgotten, since it
//!   could not be reached; its id stays the same when it comes back.
//! - **We as a client** hold every link of the table open: renewed by time, and with a frame at least every
//!   25 s, so that a NAT keeps its mapping.
//!
//! A frame costs no allocation; a handshake a few. What strangers may cost is named by [`LinkConfig`]:
//! a link has some 6 KiB with three pairs of keys, a packet that waits for its link 1,200 bytes.

mod directory;
mod indices;
mod limits;
mod peers;
mod receive;
mod send;
mod timers;

#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use cepa_crypto::link::{CookieJar, LinkIdentity, LinkRole, Stamp};
use cepa_wire::packet::descriptor::KEM_KEY_SIZE;
use cepa_wire::packet::{ClientId, RelayId};
use cepa_wire::{Timestamp, X25519PublicKey};

use super::bucket::PacketRate;
use super::drop_reason::DropReason;
use directory::{Directory, Keyed};
use indices::Indices;
use limits::HandshakeLimits;
use peers::{Entry, Peer};

/// Packets that wait for one link. An answer in fragments, or a burst of several clients.
pub const QUEUE_COUNT_MAX: usize = 32;
/// The pause after the first initiation; each later one is twice as long. A lost datagram shall not cost
/// more than a client's patience, and no path takes a second.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Initiations before we give up, and drop what waits: after 1 + 2 + 4 + 8 + 16 seconds nobody waits any
/// more.
pub const ATTEMPT_COUNT_MAX: u32 = 5;
/// The share of a pause that is added at random, so that peers do not meet again and again.
const JITTER_PERMILLE: u64 = 300;
/// How long we keep the keys of a handshake that we answered, and no frame came. The initiator's first
/// frame comes at once.
pub const HALF_OPEN_MAX: Duration = Duration::from_secs(10);
/// The longest silence of a client: NATs forget a mapping of UDP after 30 seconds (RFC 4787 asks for two
/// minutes, and few keep to it).
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(25);

/// Bounds of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Relays: the network has some 2,000 nodes.
    pub relay_count_max: usize,
    /// Clients with a link: at 6 KiB, a hundred MiB.
    pub client_count_max: usize,
    /// Handshakes that were answered, and no frame came.
    pub half_open_count_max: usize,
    /// Packets that wait for a link, in all: some 10 MiB.
    pub queued_count_max: usize,
    /// Handshakes that are answered without a cookie; with one, four times as many. Each takes a third
    /// of a millisecond.
    pub handshake_rate: PacketRate,
    /// Packets that a relay may send us.
    pub relay_rate: PacketRate,
    /// Packets that a client may send us.
    pub client_rate: PacketRate,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let rate = |per_second, burst| PacketRate { per_second, burst };
        Self {
            relay_count_max: 4096,
            client_count_max: 16_384,
            half_open_count_max: 1024,
            queued_count_max: 8192,
            handshake_rate: rate(200, 200),
            relay_rate: rate(100_000, 50_000),
            client_rate: rate(200, 1000),
        }
    }
}

/// Whom a link leads to. It may name a client, so it has no `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkName {
    /// A relay of the view.
    Relay(RelayId),
    /// A client of ours.
    Client(ClientId),
}

/// A relay that links may be opened to and come from.
#[derive(Clone)]
pub struct LinkPeer {
    /// Its id.
    pub relay: RelayId,
    /// The link key of its descriptor.
    pub link: X25519PublicKey,
    /// The ML-KEM key of its descriptor.
    pub kem: Box<[u8; KEM_KEY_SIZE]>,
    /// Where it takes datagrams.
    pub address: SocketAddr,
}

/// What a datagram was. No `Debug`: it may name a client.
#[derive(Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It holds a packet, open, in this range. The first frame under new keys may be one.
    Packet {
        /// Who sent it.
        link: LinkName,
        /// Where in the datagram the packet is.
        range: Range<usize>,
    },
    /// So many bytes of the datagram were overwritten with what goes back to its sender.
    Reply {
        /// Bytes.
        size: usize,
    },
    /// A handshake is done; what waited is for [`LinkTable::poll_transmit`].
    Established {
        /// With whom.
        link: LinkName,
    },
    /// It was for the link itself.
    Taken,
    /// It went no further.
    Dropped(DropReason),
}

/// What became of a packet for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// The datagram is ready for this address.
    To(SocketAddr),
    /// It waits for the handshake, which [`LinkTable::poll_transmit`] begins, and comes out there.
    Queued,
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of it.
    pub size: usize,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Messages of handshakes that Diffie-Hellmans were computed for, since the start.
    pub computed: u64,
    /// Cookies that were asked for, since the start.
    pub cookies: u64,
    /// Handshakes that were given up, since the start.
    pub given_up: u64,
    /// Packets that waited for a link to a relay, and were sent, since the start.
    pub sent_to_relays: u64,
    /// Packets that waited for a link to a client, and were sent, since the start.
    pub sent_to_clients: u64,
    /// Packets that waited for a link and were dropped with it, since the start: of the reason
    /// [`DropReason::LinkNotReady`].
    pub dropped: u64,
    /// Clients that gave way to others, since the start.
    pub evicted: u64,
    /// Handshakes that were answered, and no frame came yet.
    pub half_open: usize,
    /// Packets that wait.
    pub queued: usize,
    /// Clients with a link.
    pub clients: usize,
}

/// Fills its argument with random bytes.
type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// All links of one tile.
pub struct LinkTable {
    config: LinkConfig,
    identity: LinkIdentity,
    random: Random,
    keyed: Keyed,
    jar: CookieJar,
    limits: HandshakeLimits,
    entries: Indices<Entry>,
    peers: Vec<Option<Peer>>,
    free_peers: Vec<u32>,
    /// When each client with a link was last heard; the end of time for all others.
    heard: Vec<Timestamp>,
    relays: Directory<RelayId>,
    relay_keys: Directory<X25519PublicKey>,
    clients: Directory<ClientId>,
    /// Peers that may have something to send, each once.
    ready: VecDeque<u32>,
    timers: BTreeSet<(Timestamp, u32)>,
    last_stamp: Stamp,
    stats: LinkStats,
}

impl LinkTable {
    /// A table without peers. `random` fills its argument with random bytes.
    pub fn new(
        config: LinkConfig,
        identity: LinkIdentity,
        now: Timestamp,
        mut random: impl FnMut(&mut [u8]) + Send + 'static,
    ) -> Self {
        let (mut key, mut cookies) = ([0; 16], [0; 64]);
        random(&mut key);
        random(&mut cookies);
        let keyed = Keyed(key);
        let peer_count = config.relay_count_max + config.client_count_max;
        // Three pairs of keys a peer, and one handshake of ours.
        let entry_count = 4 * peer_count + config.half_open_count_max;
        Self {
            limits: HandshakeLimits::new(config.handshake_rate, now),
            jar: CookieJar::new(now, cookies),
            entries: Indices::new(entry_count),
            peers: Vec::new(),
            free_peers: Vec::new(),
            heard: Vec::new(),
            relays: Directory::new(config.relay_count_max, keyed),
            relay_keys: Directory::new(config.relay_count_max, keyed),
            clients: Directory::new(config.client_count_max, keyed),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            last_stamp: Stamp(0),
            stats: LinkStats::default(),
            random: Box::new(random),
            config,
            identity,
            keyed,
        }
    }

    /// Our keys.
    pub const fn identity(&self) -> &LinkIdentity {
        &self.identity
    }

    /// Numbers for metrics.
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Pairs of keys and begun handshakes that are held.
    pub fn entry_count(&self) -> usize {
        self.entries.count()
    }

    /// Relays that packets go to at once.
    pub fn linked_relay_count(&self) -> usize {
        let peers = self.peers.iter().flatten();
        let linked = peers.filter(|peer| peer.current.is_some());
        linked
            .filter(|peer| matches!(peer.name, LinkName::Relay(_)))
            .count()
    }

    /// Whether packets for this link go at once.
    pub fn is_linked(&self, name: LinkName) -> bool {
        let peer = self.find(name).and_then(|slot| self.peer(slot));
        peer.is_some_and(|peer| peer.current.is_some())
    }

    /// Our id at this guard, once there was a link to it. For a client's table.
    pub fn own_id_at(&self, guard: RelayId) -> Option<ClientId> {
        self.peer(self.find(LinkName::Relay(guard))?)?.own_id
    }

    /// Whether links are held open though nothing is sent.
    fn keeps_open(&self) -> bool {
        self.identity.role() == LinkRole::Client
    }

    fn find(&self, name: LinkName) -> Option<u32> {
        match name {
            LinkName::Relay(id) => self.relays.get(&id),
            LinkName::Client(id) => self.clients.get(&id),
        }
    }

    fn peer(&self, slot: u32) -> Option<&Peer> {
        self.peers.get(slot as usize)?.as_ref()
    }

    fn peer_mut(&mut self, slot: u32) -> Option<&mut Peer> {
        self.peers.get_mut(slot as usize)?.as_mut()
    }

    fn draw<const SIZE: usize>(&mut self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        (self.random)(&mut bytes);
        bytes
    }
}
